//! The control plane as a library: sources → world → translation → views → streams.
//!
//! [`source`] reads objects, [`world`] keeps them, [`translate`] turns them into the model, [`view`] answers what one
//! proxy may see, and [`serve`] brings it there; [`ca`] and [`tokens`] say who is who;
//! [`cluster`] is what is written to Kubernetes. Each layer names only those before
//! it, and all up to [`view`] is pure.

pub mod admin;
pub mod admission;
pub mod allotments;
pub mod api;
pub mod ca;
pub mod cluster;
pub mod crd;
pub mod dns;
pub mod inject;
pub mod jwks;
pub mod migrate;
pub mod problem;
pub mod serve;
pub mod settings;
pub mod source;
pub mod tokens;
pub mod translate;
pub mod view;
pub mod world;
