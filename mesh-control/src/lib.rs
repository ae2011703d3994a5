//! The control plane as a library: sources of objects, the world they make, and what proxies are told of it.
//!
//! `source` → [`world`] → [`translate`] (pure) → [`view`] (what one proxy may see) → [`serve`] (sends what differs).
//! The command line uses the first four offline, for `lint` and `explain`.

pub mod admin;
pub mod api;
pub mod ca;
pub mod dns;
pub mod problem;
pub mod serve;
pub mod source;
pub mod tokens;
pub mod translate;
pub mod view;
pub mod world;
