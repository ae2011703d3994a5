//! Files of the mesh's own that are not objects, such as tests: one document, in which every field must be known.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::file::{InvalidYaml, parse_yaml};
use crate::api::Origin;
use crate::api::reader::read;
use crate::problem::Problem;

/// A file's contents, and where each field of it is.
#[derive(Debug)]
pub struct Strict<T> {
    /// What it says.
    pub value: T,
    /// Finds lines of fields.
    pub origin: Origin,
}

/// Reads a text as one document.
///
/// # Errors
/// Every field that is not known, or the first that does not fit, with its line.
pub fn read_strictly<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Strict<T>, Vec<Problem>> {
    let origin = Origin { file: Some(Arc::new(file.to_owned())), line: 1, text: text.into() };
    let value: Value = parse_yaml(text).map_err(|InvalidYaml { line, message }| {
        vec![Problem { line: Some(line + 1), ..origin.locate(Problem::error("", message)) }]
    })?;
    let read = read(&value, "").map_err(|error| {
        vec![origin.locate(Problem { fix: error.fix, ..Problem::error(error.field, error.message) })]
    })?;
    if read.unknown.is_empty() {
        return Ok(Strict { value: read.value, origin });
    }
    let unknown = read.unknown.into_iter().map(|field| Problem::error(field, "unknown field"));
    Err(unknown.map(|problem| origin.locate(problem)).collect())
}
