//! From what users wrote to what proxies need: pure functions over the world, one file per kind.
//!
//! Nothing here remembers anything: the same world gives the same resources. What a proxy may see is decided by
//! [`crate::view`], which asks these functions for one root at a time.

pub mod authz;
pub mod cluster;
pub mod gateway;
pub mod hosts;
pub mod http;
pub mod ingress;
pub mod own;
pub mod rules;
pub mod tcp;
pub mod unsupported;
