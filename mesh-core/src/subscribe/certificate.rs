//! The proxy's certificate: a fresh key at every start and renewal, signed by the control plane, renewed at half life.
//!
//! Renewal goes by the wall clock, looked at often: a timer set hours ahead sleeps through a suspended machine. While
//! the CA cannot be reached, the certificate in use stays in use until it expires.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::channel::{authorized, chain, connect};
use super::state::{Credentials, Store};
use super::{Backoff, Event, Handles, Settings};
use crate::tls;
use crate::wire::v1::SignRequest;
use crate::wire::v1::identity_client::IdentityClient;

/// Deadline of a signing call.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps a valid certificate in use; never returns.
pub(super) async fn keep(settings: &Settings, handles: &Handles, store: Option<&Store>) {
    let mut backoff = Backoff::new();
    let mut renew_at = store.and_then(Store::credentials).and_then(|held| half_life(&held.chain));
    loop {
        if renew_at.is_some_and(|at| SystemTime::now() < at) {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        match renew(settings, handles, store).await {
            Ok(next) => {
                backoff.reset();
                renew_at = Some(next);
                (handles.notify)(Event::Certificate);
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed; trying again");
                backoff.wait().await;
            }
        }
    }
}

async fn renew(settings: &Settings, handles: &Handles, store: Option<&Store>) -> Result<SystemTime, String> {
    let key = KeyPair::generate().map_err(|error| chain(&error))?;
    let csr = CertificateParams::default().serialize_request(&key).map_err(|error| chain(&error))?;
    let channel = connect(settings).await.map_err(|error| chain(&error))?;
    let message = SignRequest { csr: csr.der().to_vec(), lifetime_seconds: 0 };
    let request = authorized(settings, message).await.map_err(|error| chain(&error))?;
    let mut client = IdentityClient::new(channel);
    let signed = timeout(DEADLINE, client.sign(request))
        .await
        .map_err(|_| "no answer to the signing request in 10 s".to_owned())?
        .map_err(|status| format!("the signing request was refused: {}", status.message()))?
        .into_inner();
    let credentials = Credentials {
        chain: signed.certificates,
        key: Zeroizing::new(key.serialize_pem()),
        trust_anchors: signed.trust_anchors,
    };
    install(handles, &credentials)?;
    if let Some(store) = store {
        store.save_credentials(&credentials).map_err(|error| chain(&error))?;
    }
    half_life(&credentials.chain).ok_or_else(|| "the signed certificate has no validity".to_owned())
}

/// Takes credentials into use.
pub(super) fn install(handles: &Handles, credentials: &Credentials) -> Result<(), String> {
    let snapshot = handles.snapshot.load();
    let aliases = snapshot.own().map(|own| own.model().mesh.trust_domain_aliases.clone()).unwrap_or_default();
    handles
        .tls
        .install(&credentials.chain, &credentials.key, &credentials.trust_anchors, &aliases)
        .map(|identity| tracing::info!(%identity, "certificate in use"))
        .map_err(|error| chain(&error))
}

/// Takes the trust domains of a new configuration into use, which may come after the certificate.
pub(super) fn follow_aliases(handles: &Handles) {
    if let Some(own) = handles.snapshot.load().own() {
        handles.tls.set_aliases(&own.model().mesh.trust_domain_aliases);
    }
}

/// When a certificate has lived half its life, moved by up to 1 % so that a thousand proxies do not renew in step.
fn half_life(chain: &str) -> Option<SystemTime> {
    let certificates = tls::certificates(chain).ok()?;
    let (not_before, not_after) = tls::validity(certificates.first()?)?;
    let life = not_after.duration_since(not_before).ok()?;
    Some(not_before + life.mul_f64(0.5 + (fastrand::f64() - 0.5) / 50.0))
}
