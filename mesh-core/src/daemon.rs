//! What every long-running binary needs: logging, signals, and a small HTTP server for probes, metrics and inspection.
//!
//! It knows nothing of proxying: a binary hands it the pages to serve.

pub mod admin;
pub mod logging;
pub mod signals;

pub use admin::{Admin, Page};
