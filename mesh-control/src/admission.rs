//! What the API server asks before it takes an object: injection (`/inject`) and the checks of `mesh lint` (`/validate`).
//!
//! [`mutate`] and [`validate`] are pure functions of an AdmissionReview; [`server`] puts them behind HTTPS. They look at the one
//! object alone: what refers to others is never refused, since manifests are applied in any order.

mod flags;
mod review;
pub mod server;
mod validate;

pub use flags::{Flags, Injection};
pub use review::{mutate, validate};

#[cfg(test)]
mod tests;
