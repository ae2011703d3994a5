//! Templates of access logs: text with Envoy's `%COMMAND%`s.
//!
//! Reading one finds out what is not supported, so that a user is told instead of finding `-` in every line. Headers that
//! carry credentials are not supported on purpose: nobody who reads a log shall find a token in it.

mod command;
mod read;

use serde::{Deserialize, Serialize};

pub use command::{Command, Part, SPECIFIERS, StatusForm, TimeFormat, is_credential};
pub use read::Unsupported;

/// A template, read once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is written.
    Text(String),
    /// A value, cut to so many bytes.
    Command(Command, Option<usize>),
}

impl Template {
    /// Reads a template; what is not supported is written as `-` and told.
    pub fn read(text: &str) -> (Self, Vec<Unsupported>) {
        let (pieces, unsupported) = read::pieces(text);
        (Self { text: text.to_owned(), pieces }, unsupported)
    }

    /// Its parts in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its commands in order.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Command(command, _) => Some(command),
            Piece::Text(_) => None,
        })
    }
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        Self::read(&text).0
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}
