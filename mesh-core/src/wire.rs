//! The protocol between control plane and proxies: the generated envelope, and bodies to and from the model.
//!
//! A resource travels as the canonical JSON of [`Resource`] inside a protobuf envelope: the model is defined once, and
//! what `mesh config` prints is what travelled. A version is a hash of those bytes, so it is equal on every replica.

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Key, Resource, Root};

/// The generated messages and services of `mesh.v1`.
#[expect(missing_docs, unused_qualifications, reason = "generated from proto/mesh/v1")]
#[rustfmt::skip]
pub mod v1 {
    include!("wire/generated/mesh.v1.rs");
}

/// The name in the control plane's own certificate, whatever address it is dialled at.
pub const CONTROL_NAME: &str = "mesh-control.mesh-system.svc";

/// Capability of proxies that take whom to trust from the stream, acknowledge it, and renew when told.
pub const TRUST: &str = "trust/1";

/// Largest message either side accepts, in bytes: a route table of 10,000 rules fits well.
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// A resource in the form that travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The resource's name in JSON.
    pub key: String,
    /// Hash of the body.
    pub version: u64,
    /// Canonical JSON.
    pub body: bytes::Bytes,
}

/// Encodes a resource: equal resources give equal bytes.
pub fn encode(resource: &Resource) -> Encoded {
    let body = serde_json::to_vec(resource).expect("the model has only string keys and finite numbers");
    Encoded { key: encode_key(&resource.key()), version: xxh3_64(&body), body: body.into() }
}

/// Decodes the body of a resource.
///
/// # Errors
/// When it is not a resource this build understands; the text names the field.
pub fn decode(body: &[u8]) -> Result<Resource, Malformed> {
    serde_json::from_slice(body).map_err(|source| Malformed { what: "resource", source })
}

/// A root in JSON.
pub fn encode_root(root: &Root) -> String {
    serde_json::to_string(root).expect("a root has only string keys")
}

/// A root from JSON.
///
/// # Errors
/// When it is not a root.
pub fn decode_root(text: &str) -> Result<Root, Malformed> {
    serde_json::from_str(text).map_err(|source| Malformed { what: "root", source })
}

/// A resource's name in JSON.
pub fn encode_key(key: &Key) -> String {
    serde_json::to_string(key).expect("a key has only string keys")
}

/// A resource's name from JSON.
///
/// # Errors
/// When it is not a key.
pub fn decode_key(text: &str) -> Result<Key, Malformed> {
    serde_json::from_str(text).map_err(|source| Malformed { what: "key", source })
}

/// Why something that travelled cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    what: &'static str,
    #[source]
    source: serde_json::Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Host, Secret};

    #[test]
    fn equal_resources_have_equal_versions_and_come_back() {
        let secret = || {
            Resource::Secret(Secret {
                name: "default/web".into(),
                certificates: "C".into(),
                private_key: "K".into(),
                trust_anchors: String::new(),
            })
        };
        assert_eq!(encode(&secret()), encode(&secret()));
        assert_eq!(decode(&encode(&secret()).body).unwrap(), secret());
        let root = Root::Host { host: Host::parse("reviews").unwrap(), port: 9080 };
        assert_eq!(decode_root(&encode_root(&root)).unwrap(), root);
        assert_eq!(encode_root(&root), r#"{"host":{"host":"reviews","port":9080}}"#);
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = decode(br#"{"secret":{"name":"a","surprise":1}}"#).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("surprise"), "{source}");
    }
}
