//! The data plane: takes connections, decides with [`crate::decide`] what becomes of each request, and forwards it.
//!
//! A request goes down the list and never back up: `listen` accepts → `connection` terminates TLS, learns the peer and
//! tells the protocol → `http::serve` takes the snapshot and asks `decide` → an answer, something to wait for, or a plan
//! for `http::forward`, which per try asks the cluster for an endpoint and `pool` for a connection.
//!
//! The engine knows nothing of the control plane, the admin server or signals: `main` gives it [`Handles`], replaces the
//! snapshot and tells it to drain. Each worker is one thread; nothing on a request's way is shared between workers but
//! the snapshot and a cluster's atomics.

pub mod body;
pub mod codec;
mod connection;
mod demand;
mod destination;
mod detect;
mod dial;
mod drain;
mod gateway_listeners;
mod http;
mod listen;
mod names;
mod origination;
mod own;
mod pool;
mod resolve;
mod settings;
mod socket;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod tunnel;
mod way_out;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::TrustAnchor;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use demand::{Demand, Questions};
pub use names::nameservers;
pub use settings::{Capture, Entrance, Limits, MARK, Settings};

use crate::snapshot::Snapshot;
use crate::telemetry::Sinks;
use crate::tls::MeshTls;
use drain::Drain;
use gateway_listeners::Opened;
use listen::Door;
use names::Names;
use worker::Doors;

/// What the engine shares with the rest of the program. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// The configuration; whoever replaces it calls [`Engine::changed`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is not known yet.
    pub demand: Demand,
    /// Our identity in the mesh.
    pub tls: Arc<MeshTls>,
    /// Metrics, access log and spans.
    pub sinks: Sinks,
}

struct Shared {
    settings: Settings,
    handles: Handles,
    changes: watch::Sender<u64>,
    drain: Drain,
    stopped: CancellationToken,
    opened: Opened,
    names: Names,
    /// Read when a destination first needs them.
    system_anchors: OnceLock<Arc<[TrustAnchor<'static>]>>,
}

/// A running engine. Dropping it cuts every connection.
pub struct Engine {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    outbound: Option<SocketAddr>,
    inbound: Option<SocketAddr>,
}

impl Engine {
    /// Opens the listeners and starts the workers.
    ///
    /// # Errors
    /// When a listener's port is taken, or a thread cannot be started.
    pub fn start(settings: Settings, handles: Handles) -> io::Result<Self> {
        let count = settings.workers.max(1);
        let mut doors: Vec<Doors> = (0..count).map(|_| Doors::new()).collect();
        let outbound = open(settings.outbound, Door::Outbound, &mut doors)?;
        let inbound = open(settings.inbound, Door::Inbound, &mut doors)?;
        let names = Names::new(resolvers(&settings.resolvers), settings.mark);
        let shared = Arc::new(Shared {
            names,
            system_anchors: OnceLock::new(),
            settings,
            handles,
            changes: watch::Sender::new(0),
            drain: Drain::default(),
            stopped: CancellationToken::new(),
            opened: Opened::default(),
        });
        let start = |(index, doors)| worker::start(Arc::clone(&shared), index, doors);
        let workers = doors.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self { shared, workers, outbound, inbound })
    }

    /// Tells the engine that the snapshot has been replaced: listeners and pools follow.
    pub fn changed(&self) {
        self.shared.changes.send_modify(|generation| *generation += 1);
    }

    /// A handle with which another thread can do the same.
    pub fn change_notice(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.changes.send_modify(|generation| *generation += 1)
    }

    /// Where captured outbound connections are accepted.
    pub const fn outbound_address(&self) -> Option<SocketAddr> {
        self.outbound
    }

    /// Where captured inbound connections are accepted.
    pub const fn inbound_address(&self) -> Option<SocketAddr> {
        self.inbound
    }

    /// How many downstream connections are open.
    pub fn connections(&self) -> usize {
        self.shared.drain.connections()
    }

    /// Whether every worker is alive; one that is not has met a bug, and the process should end.
    pub fn is_alive(&self) -> bool {
        !self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Takes nothing new, waits for open requests and connections for at most `patience`, cuts what is left and ends
    /// the workers.
    pub async fn drain(mut self, patience: Duration) {
        self.shared.drain.run(patience).await;
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.stopped.cancel();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker has panicked");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Those given, else the system's.
fn resolvers(given: &[SocketAddr]) -> Vec<SocketAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    nameservers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn open(
    entrance: Option<Entrance>,
    door: fn(Capture) -> Door,
    doors: &mut [Doors],
) -> io::Result<Option<SocketAddr>> {
    let Some(Entrance { address, capture }) = entrance else { return Ok(None) };
    let listeners = socket::listen(address, doors.len())?;
    let address = listeners[0].local_addr()?;
    for (doors, listener) in doors.iter_mut().zip(listeners) {
        doors.push((door(capture), listener));
    }
    Ok(Some(address))
}
