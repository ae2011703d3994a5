//! The resources users write, as plain serde types: Istio's, Ingress, and the Kubernetes kinds around them.
//!
//! One type per kind serves every served version (`v1`, `v1beta1`, `v1alpha3`); field names and meaning are those of
//! the upstream definitions (`istio/api`, `kubernetes/api`), so they are documented here only where a default or a
//! unit is easily got wrong. Nothing is resolved or defaulted beyond what the wire format itself says: that is the
//! work of `translate`. Nothing here knows a client of Kubernetes.
//!
//! Invariant: what does not fit a type is an error that names the field; what a type does not know is a warning that
//! names the field (see [`reader`]), for the kinds whose meaning is ours ([`Kind::reports_unknown_fields`]).

mod alternatives;
pub mod core;
pub mod discovery;
mod duration;
pub mod ingress;
mod kind;
pub mod matching;
pub mod mesh_config;
pub mod meta;
pub mod networking;
mod object;
mod ranges;
pub mod rate_limit;
pub mod reader;
pub mod security;
pub mod telemetry;

pub use alternatives::conflicting_alternatives;
pub use duration::{Duration, InvalidDuration};
pub use kind::{Kind, Recognized};
pub use matching::StringMatch;
pub use mesh_config::MeshConfig;
pub use meta::{Key, LabelSelector, Metadata};
pub use object::{Age, Content, Item, Object, Origin, Spec};
pub use ranges::out_of_range;
