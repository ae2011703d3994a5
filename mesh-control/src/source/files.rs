//! Objects from files: YAML with any number of documents, or JSON.
//!
//! Each document is read alone: what is wrong with one costs no other. Sizes are bounded before anything is parsed,
//! and the parser bounds what aliases may expand to.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::change::{Loaded, Refusal};
use super::document::{Outcome, read_document};
use crate::api::{Key, Object, Origin};
use crate::problem::Problem;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// The most documents of one load.
const MAX_DOCUMENTS: usize = 10_000;
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
    let mut loader = Loader::new();
    for path in paths {
        loader.load_path(path, 0);
    }
    loader.finish()
}

/// Loads one text as if it were a file; for admission and for tests.
pub fn load_text(file: &Path, text: &str) -> Loaded {
    let mut loader = Loader::new();
    loader.load_text(&Arc::new(file.to_owned()), text);
    loader.finish()
}

struct Loader {
    loaded: Loaded,
    /// Where in `loaded.objects` a key is.
    places: BTreeMap<Key, usize>,
    documents: usize,
    now: i64,
}

impl Loader {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self { loaded: Loaded::default(), places: BTreeMap::new(), documents: 0, now }
    }

    /// A path the user named (depth 0) is read whatever its name; below, only what looks like a manifest.
    fn load_path(&mut self, path: &Path, depth: usize) {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.load_folder(path, depth),
            Ok(meta) if depth == 0 || is_manifest(path) => self.load_file(path, &meta),
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
        let listing = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>());
        match listing {
            Ok(mut entries) => {
                entries.retain(|entry| !is_hidden(entry));
                entries.sort();
                entries.iter().for_each(|entry| self.load_path(entry, depth + 1));
            }
            Err(error) => self.cannot_read(path, &error),
        }
    }

    fn load_file(&mut self, path: &Path, meta: &Metadata) {
        if meta.len() > MAX_FILE {
            let message = format!("larger than {} MiB; not read", MAX_FILE / 1024 / 1024);
            self.loaded.unreadable.insert(Arc::new(path.to_owned()));
            return self.tell(path, Problem::error("", message).with_fix("split it into several files"));
        }
        match read_bounded(path) {
            Ok(text) => self.load_text(&Arc::new(path.to_owned()), &text),
            Err(error) => self.cannot_read(path, &error),
        }
    }

    fn load_text(&mut self, file: &Arc<PathBuf>, text: &str) {
        for chunk in documents(text) {
            self.documents += 1;
            if self.documents > MAX_DOCUMENTS {
                if self.documents == MAX_DOCUMENTS + 1 {
                    let message = format!("more than {MAX_DOCUMENTS} documents; the rest is not read");
                    self.tell(file, Problem::error("", message));
                }
                self.loaded.unreadable.insert(Arc::clone(file));
                return;
            }
            self.load_document(file, &chunk);
        }
    }

    fn load_document(&mut self, file: &Arc<PathBuf>, chunk: &Chunk<'_>) {
        match parse(chunk) {
            Ok(Value::Null) => {}
            Ok(document) => {
                let origin =
                    Origin { file: Some(Arc::clone(file)), line: chunk.line, text: chunk.text.into() };
                self.take_document(&document, origin);
            }
            Err(problem) => {
                self.loaded.unreadable.insert(Arc::clone(file));
                self.loaded.problems.push(Problem { file: Some(Arc::clone(file)), ..problem });
            }
        }
    }

    fn take_document(&mut self, document: &Value, origin: Origin) {
        let is_list = document.get("kind").and_then(Value::as_str) == Some("List");
        let Some(items) = document.get("items").and_then(Value::as_array).filter(|_| is_list) else {
            return self.take(read_document(document, origin, self.now));
        };
        for (index, item) in items.iter().enumerate() {
            let line = origin.line_of(&format!("items[{index}]")).unwrap_or(origin.line);
            let origin = Origin { file: origin.file.clone(), line, text: Arc::default() };
            self.take(read_document(item, origin, self.now));
        }
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Object(object, problems) => {
                self.loaded.problems.extend(problems);
                self.take_object(*object);
            }
            Outcome::Refused(key, problem) => {
                self.loaded.problems.push(problem.clone());
                self.loaded.refused.push(Refusal { key, problem });
            }
            Outcome::Skipped(problem) => self.loaded.problems.extend(problem),
            Outcome::Unreadable(problem) => {
                self.loaded.unreadable.extend(problem.file.clone());
                self.loaded.problems.push(problem);
            }
        }
    }

    fn take_object(&mut self, object: Object) {
        let objects = &mut self.loaded.objects;
        match self.places.get(&object.key) {
            None => {
                self.places.insert(object.key.clone(), objects.len());
                objects.push(object);
            }
            Some(&place) => {
                let message = format!("written again at {:?}; the last one counts", object.origin);
                let earlier = std::mem::replace(&mut objects[place], object);
                self.loaded.problems.push(earlier.blame(Problem::warning("", message)));
            }
        }
    }

    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        self.loaded.unreadable.insert(Arc::new(path.to_owned()));
        self.tell(path, Problem::error("", format!("cannot be read: {error}")));
    }

    fn tell(&mut self, path: &Path, problem: Problem) {
        self.loaded.problems.push(Problem { file: Some(Arc::new(path.to_owned())), ..problem });
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

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Reads no more than [`MAX_FILE`] even if the file grows meanwhile or is a device.
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// One document of a file, from its first line with content.
struct Chunk<'t> {
    /// Of the first line, from 1.
    line: u32,
    text: &'t str,
}

/// Cuts a text at document markers, so that a mistake in one document does not reach the next.
fn documents(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut first_line = 1;
    let mut offset = 0;
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        if is_marker(line) {
            chunks.extend(chunk(&text[start..offset], first_line));
            // What follows the marker on its line is part of the document.
            start = offset + 3;
            first_line = number;
        }
        offset += line.len();
    }
    chunks.extend(chunk(&text[start..], first_line));
    chunks
}

fn revision_in(folder: &Path) -> u64 {
    let text = read_bounded(&folder.join(REVISION_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Drops leading lines without content; `None` if there is no other.
fn chunk(text: &str, first_line: u32) -> Option<Chunk<'_>> {
    let mut offset = 0;
    for (line, content) in (first_line..).zip(text.split_inclusive('\n')) {
        let trimmed = content.trim();
        if !trimmed.is_empty() && !trimmed.starts_with('#') && !content.starts_with('%') {
            return Some(Chunk { line, text: &text[offset..] });
        }
        offset += content.len();
    }
    None
}

fn parse(chunk: &Chunk<'_>) -> Result<Value, Problem> {
    parse_yaml(chunk.text).map_err(|InvalidYaml { line, message }| Problem {
        line: Some(chunk.line + line),
        ..Problem::error("", message)
    })
}

/// Why a text is not YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidYaml {
    /// Lines before the mistake.
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// Reads one document of YAML, of which JSON is a part; what is empty is null.
///
/// Words like `yes` and `on` are strings, as in YAML 1.2. The parser's budgets bound depth, size and aliases.
pub(crate) fn parse_yaml(text: &str) -> Result<Value, InvalidYaml> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line().saturating_sub(1));
        let rendered = error.to_string();
        let message = rendered.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message).trim_start_matches("error: ");
        InvalidYaml {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            message: format!("not valid YAML: {message}"),
        }
    })
}
