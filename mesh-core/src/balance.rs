//! Which endpoint of a cluster takes an attempt.
//!
//! Picks are lock-free: a set of endpoints is immutable, what changes (active requests, health) are atomics that outlive
//! the set. Locality comes later. Discovery and the swap of sets belong to `snapshot`.
//!
//! Invariants: an ejected endpoint is never picked while another may be; endpoints tried before are avoided as long as
//! there is another.

pub mod endpoint;
pub mod hash;
pub mod set;

pub use endpoint::{ActiveRequest, Endpoint, EndpointKey, EndpointState};
pub use set::{Cursor, EndpointSet, Pick};
