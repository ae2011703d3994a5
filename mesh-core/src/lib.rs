//! The mesh core.
