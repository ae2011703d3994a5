//! Objects from files: YAML with any number of documents, or JSON.
//!
//! Each document is read alone: what is wrong with one costs no other. Sizes are bounded before anything is parsed,
//! and the parser bounds what aliases may expand to. What a file gave is kept while the file is the same, so a change
//! costs what it changed and not what there is.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::aside::{Aside, LARGE};
use super::change::{Loaded, Part, Pass, Refusal};
use super::document::Outcome;
use super::file::FileRead;
use super::index::Index;
use super::kept::{Kept, now};
use crate::api::{Key, Object};
use crate::problem::Problem;

/// How deep folders are followed; also ends loops of symbolic links.
const MAX_FOLDERS: usize = 16;

/// A file in a followed folder with a number that whoever writes there raises after each change. What is in effect is
/// then known by number ([`Loaded::revision`]), so that a writer can wait for its own change and no other.
pub const REVISION_FILE: &str = ".revision";

/// Loads files, and folders with everything in them that ends in `.yaml`, `.yml` or `.json`.
///
/// Folders are read in order of names; names that start with a dot are left out. Of several objects with one key the
/// last counts.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let mut loader = Loader::default();
    for path in paths {
        loader.load_path(path, 0);
    }
    loader.take_all();
    loader.finish()
}

/// Loads one text as if it were a file; for admission and for tests.
pub fn load_text(file: &Path, text: &str) -> Loaded {
    let mut loader = Loader::default();
    let file = Arc::new(file.to_owned());
    loader.take_file(&file, &FileRead::of(&file, text, now(), None));
    loader.finish()
}

type Files = HashMap<Arc<PathBuf>, Kept>;

/// Loads the same paths again and again.
#[derive(Default)]
pub(super) struct Reader {
    kept: Files,
    aside: Option<Aside>,
    last: Option<Index>,
}

impl Reader {
    /// From now on large files are left to a thread of their own, which sends to `wake` when there is something to load.
    pub(super) fn leave_large_files(&mut self, wake: SyncSender<()>) -> io::Result<()> {
        self.aside = Some(Aside::start(wake)?);
        Ok(())
    }

    /// One pass over all paths. Files that are as they were are not looked into, unless they may have to do with one that
    /// is not.
    pub(super) fn pass(&mut self, paths: &[PathBuf]) -> Pass {
        let mut before = std::mem::take(&mut self.kept);
        before.extend(self.aside.iter().flat_map(Aside::finished));
        let mut loader = Loader { before, aside: self.aside.as_ref(), ..Loader::default() };
        for path in paths {
            loader.load_path(path, 0);
        }
        self.kept = std::mem::take(&mut loader.kept);
        let part =
            self.last.take().filter(|_| loader.is_plain()).and_then(|last| last.advance(&loader.found));
        if let Some((index, objects, removed)) = part {
            self.last = Some(index);
            return Pass::Part(Part { objects, removed, revision: loader.loaded.revision });
        }
        loader.take_all();
        self.last = loader.is_plain().then(|| Index::of(&loader.found)).flatten();
        Pass::Whole(loader.finish())
    }

    /// All that there is.
    #[cfg(test)]
    pub(super) fn load(&mut self, paths: &[PathBuf]) -> Loaded {
        self.last = None;
        match self.pass(paths) {
            Pass::Whole(loaded) => loaded,
            Pass::Part(_) => unreachable!("nothing is known of a pass before"),
        }
    }
}

/// What one pass has found, in order.
pub(super) enum Found {
    File(Arc<PathBuf>, Arc<FileRead>),
    Told(Problem),
}

#[derive(Default)]
struct Loader<'a> {
    loaded: Loaded,
    found: Vec<Found>,
    /// Where in `loaded.objects` a key is.
    places: HashMap<Key, usize>,
    /// Files as they were read last, less those that have been come across.
    before: Files,
    kept: Files,
    aside: Option<&'a Aside>,
}

