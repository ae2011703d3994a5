//! The certificate authority in a Secret: made once by whichever replica comes first, or supplied by the user.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::{Value, json};

use super::request::{Method, RequestError, send};
use crate::ca::{Authority, AuthorityError};

/// The Secret, in the form of cert-manager's: `tls.crt`, `tls.key` and, for an intermediate, `ca.crt`.
pub const SECRET: &str = "mesh-ca";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The Secret cannot be read or made.
    #[error("cannot read or create secret {SECRET}")]
    Request(#[from] RequestError),
    /// A value is missing, or not text.
    #[error("secret {SECRET} has no usable {0}")]
    Missing(&'static str),
    /// What is in it is not an authority.
    #[error("secret {SECRET} cannot be used")]
    Authority(#[from] AuthorityError),
}

/// Opens the authority of `namespace`; makes a new root if there is none.
///
/// Creating is what decides between replicas that start together: the API server lets one of them, and the others read.
///
/// # Errors
/// When the Secret can neither be read nor made, or is of no use.
pub async fn open(client: &Client, namespace: &str) -> Result<Authority, SecretError> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    let one = format!("{path}/{SECRET}");
    match send(client, Method::Get, &one, None).await {
        Ok(secret) => return read(&secret),
        Err(error) if error.code() == Some(404) => {}
        Err(error) => return Err(error.into()),
    }
    let (root, key) = Authority::make()?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "labels": {"app.kubernetes.io/part-of": "mesh"}},
        "data": {
            "tls.crt": STANDARD.encode(&root), "tls.key": STANDARD.encode(key), "ca.crt": STANDARD.encode(&root),
        },
    });
    match send(client, Method::Create, &path, Some(&secret)).await {
        Ok(secret) => read(&secret),
        Err(error) if error.code() == Some(409) => read(&send(client, Method::Get, &one, None).await?),
        Err(error) => Err(error.into()),
    }
}

fn read(secret: &Value) -> Result<Authority, SecretError> {
    let value = |name: &'static str| {
        let encoded = secret["data"][name].as_str().filter(|text| !text.is_empty());
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(SecretError::Missing(name))
    };
    let roots = value("ca.crt").ok();
    Ok(Authority::from_pem(&value("tls.crt")?, &value("tls.key")?, roots.as_deref())?)
}
