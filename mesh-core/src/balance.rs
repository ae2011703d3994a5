//! Which endpoint of a cluster takes an attempt.
//!
//! Picks are lock-free: a set of endpoints is immutable, what changes (active requests, health) are atomics that outlive
//! the set. Endpoints are divided into groups by nearness when they change, so that a pick chooses a group and
//! then an endpoint of it. Discovery and the swap of sets belong to `snapshot`.
//!
//! Invariants: an ejected endpoint is never picked while another may be; endpoints tried before are avoided as long as
//! there is another.

pub mod endpoint;
mod group;
mod hash;
mod locality;
pub mod set;
mod warm;

pub use endpoint::{ActiveRequest, Endpoint, EndpointKey, EndpointState};
pub use set::{Cursor, EndpointSet, Made, Pick};
