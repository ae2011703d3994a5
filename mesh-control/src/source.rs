//! Where objects come from: files or a Kubernetes API server. Objects, changes and problems are the same from both.

mod advice;
mod aside;
mod change;
mod contradictions;
mod document;
pub(crate) mod file;
pub mod files;
mod index;
mod kept;
pub mod kubernetes;
pub mod locate;
mod strict;
mod validation;
mod watch;

pub use change::{Change, Findings, Loaded, Refusal};
pub use files::REVISION_FILE;
pub use strict::{Strict, read_strictly};
pub use watch::{WatchError, watch};

#[cfg(test)]
mod tests;
