//! One file: from its text to what its documents are.
//!
//! Documents are cut apart before anything is parsed, so that what is wrong with one costs no other. Nothing here looks
//! at other files, so what a file gave holds as long as the file is the same, and what a document gave as long as it is the
//! same in the same place.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Outcome, read_document};
use crate::api::Origin;
use crate::problem::Problem;

/// The most documents of one file.
const MAX_DOCUMENTS: usize = 10_000;

/// What a file gave, in the order of its documents.
#[derive(Debug, Default)]
pub(super) struct FileRead {
    pub(super) outcomes: Vec<Outcome>,
    /// By line and hash of each document, which of them are its own.
    documents: HashMap<(u32, u64), Range<usize>>,
}

impl FileRead {
    /// A file of which nothing could be read.
    pub(super) fn failed(problem: Problem) -> Self {
        Self { outcomes: vec![Outcome::Unreadable(problem)], documents: HashMap::new() }
    }

    /// Reads a text, but for documents that were there before. `now` stands in for missing creation times, in seconds since
    /// 1970.
    pub(super) fn of(file: &Arc<PathBuf>, text: &str, now: i64, before: Option<&Self>) -> Self {
        let mut read = Self::default();
        for (number, chunk) in documents(text).iter().enumerate() {
            if number == MAX_DOCUMENTS {
                let message = format!("more than {MAX_DOCUMENTS} documents; the rest is not read");
                read.unreadable(file, Problem::error("", message));
                break;
            }
            let (place, begin) = ((chunk.line, xxh3_64(chunk.text.as_bytes())), read.outcomes.len());
            match before.and_then(|before| before.outcomes.get(before.documents.get(&place)?.clone())) {
                Some(known) => read.outcomes.extend_from_slice(known),
                None => read.document(file, chunk, now),
            }
            read.documents.insert(place, begin..read.outcomes.len());
        }
        read
    }

    fn document(&mut self, file: &Arc<PathBuf>, chunk: &Chunk<'_>, now: i64) {
        match parse(chunk) {
            Ok(Value::Null) => {}
            Ok(document) => {
                let origin =
                    Origin { file: Some(Arc::clone(file)), line: chunk.line, text: chunk.text.into() };
                self.objects(&document, origin, now);
            }
            Err(problem) => self.unreadable(file, problem),
        }
    }

    fn objects(&mut self, document: &Value, origin: Origin, now: i64) {
        let is_list = document.get("kind").and_then(Value::as_str) == Some("List");
        let Some(items) = document.get("items").and_then(Value::as_array).filter(|_| is_list) else {
            return self.outcomes.push(read_document(document, origin, now));
        };
        for (index, item) in items.iter().enumerate() {
            let line = origin.line_of(&format!("items[{index}]")).unwrap_or(origin.line);
            let origin = Origin { file: origin.file.clone(), line, text: Arc::default() };
            self.outcomes.push(read_document(item, origin, now));
        }
    }

    fn unreadable(&mut self, file: &Arc<PathBuf>, problem: Problem) {
        let problem = Problem { file: Some(Arc::clone(file)), ..problem };
        self.outcomes.push(Outcome::Unreadable(problem));
    }
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
