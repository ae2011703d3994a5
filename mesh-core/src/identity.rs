//! Who a peer is: SPIFFE identities of the form `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
//!
//! Parsing is strict (SPIFFE-ID §2): what does not have exactly this shape is refused, never repaired, because
//! policy compares these values byte by byte. It does not verify anything: that a peer holds an identity is
//! proven by `tls`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest identity we accept, in bytes (SPIFFE-ID §2.3).
pub const MAX_LENGTH: usize = 2048;

const SCHEME: &str = "spiffe://";

/// A workload's identity. Cheap to clone and compare; the text is kept whole.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    /// End of the trust domain, of the namespace and start of the service account, as offsets into `text`.
    trust_domain_end: u16,
    namespace_end: u16,
}

impl SpiffeId {
    /// The identity of a service account.
    ///
    /// # Errors
    /// When a part is empty or has a byte that SPIFFE does not allow there.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, InvalidIdentity> {
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The identity as a URI, `spiffe://…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The identity as Istio's policies write it: without the scheme, `cluster.local/ns/default/sa/web`.
    pub fn principal(&self) -> &str {
        &self.text[SCHEME.len()..]
    }

    /// The trust domain, `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.trust_domain_end)]
    }

    /// Namespace and service account, `default/sa/web`.
    pub fn account(&self) -> &str {
        &self.text[usize::from(self.trust_domain_end) + "/ns/".len()..]
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.text[usize::from(self.trust_domain_end) + "/ns/".len()..usize::from(self.namespace_end)]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.text[usize::from(self.namespace_end) + "/sa/".len()..]
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let refuse = |reason| InvalidIdentity { text: text.chars().take(80).collect(), reason };
        if text.len() > MAX_LENGTH {
            return Err(refuse("it is longer than 2048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| refuse("it does not start with spiffe://"))?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (trust_domain, ns, namespace, sa, service_account) = (next(), next(), next(), next(), next());
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(refuse("its path is not /ns/NAMESPACE/sa/SERVICE_ACCOUNT"));
        }
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.bytes().all(lower) {
            return Err(refuse(
                "its trust domain is empty or has a character other than a-z, 0-9, '.', '-', '_'",
            ));
        }
        let segment = |s: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !s.is_empty() && s != "." && s != ".." && s.bytes().all(plain)
        };
        if !segment(namespace) || !segment(service_account) {
            return Err(refuse(
                "its namespace or service account is empty or has a character that is not allowed",
            ));
        }
        let trust_domain_end = SCHEME.len() + trust_domain.len();
        let namespace_end = trust_domain_end + "/ns/".len() + namespace.len();
        let offset = |at: usize| u16::try_from(at).map_err(|_| refuse("it is longer than 2048 bytes"));
        Ok(Self {
            text: text.into(),
            trust_domain_end: offset(trust_domain_end)?,
            namespace_end: offset(namespace_end)?,
        })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, InvalidIdentity> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.text.as_ref().to_owned()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not an identity of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a workload identity: {reason}")]
pub struct InvalidIdentity {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_back() {
        let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/web".parse().unwrap();
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.namespace(), "default");
        assert_eq!(id.service_account(), "web");
        assert_eq!(id.principal(), "cluster.local/ns/default/sa/web");
        assert_eq!(id.account(), "default/sa/web");
        assert_eq!(SpiffeId::new("cluster.local", "default", "web").unwrap(), id);
    }

    /// SV-05 of the attack list: every shape that is almost an identity is refused.
    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/../sa/b",
            "spiffe://td/ns/%2e/sa/b",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td/ns/a/sa/b#x",
            "spiffe://td:80/ns/a/sa/b",
            "spiffe://u@td/ns/a/sa/b",
            "spiffe://TD/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "spiffe://td/ns/ä/sa/b",
            "spiffe://td/ns/a\0/sa/b",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
        let long = format!("spiffe://td/ns/a/sa/{}", "b".repeat(MAX_LENGTH));
        assert!(long.parse::<SpiffeId>().is_err());
    }
}
