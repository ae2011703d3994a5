//! The control plane's client: certificates and the configuration stream.
//!
//! [`run`] keeps a proxy supplied until it is told to stop: it has the proxy's key signed and renewed, follows the
//! stream of `proto/mesh/v1/config.proto`, compiles what comes into a snapshot and swaps it. It knows nothing of the
//! engine: `main` hands it the questions that the engine asks and is told by [`Event`]s what has changed.
//!
//! Invariants: what is held is never dropped because the control plane is away; a root's closure is taken as a whole or
//! not at all; a refused resource is named in the acknowledgement and never remembered as held; keys and certificates are
//! kept in memory-backed folders only.

mod certificate;
mod channel;
mod held;
mod state;
mod stream;
mod trust;
mod usable;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::model::{Key, Role, Root};
use crate::snapshot::{Config, Snapshot};
use crate::tls::MeshTls;

pub use state::StateError;

/// Where the control plane is and who we are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The control plane's address, `https://10.0.0.1:15012`.
    pub control: String,
    /// PEM file with the trust anchors of the control plane's certificate.
    pub anchors_file: PathBuf,
    /// File with the service-account token; read anew at every use, since it is rotated.
    pub token_file: PathBuf,
    /// Memory-backed folder for what outlives a restart of this process; none keeps nothing.
    pub state: Option<PathBuf>,
    /// What the proxy is.
    pub role: Role,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// The pod's service account.
    pub service_account: String,
    /// The pod's address.
    pub address: String,
}

/// What the client fills.
#[derive(Clone)]
pub struct Handles {
    /// The configuration in use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the snapshot was compiled from, for inspection.
    pub held: Arc<ArcSwap<Config>>,
    /// The certificate in use.
    pub tls: Arc<MeshTls>,
    /// Told of every change, on the client's thread; must not block.
    pub notify: Arc<dyn Fn(Event) + Send + Sync>,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A snapshot that knows these roots (or that they do not exist) is in place.
    Swapped(Vec<Root>),
    /// A resource was refused and its last good version kept.
    Refused(Key, String),
    /// A certificate was taken into use.
    Certificate,
    /// Others are trusted from now on; the certificate stays.
    Trust,
    /// The stream is up.
    Connected,
    /// The stream is lost; what is held stays in use.
    Disconnected,
}

/// Keeps the proxy supplied until `stop`. Returns only then.
///
/// `questions` are roots that somebody waits for.
///
/// # Errors
/// When the state folder cannot be made private. A control plane that cannot be reached is not an error: it is tried
/// again, from 100 ms up to 5 s apart.
pub async fn run(
    settings: Settings,
    handles: Handles,
    questions: mpsc::Receiver<Root>,
    stop: CancellationToken,
) -> Result<(), StateError> {
    let store = settings.state.as_deref().map(state::Store::open).transpose()?;
    let mut held = held::Held::default();
    if let Some(store) = &store {
        state::restore(store, &handles, &mut held);
    }
    let (told, trust) = watch::channel(None);
    let certificates = certificate::keep(&settings, &handles, store.as_ref(), trust);
    let configuration = stream::follow(&settings, &handles, store.as_ref(), &mut held, questions, told);
    tokio::select! {
        () = certificates => {}
        () = configuration => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

/// Waits between attempts: doubling from 100 ms to 5 s, with jitter so that a thousand proxies do not come back in
/// step.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    async fn wait(&mut self) {
        let jittered = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(Self::LAST);
        tokio::time::sleep(jittered).await;
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
