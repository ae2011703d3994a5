//! The certificate authority in a Secret: made once by whichever replica comes first, or supplied by the user.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use mesh_core::tls::certificates;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::request::{Method, RequestError, send};
use crate::ca::keeper::Standing;
use crate::ca::{Authority, AuthorityError};
use crate::serve::Plane;

/// The Secret, in the form of cert-manager's: `tls.crt`, `tls.key` and, for an intermediate, `ca.crt`.
pub const SECRET: &str = "mesh-ca";
/// How often each replica looks at it.
const LOOK: Duration = Duration::from_secs(30);

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

/// Looks at the Secret until `stop`, and takes a new signing certificate of the same root into use: what cert-manager writes when
/// it renews an intermediate. Another root is refused here, since nobody trusts it yet.
pub async fn follow(client: Client, namespace: String, plane: Arc<Plane>, stop: CancellationToken) {
    let one = format!("/api/v1/namespaces/{namespace}/secrets/{SECRET}");
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        match send(&client, Method::Get, &one, None).await {
            Ok(secret) => take(&plane, read(&secret)),
            // Whoever is away or has no Secret says nothing of a new one.
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "secret {SECRET} is not seen")
            }
        }
    }
}

fn take(plane: &Plane, found: Result<Authority, SecretError>) {
    let standing = plane.standing();
    let judged = match found {
        Ok(found) if found.is_same(&standing.authority) => Ok(None),
        Ok(found) if same_roots(found.root(), &standing.anchors) => Ok(Some(found)),
        Ok(_) => Err(format!(
            "secret {SECRET} has another root, which no proxy trusts yet: put the former one back, or restart the replicas, \
             after which connections between proxies fail until both have renewed"
        )),
        Err(error) => Err(chain(&error)),
    };
    let refused = judged.as_ref().err().cloned();
    if plane.refuse_authority(refused.clone())
        && let Some(refused) = refused
    {
        tracing::error!(
            error = refused,
            "the new certificate authority is refused; the present one stays in force"
        );
    }
    if let Ok(Some(found)) = judged {
        tracing::info!(signer = found.id(), "a new certificate of the same root signs");
        plane.stand(Standing::alone(found));
    }
}

fn same_roots(one: &str, other: &str) -> bool {
    let of = |pem| certificates(pem).map(|all| all.into_iter().collect::<HashSet<_>>());
    matches!((of(one), of(other)), (Ok(one), Ok(other)) if one == other)
}

fn chain(error: &SecretError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::tokens::Verifier;

    /// A root, and a way to have intermediates signed by it, as a Secret holds them.
    fn issuer() -> (String, impl Fn() -> Value) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        let bundle = root.clone();
        let issuer = Issuer::from_ca_cert_pem(&root, key).unwrap();
        let intermediate = move || {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "intermediate");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            let signed = params.signed_by(&key, &issuer).unwrap();
            secret(&signed.pem(), &key.serialize_pem(), &bundle)
        };
        (root, intermediate)
    }

    fn secret(certificates: &str, key: &str, roots: &str) -> Value {
        let [certificates, key, roots] = [certificates, key, roots].map(|pem| STANDARD.encode(pem));
        json!({"data": {"tls.crt": certificates, "tls.key": key, "ca.crt": roots}})
    }

    #[tokio::test]
    async fn a_renewed_intermediate_signs_and_another_root_is_refused() {
        let (root, intermediate) = issuer();
        let first = read(&intermediate()).unwrap();
        let plane = Plane::new(Standing::alone(first), Verifier::new(std::path::Path::new("none")));
        let before = plane.standing();
        let renewed = intermediate();
        take(&plane, read(&renewed));
        let after = plane.standing();
        assert_ne!(after.authority.id(), before.authority.id());
        assert_eq!((after.anchors.as_str(), plane.refused_authority()), (root.as_str(), None));
        take(&plane, read(&renewed));
        assert!(Arc::ptr_eq(&after, &plane.standing()), "nothing is new");

        let (_, elsewhere) = issuer();
        take(&plane, read(&elsewhere()));
        assert!(plane.refused_authority().unwrap().contains("another root"));
        take(&plane, read(&json!({"data": {}})));
        assert!(plane.refused_authority().unwrap().contains("tls.crt"));
        assert!(Arc::ptr_eq(&after, &plane.standing()), "the last good one stays");
        take(&plane, read(&renewed));
        assert_eq!(plane.refused_authority(), None);
    }
}
