//! The control plane as a library.

pub mod api;
pub mod problem;
pub mod source;
pub mod world;
