//! Where objects of files are, so that what changed is told by the files that changed.
//!
//! Only what is simple is told so: files of good objects, each in one place, of which there is nothing to tell. With
//! anything else everything is looked through.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::document::Outcome;
use super::file::FileRead;
use super::files::Found;
use crate::api::{Key, Object};

/// What the last pass has found.
pub(super) struct Index {
    reads: HashMap<Arc<PathBuf>, Arc<FileRead>>,
    /// The file of each good object.
    files: HashMap<Key, Arc<PathBuf>>,
    /// Objects that are refused somewhere.
    refused: HashSet<Key>,
}

/// A file that is not what it was: before, and now.
struct Changed<'f> {
    path: Arc<PathBuf>,
    before: Option<Arc<FileRead>>,
    now: Option<&'f Arc<FileRead>>,
}

impl Index {
    /// `None` if an object is in two places.
    pub(super) fn of(found: &[Found]) -> Option<Self> {
        let mut index = Self { reads: HashMap::new(), files: HashMap::new(), refused: HashSet::new() };
        for found in found {
            let Found::File(path, read) = found else { return None };
            for outcome in &read.outcomes {
                match outcome {
                    Outcome::Object(object, _) => {
                        if index.files.insert(object.key.clone(), Arc::clone(path)).is_some() {
                            return None;
                        }
                    }
                    Outcome::Refused(key, _) => drop(index.refused.insert(key.clone())),
                    Outcome::Skipped(_) | Outcome::Unreadable(_) => {}
                }
            }
            index.reads.insert(Arc::clone(path), Arc::clone(read));
        }
        Some(index)
    }

    /// The next index, all objects of the files that changed, and which objects are nowhere any more; `None` if that
    /// cannot be told from these files alone.
    pub(super) fn advance(mut self, found: &[Found]) -> Option<(Self, Vec<Arc<Object>>, Vec<Key>)> {
        let changed = self.changed(found)?;
        let paths: HashSet<_> = changed.iter().map(|changed| &changed.path).collect();
        let (mut gone, mut objects) = (HashSet::new(), Vec::new());
        for Changed { before, now, .. } in &changed {
            gone.extend(plain(before.as_ref())?.map(|object| object.key.clone()));
            objects.extend(plain(*now)?);
        }
        let mut seen = HashSet::new();
        for object in &objects {
            let elsewhere = self.files.get(&object.key).is_some_and(|path| !paths.contains(path));
            if elsewhere || !seen.insert(&object.key) || self.refused.contains(&object.key) {
                return None;
            }
        }
        if gone.iter().any(|key| self.refused.contains(key)) {
            return None;
        }
        gone.iter().for_each(|key| drop(self.files.remove(key)));
        for Changed { path, now, .. } in &changed {
            match now {
                Some(now) => drop(self.reads.insert(Arc::clone(path), Arc::clone(now))),
                None => drop(self.reads.remove(path)),
            }
            for object in plain(*now)? {
                self.files.insert(object.key.clone(), Arc::clone(path));
            }
        }
        let removed = gone.into_iter().filter(|key| !seen.contains(key)).collect();
        let objects = objects.iter().map(|object| Arc::clone(object)).collect();
        Some((self, objects, removed))
    }

    fn changed<'f>(&self, found: &'f [Found]) -> Option<Vec<Changed<'f>>> {
        let (mut changed, mut met) = (Vec::new(), 0);
        for found in found {
            let Found::File(path, now) = found else { return None };
            let before = self.reads.get(path);
            met += usize::from(before.is_some());
            if before.is_none_or(|before| !Arc::ptr_eq(before, now)) {
                changed.push(Changed { path: Arc::clone(path), before: before.cloned(), now: Some(now) });
            }
        }
        if met < self.reads.len() {
            let here = |found: &'f Found| match found {
                Found::File(path, _) => Some(path),
                Found::Told(_) => None,
            };
            let here: HashSet<_> = found.iter().filter_map(here).collect();
            let left = self.reads.iter().filter(|(path, _)| !here.contains(path));
            changed.extend(left.map(|(path, read)| Changed {
                path: Arc::clone(path),
                before: Some(Arc::clone(read)),
                now: None,
            }));
        }
        Some(changed)
    }
}

/// The objects of a file that has nothing but good ones, of which there is nothing to tell.
fn plain<'r>(read: Option<&'r Arc<FileRead>>) -> Option<impl Iterator<Item = &'r Arc<Object>>> {
    let outcomes = read.map(|read| read.outcomes.as_slice()).unwrap_or_default();
    let object = |outcome: &'r Outcome| match outcome {
        Outcome::Object(object, problems) if problems.is_empty() => Some(object),
        _ => None,
    };
    outcomes.iter().all(|outcome| object(outcome).is_some()).then(|| outcomes.iter().filter_map(object))
}
