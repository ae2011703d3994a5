//! From the objects users write to the model that proxies compile: pure functions, one module per kind.
//!
//! Everything is translated for a [`Scope`]: the world, its services, and the client that asks. Nothing is remembered
//! between two translations and nothing is read from anywhere else, so equal worlds give equal resources on every
//! replica. What is not supported is told by [`problems`], object by object; a translation itself never fails, it leaves
//! out the smallest part that cannot be translated.

pub mod authorization;
pub mod catalog;
pub mod cluster;
pub mod destination;
pub mod destination_rule;
pub mod endpoints;
pub mod gateway;
pub mod http;
pub mod inbound;
pub mod ingress;
pub mod own;
pub mod peer;
pub mod problems;
mod provider;
pub mod proxy_config;
pub mod rate_limit;
pub mod scope;
pub mod settings;
pub mod sidecar;
pub mod tcp;
mod telemetry;
pub mod tokens;
pub mod visibility;
pub mod workload;

#[cfg(test)]
pub(crate) mod tests;

pub use catalog::Catalog;
pub use scope::{Client, Scope};

use crate::api::Object;

/// Names an object, and a field in it, as the origin of something translated.
pub(crate) fn origin(object: &Object, field: impl Into<String>) -> mesh_core::model::Origin {
    mesh_core::model::Origin {
        kind: object.key.kind.as_str().to_owned(),
        namespace: object.key.namespace.to_string(),
        name: object.key.name.to_string(),
        field: field.into(),
    }
}