impl Loader<'_> {
    /// Whether every file was read, and nothing is to be told of folders.
    fn is_plain(&self) -> bool {
        self.loaded.unreadable.is_empty()
            && !self.loaded.is_behind
            && self.found.iter().all(|found| matches!(found, Found::File(..)))
    }

    fn take_all(&mut self) {
        for found in std::mem::take(&mut self.found) {
            match &found {
                Found::File(path, read) => self.take_file(path, read),
                Found::Told(problem) => self.loaded.problems.push(problem.clone()),
            }
            self.found.push(found);
        }
    }

    /// A path the user named (depth 0) is read whatever its name; below, only what looks like a manifest.
    fn load_path(&mut self, path: &Path, depth: usize) {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.load_folder(path, depth),
            // Opening anything but a file there, such as a pipe, could take for ever.
            Ok(meta) if depth == 0 || (is_manifest(path) && meta.is_file()) => self.load_file(path, &meta),
            Ok(_) => {}
            // Gone between listing and reading: the next event tells.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.cannot_read(path, &error),
        }
    }

    fn load_folder(&mut self, path: &Path, depth: usize) {
        if depth >= MAX_FOLDERS {
            let message = format!("more than {MAX_FOLDERS} folders deep; not read");
            return self.tell(path, Problem::warning("", message));
        }
        // Before the objects: they are then at least as new as it says.
        self.loaded.revision = self.loaded.revision.max(revision_in(path));
        let listing = std::fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        match listing {
            Ok(mut names) => {
                names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
                names.sort_unstable();
                names.iter().for_each(|name| self.load_path(&path.join(name), depth + 1));
            }
            Err(error) => self.cannot_read(path, &error),
        }
    }

    fn load_file(&mut self, path: &Path, meta: &Metadata) {
        let path = Arc::new(path.to_owned());
        let kept = match (self.before.remove(&path), self.aside) {
            (Some(kept), _) if kept.holds(meta) => kept,
            (before, Some(aside)) if meta.len() > LARGE => {
                self.loaded.is_behind = true;
                aside.want(&path, meta.len(), before.clone());
                let Some(before) = before else {
                    self.loaded.unreadable.insert(path);
                    return;
                };
                before
            }
            (before, _) => Kept::read(&path, before.as_ref()),
        };
        self.found.push(Found::File(Arc::clone(&path), Arc::clone(&kept.read)));
        self.kept.insert(path, kept);
    }

    fn take_file(&mut self, path: &Arc<PathBuf>, read: &FileRead) {
        for outcome in &read.outcomes {
            match outcome {
                Outcome::Object(object, problems) => {
                    self.loaded.problems.extend_from_slice(problems);
                    self.take_object(object);
                }
                Outcome::Refused(key, problem) => {
                    self.loaded.problems.push(problem.clone());
                    self.loaded.refused.push(Refusal { key: key.clone(), problem: problem.clone() });
                }
                Outcome::Skipped(problem) => self.loaded.problems.extend(problem.clone()),
                Outcome::Unreadable(problem) => {
                    self.loaded.unreadable.insert(Arc::clone(path));
                    self.loaded.problems.push(problem.clone());
                }
            }
        }
    }

    fn take_object(&mut self, object: &Arc<Object>) {
        let objects = &mut self.loaded.objects;
        match self.places.get(&object.key) {
            None => {
                self.places.insert(object.key.clone(), objects.len());
                objects.push(Arc::clone(object));
            }
            Some(&place) => {
                let message = format!("written again at {:?}; the last one counts", object.origin);
                let earlier = std::mem::replace(&mut objects[place], Arc::clone(object));
                self.loaded.problems.push(earlier.blame(Problem::warning("", message)));
            }
        }
    }

    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        self.loaded.unreadable.insert(Arc::new(path.to_owned()));
        self.tell(path, Problem::error("", format!("cannot be read: {error}")));
    }

    fn tell(&mut self, path: &Path, problem: Problem) {
        self.found.push(Found::Told(Problem { file: Some(Arc::new(path.to_owned())), ..problem }));
    }

    /// An object refused in one place and good in another is good.
    fn finish(mut self) -> Loaded {
        self.loaded.refused.retain(|refusal| !self.places.contains_key(&refusal.key));
        self.loaded
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn revision_in(folder: &Path) -> u64 {
    let text = std::fs::read_to_string(folder.join(REVISION_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}
