//! The proxy's certificate: a fresh key at every start and renewal, signed by the control plane, renewed at half life,
//! or early when another authority signs.
//!
//! Renewal goes by the wall clock, looked at often: a timer set hours ahead sleeps through a suspended machine. While
//! the CA cannot be reached, the certificate in use stays in use until it expires.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::channel::{authorized, chain, connect};
use super::state::{Credentials, Store};
use super::{Backoff, Event, Handles, Settings};
use crate::tls;
use crate::wire::v1::identity_client::IdentityClient;
use crate::wire::v1::{SignRequest, Trust};

/// Deadline of a signing call.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps a valid certificate in use; never returns. `trust` is what the stream says, while there is one.
pub(super) async fn keep(
    settings: &Settings,
    handles: &Handles,
    store: Option<&Store>,
    trust: watch::Receiver<Option<Trust>>,
) {
    let held = store.and_then(Store::credentials);
    let renew_at = held.as_ref().and_then(|held| half_life(&held.chain));
    let mut keeper = Keeper { settings, handles, store, trust, held, renew_at };
    let mut backoff = Backoff::new();
    loop {
        if keeper.renew_at.is_some_and(|at| SystemTime::now() < at) {
            keeper.rest().await;
            continue;
        }
        match keeper.renew().await {
            Ok(next) => {
                backoff.reset();
                keeper.renew_at = Some(next);
                (handles.notify)(Event::Certificate);
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed; trying again");
                backoff.wait().await;
            }
        }
    }
}

struct Keeper<'a> {
    settings: &'a Settings,
    handles: &'a Handles,
    store: Option<&'a Store>,
    trust: watch::Receiver<Option<Trust>>,
    held: Option<Credentials>,
    /// At once when nothing is held.
    renew_at: Option<SystemTime>,
}

impl Keeper<'_> {
    /// Waits for a while, or for other trust.
    async fn rest(&mut self) {
        let left = self.renew_at.and_then(|at| at.duration_since(SystemTime::now()).ok());
        let told = timeout(left.unwrap_or_default().min(LOOK), self.trust.changed()).await;
        match told {
            Ok(Ok(())) => self.follow_trust(),
            // The stream's task ends together with this one.
            Ok(Err(_)) => tokio::time::sleep(LOOK).await,
            Err(_) => {}
        }
    }

    /// Keeps new anchors for after a restart, and plans to renew when another signs now: at some moment of the time given, so
    /// that not all do so at once.
    fn follow_trust(&mut self) {
        let Some(trust) = self.trust.borrow_and_update().clone() else { return };
        let Some(held) = &mut self.held else { return };
        if held.trust_anchors != trust.anchors {
            held.trust_anchors.clone_from(&trust.anchors);
            save(self.store, held);
        }
        if !trust.signer.is_empty() && held.signer != trust.signer {
            let within = Duration::from_secs(trust.renew_within_seconds.into());
            let at = SystemTime::now() + within.mul_f64(fastrand::f64());
            tracing::info!(within = ?within, "another authority signs now; the certificate is renewed early");
            self.renew_at = self.renew_at.map(|planned| planned.min(at));
        }
    }

    async fn renew(&mut self) -> Result<SystemTime, String> {
        let key = KeyPair::generate().map_err(|error| chain(&error))?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(|error| chain(&error))?;
        let channel = connect(self.settings, &self.handles.tls).await.map_err(|error| chain(&error))?;
        let message = SignRequest { csr: csr.der().to_vec(), lifetime_seconds: 0 };
        let request = authorized(self.settings, message).await.map_err(|error| chain(&error))?;
        let mut client = IdentityClient::new(channel);
        let signed = timeout(DEADLINE, client.sign(request))
            .await
            .map_err(|_| "no answer to the signing request in 10 s".to_owned())?
            .map_err(|status| format!("the signing request was refused: {}", status.message()))?
            .into_inner();
        let told = self.trust.borrow().as_ref().map(|trust| trust.anchors.clone());
        let credentials = Credentials {
            chain: signed.certificates,
            key: Zeroizing::new(key.serialize_pem()),
            trust_anchors: told.unwrap_or(signed.trust_anchors),
            signer: signed.signer,
        };
        install(self.handles, &credentials)?;
        save(self.store, &credentials);
        let next = half_life(&credentials.chain);
        self.held = Some(credentials);
        next.ok_or_else(|| "the signed certificate has no validity".to_owned())
    }
}

fn save(store: Option<&Store>, credentials: &Credentials) {
    if let Some(store) = store
        && let Err(error) = store.save_credentials(credentials)
    {
        tracing::warn!(%error, "the certificate was not saved; a restart begins with another");
    }
}

/// Takes credentials into use.
pub(super) fn install(handles: &Handles, credentials: &Credentials) -> Result<(), String> {
    let snapshot = handles.snapshot.load();
    let aliases = snapshot.own().map(|own| own.model().mesh.trust_domain_aliases.clone()).unwrap_or_default();
    handles
        .tls
        .install(&credentials.chain, &credentials.key, &credentials.trust_anchors, &aliases)
        .map(|identity| tracing::info!(%identity, signer = credentials.signer, "certificate in use"))
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
