//! What a source holds at one moment, and what changed since another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::{Key, Object};
use crate::problem::Problem;

/// Everything a source holds, after one pass over it.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Good objects, one per key, in the order they were found.
    pub objects: Vec<Arc<Object>>,
    /// Objects that cannot be used as they are.
    pub refused: Vec<Refusal>,
    /// Files with a document whose object cannot even be named; nothing of them counts as removed.
    pub unreadable: BTreeSet<Arc<PathBuf>>,
    /// Everything wrong or worth knowing, in order of files and lines.
    pub problems: Vec<Problem>,
    /// How far the writer of a followed folder had come before anything else was read; see [`super::REVISION_FILE`].
    pub revision: u64,
    /// A file is still being read: this is what it gave before, and the revision is not reached yet.
    pub is_behind: bool,
}

/// An object whose latest version cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub key: Key,
    /// Why; also among all problems.
    pub problem: Problem,
}

/// The difference between two moments of a source.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New objects and new versions, in the order they were found.
    pub upserted: Vec<Object>,
    pub removed: Vec<Key>,
    /// All objects whose latest version cannot be used, not only new ones.
    pub refused: Vec<Refusal>,
    /// All problems of the source, not only new ones.
    pub problems: Vec<Problem>,
    /// Whether the problems are others than before.
    pub retold: bool,
    /// The writer's revision that this change brings the reader up to; zero where nobody counts.
    pub revision: u64,
}

impl Change {
    /// Whether it tells of nothing but that the writer's revision has been read.
    pub fn is_empty(&self) -> bool {
        self.upserted.is_empty() && self.removed.is_empty() && !self.retold
    }
}

/// What a source held last, as far as comparing needs it.
#[derive(Debug, Default)]
pub(super) struct Held {
    objects: BTreeMap<Key, (u64, Option<Arc<PathBuf>>)>,
    problems: Vec<Problem>,
    revision: u64,
}

impl Held {
    /// Takes in a new load and returns what changed; `None` when nothing did, problems and revision included.
    pub(super) fn update(&mut self, mut loaded: Loaded) -> Option<Change> {
        if loaded.is_behind {
            loaded.revision = self.revision;
        }
        let mut kept = BTreeMap::new();
        let mut upserted = Vec::new();
        for object in loaded.objects {
            let known = self.objects.get(&object.key).is_some_and(|(hash, _)| *hash == object.hash);
            kept.insert(object.key.clone(), (object.hash, object.origin.file.clone()));
            if !known {
                upserted.push(Arc::unwrap_or_clone(object));
            }
        }
        let refused: BTreeSet<&Key> = loaded.refused.iter().map(|refusal| &refusal.key).collect();
        let mut removed = Vec::new();
        for (key, (hash, file)) in std::mem::take(&mut self.objects) {
            if kept.contains_key(&key) {
                continue;
            }
            let stays =
                refused.contains(&key) || file.as_ref().is_some_and(|f| loaded.unreadable.contains(f));
            if stays {
                kept.insert(key, (hash, file));
            } else {
                removed.push(key);
            }
        }
        self.objects = kept;
        let retold = self.problems != loaded.problems;
        self.problems.clone_from(&loaded.problems);
        let revised = std::mem::replace(&mut self.revision, loaded.revision) != loaded.revision;
        let (refused, problems, revision) = (loaded.refused, loaded.problems, loaded.revision);
        let change = Change { upserted, removed, refused, problems, retold, revision };
        (revised || !change.is_empty()).then_some(change)
    }
}

impl From<Loaded> for Change {
    /// The change from nothing.
    fn from(loaded: Loaded) -> Self {
        Self {
            upserted: loaded.objects.into_iter().map(Arc::unwrap_or_clone).collect(),
            removed: Vec::new(),
            refused: loaded.refused,
            retold: !loaded.problems.is_empty(),
            problems: loaded.problems,
            revision: loaded.revision,
        }
    }
}
