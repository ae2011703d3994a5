//! Certificates: the root that proxies trust, and the one that the API server is shown.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Check;
use crate::cluster::remote::{Remote, SYSTEM_NAMESPACE, forward};
use crate::cluster::roots::CONFIG_MAP;
use crate::inject::ROOT_KEY;

/// A root that lives shorter than this should be replaced now: proxies keep certificates of it for a day.
const ROOT_SOON: Duration = Duration::days(30);

/// The root that every proxy mounts.
pub(super) async fn root(remote: &Remote) -> Vec<Check> {
    let subject = format!("ConfigMap {SYSTEM_NAMESPACE}/{CONFIG_MAP}");
    let found = remote.look(&format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{CONFIG_MAP}")).await;
    match found {
        Ok(Some(found)) => {
            judge(&subject, found["data"][ROOT_KEY].as_str().unwrap_or_default(), OffsetDateTime::now_utc())
        }
        Ok(None) => vec![
            Check::error(subject, "is missing: pods with a proxy cannot start")
                .fix("mesh logs mesh-control -n mesh-system"),
        ],
        Err(error) => vec![Check::unseen(subject, &error)],
    }
}

fn judge(subject: &str, pem: &str, now: OffsetDateTime) -> Vec<Check> {
    let Ok(ends) = expiries(pem) else {
        return vec![Check::error(subject, "holds no certificates that can be read")];
    };
    let replace = "put a new authority into Secret mesh-system/mesh-ca, and restart the control plane";
    let Some(first) = ends.into_iter().min() else {
        return vec![Check::error(subject, "holds no certificate").fix(replace)];
    };
    let day = first.date();
    vec![if first <= now {
        Check::error(subject, format!("the mesh's root has expired on {day}")).fix(replace)
    } else if first - now < ROOT_SOON {
        Check::warning(subject, format!("the mesh's root expires on {day}")).fix(replace)
    } else {
        Check::ok(subject, format!("the mesh's root is good until {day}"))
    }]
}

fn expiries(pem: &str) -> Result<Vec<OffsetDateTime>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    certificates.map(|one| expiry(&one.map_err(|error| error.to_string())?)).collect()
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<OffsetDateTime, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.to_datetime())
}

/// Until when the certificate is good that a replica shows to the API server, if `bundle` (PEM) makes it trusted.
pub(super) async fn shown(
    remote: &Remote,
    pod: &str,
    port: u16,
    name: &str,
    bundle: &str,
) -> Result<OffsetDateTime, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let stream = forward::stream(remote.client(), SYSTEM_NAMESPACE, pod, port).await?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(forward::DEADLINE, handshake).await;
    let stream = stream.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let (_, connection) = stream.get_ref();
    expiry(connection.peer_certificates().and_then(<[_]>::first).ok_or("no certificate")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use crate::cluster::remote::check::Level;

    #[test]
    fn a_root_is_judged_by_its_last_day() {
        let (root, _) = Authority::make().unwrap();
        let level =
            |days: i64| judge("root", &root, OffsetDateTime::now_utc() + Duration::days(days))[0].level;
        assert_eq!([level(0), level(3640), level(3660)], [Level::Ok, Level::Warning, Level::Error]);
        assert_eq!(judge("root", "", OffsetDateTime::now_utc())[0].level, Level::Error);
    }
}
