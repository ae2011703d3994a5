//! What a source holds at one moment, and what changed since another.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// What one look at everything that is followed has shown.
#[derive(Debug)]
pub(super) enum Pass {
    Whole(Loaded),
    Part(Part),
}

/// What changed since the last look, of which there is nothing to tell.
#[derive(Debug)]
pub(super) struct Part {
    /// Objects that may be new or different.
    pub(super) objects: Vec<Arc<Object>>,
    pub(super) removed: Vec<Key>,
    pub(super) revision: u64,
}

/// An object whose latest version cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub key: Key,
    /// Why; also among all problems.
    pub problem: Problem,
}

/// What is wrong with everything that a source holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Objects whose latest version cannot be used, and why; also among the problems.
    pub refused: BTreeMap<Key, Arc<Problem>>,
    /// Everything wrong or worth knowing.
    pub problems: Vec<Arc<Problem>>,
}

/// The difference between two moments of a source.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New objects and new versions, in the order they were found.
    pub upserted: Vec<Object>,
    pub removed: Vec<Key>,
    /// All that is wrong, not only what is new. Shared, since there may be much of it and changes come often.
    pub findings: Arc<Findings>,
    /// Whether that is other than before.
    pub retold: bool,
    /// Problems that were not there before.
    pub news: Vec<Arc<Problem>>,
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
    findings: Arc<Findings>,
    revision: u64,
}

impl Held {
    pub(super) fn take(&mut self, pass: Pass) -> Option<Change> {
        match pass {
            Pass::Whole(loaded) => self.update(loaded),
            Pass::Part(part) => self.advance(part),
        }
    }

    fn advance(&mut self, part: Part) -> Option<Change> {
        let Part { objects, mut removed, revision } = part;
        removed.retain(|key| self.objects.remove(key).is_some());
        removed.sort();
        let mut upserted = Vec::new();
        for object in objects {
            let entry = (object.hash, object.origin.file.clone());
            let known = self.objects.insert(object.key.clone(), entry);
            if known.is_none_or(|(hash, _)| hash != object.hash) {
                upserted.push(Arc::unwrap_or_clone(object));
            }
        }
        let revised = std::mem::replace(&mut self.revision, revision) != revision;
        let findings = Arc::clone(&self.findings);
        let change = Change { upserted, removed, findings, retold: false, news: Vec::new(), revision };
        (revised || !change.is_empty()).then_some(change)
    }

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
        let revised = std::mem::replace(&mut self.revision, loaded.revision) != loaded.revision;
        let (mut retold, mut news) = (false, Vec::new());
        let findings = Findings::new(loaded.refused, loaded.problems);
        if findings != *self.findings {
            let known: HashSet<_> = self.findings.problems.iter().collect();
            news = findings.problems.iter().filter(|problem| !known.contains(problem)).cloned().collect();
            (self.findings, retold) = (Arc::new(findings), true);
        }
        let (findings, revision) = (Arc::clone(&self.findings), loaded.revision);
        let change = Change { upserted, removed, findings, retold, news, revision };
        (revised || !change.is_empty()).then_some(change)
    }
}

impl Findings {
    fn new(refused: Vec<Refusal>, problems: Vec<Problem>) -> Self {
        Self {
            refused: refused.into_iter().map(|Refusal { key, problem }| (key, Arc::new(problem))).collect(),
            problems: problems.into_iter().map(Arc::new).collect(),
        }
    }
}

impl From<Loaded> for Change {
    /// The change from nothing.
    fn from(loaded: Loaded) -> Self {
        let findings = Findings::new(loaded.refused, loaded.problems);
        Self {
            upserted: loaded.objects.into_iter().map(Arc::unwrap_or_clone).collect(),
            removed: Vec::new(),
            retold: !findings.problems.is_empty(),
            news: findings.problems.clone(),
            findings: Arc::new(findings),
            revision: loaded.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_news_once() {
        let mut held = Held::default();
        let mut update = |messages: &[&str]| {
            let problems = messages.iter().map(|message| Problem::error("spec", *message)).collect();
            let change = held.update(Loaded { problems, ..Loaded::default() })?;
            let news: Vec<String> = change.news.iter().map(|problem| problem.message.clone()).collect();
            Some((news, change.findings.problems.len(), change.retold))
        };
        let news =
            |messages: &[&str]| messages.iter().map(|message| (*message).to_owned()).collect::<Vec<_>>();
        assert_eq!(update(&["a"]), Some((news(&["a"]), 1, true)));
        assert_eq!(update(&["a"]), None);
        assert_eq!(update(&["a", "b"]), Some((news(&["b"]), 2, true)));
        assert_eq!(update(&["b"]), Some((news(&[]), 1, true)));
    }
}
