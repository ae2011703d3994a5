//! The reasons behind a decision, as data: what `mesh explain` shows.
//!
//! In traffic the trail is off and a note costs one branch.

use serde::Serialize;

use crate::model::Origin;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NoteKind {
    /// A host or address was looked up.
    Lookup,
    /// A rule was passed over.
    Skipped,
    /// A rule or route matched.
    Matched,
    /// A destination was chosen.
    Backend,
    /// An authorization policy had a say.
    Policy,
    /// A policy in dry run would have had a say.
    DryRun,
    /// A fault is injected.
    Fault,
    /// The proxy answers itself.
    Answer,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// In words.
    pub text: String,
    /// The user's object that made it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Note {
    /// A note without an object.
    pub fn new(kind: NoteKind, text: String) -> Self {
        Self { kind, text, origin: None }
    }

    /// The note, with the object that made it so.
    #[must_use]
    pub fn by(self, origin: &Origin) -> Self {
        Self { origin: Some(origin.clone()), ..self }
    }
}

/// The reasons behind a decision, in order; or nothing, when nobody wants to know.
#[derive(Debug, Default)]
pub struct Trail(Option<Vec<Note>>);

impl Trail {
    /// Keeps nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Keeps every note.
    pub const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    /// Whether notes are kept.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl FnOnce() -> Note) {
        if let Some(notes) = &mut self.0 {
            notes.push(note());
        }
    }

    /// All notes so far.
    pub fn notes(&self) -> &[Note] {
        self.0.as_deref().unwrap_or_default()
    }
}
