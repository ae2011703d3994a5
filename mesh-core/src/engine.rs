//! The data plane.

pub mod body;
pub mod codec;
