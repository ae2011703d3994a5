//! Certificates and keys from Secrets.

use std::fmt;

use super::World;
use crate::api::core::Secret;

/// What a gateway needs of a Secret, in PEM as it was given; not checked further.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSecret {
    /// `tls.crt`, or `cert`: the leaf first.
    pub certificates: Vec<u8>,
    /// `tls.key`, or `key`.
    pub key: Vec<u8>,
    /// `ca.crt`, or `cacert`: whom to trust, for mutual TLS.
    pub roots: Option<Vec<u8>>,
}

impl fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSecret").field("roots", &self.roots.is_some()).finish_non_exhaustive()
    }
}

/// Why a Secret is of no use for TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is no such Secret.
    #[error("secret {0} does not exist")]
    Absent(String),
    /// A value is missing.
    #[error("secret {0} has no {1}")]
    Missing(String, &'static str),
    /// A value of `data` is not base64.
    #[error("secret {0}: {1} is not base64; write plain text under stringData")]
    NotBase64(String, &'static str),
}

impl InvalidSecret {
    /// Whether there is no Secret at all: then nobody means its last content to be used any longer.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}

impl World {
    /// What there is of a Secret's certificate and key, if there is a Secret; an empty part is one that nobody can use.
    pub fn tls_parts(&self, namespace: &str, name: &str) -> Option<[Vec<u8>; 2]> {
        let secret = self.get::<Secret>(namespace, name)?;
        let part = |names| any_of(secret.spec, names, &String::new).ok().flatten().unwrap_or_default();
        Some([part(["tls.crt", "cert"]), part(["tls.key", "key"])])
    }

    /// Certificate and key of a Secret of type `kubernetes.io/tls`, or of one in Istio's older form.
    ///
    /// # Errors
    /// When the Secret, or one of the two, is missing or unreadable.
    pub fn tls_secret(&self, namespace: &str, name: &str) -> Result<TlsSecret, InvalidSecret> {
        let full = || format!("{namespace}/{name}");
        let secret = self.get::<Secret>(namespace, name).ok_or_else(|| InvalidSecret::Absent(full()))?;
        let required = |names: [&'static str; 2]| {
            any_of(secret.spec, names, &full)?.ok_or_else(|| InvalidSecret::Missing(full(), names[0]))
        };
        Ok(TlsSecret {
            certificates: required(["tls.crt", "cert"])?,
            key: required(["tls.key", "key"])?,
            roots: any_of(secret.spec, ["ca.crt", "cacert"], &full)?,
        })
    }

    /// Whom to trust where a Secret is named for mutual TLS: Istio's second secret, `NAME-cacert`, before the Secret's own
    /// `ca.crt`, which may as well be the issuer of its certificate.
    ///
    /// # Errors
    /// When neither has it.
    pub fn trust_secret(&self, namespace: &str, name: &str) -> Result<Vec<u8>, InvalidSecret> {
        self.ca_secret(namespace, &format!("{name}-cacert")).or_else(|_| self.ca_secret(namespace, name))
    }

    /// `ca.crt` (or `cacert`) of a Secret: for those that hold nothing else.
    ///
    /// # Errors
    /// When the Secret, or the value, is missing or unreadable.
    pub fn ca_secret(&self, namespace: &str, name: &str) -> Result<Vec<u8>, InvalidSecret> {
        let full = || format!("{namespace}/{name}");
        let secret = self.get::<Secret>(namespace, name).ok_or_else(|| InvalidSecret::Absent(full()))?;
        any_of(secret.spec, ["ca.crt", "cacert"], &full)?
            .ok_or_else(|| InvalidSecret::Missing(full(), "ca.crt"))
    }
}

fn any_of(
    secret: &Secret,
    names: [&'static str; 2],
    full: &dyn Fn() -> String,
) -> Result<Option<Vec<u8>>, InvalidSecret> {
    for name in names {
        let value = secret.value(name).map_err(|_| InvalidSecret::NotBase64(full(), name))?;
        // Kubernetes wants both keys to be there in a Secret of type kubernetes.io/tls, so that what is missing is empty.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
