//! A whole proxy: the engine, the control plane's client and the admin server, joined.
//!
//! The three do not know each other; this is the one place that does. Sidecar, ingress and egress gateway are this, with
//! another [`Role`] and other listeners, so a binary's `main` is its command line and a call of [`run`].

mod flags;
mod inherited;
mod pages;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use flags::Flags;
pub use inherited::{InheritedError, inherited_listeners};

use crate::daemon::{logging, signals};
use crate::engine::{Demand, Engine, Handles, Settings};
use crate::memory;
use crate::model::{AccessLog, MeshSettings, Own, Role, Side};
use crate::snapshot::{Config, Snapshot};
use crate::subscribe::{self, Event};
use crate::telemetry::{Counter, LogWriter, Metrics, Outputs, Sinks, SpanSender};
use crate::tls::MeshTls;

/// Loopback only: inspection and actions.
pub const ADMIN_PORT: u16 = 15000;
/// `/healthz/ready`, for the kubelet.
pub const HEALTH_PORT: u16 = 15021;
/// `/stats/prometheus`.
pub const METRICS_PORT: u16 = 15090;

/// What a proxy's parts share; given to what a binary runs beside them.
#[derive(Clone)]
pub struct Shared {
    /// The configuration in use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The way to ask for what is not known yet.
    pub demand: Demand,
    /// Counters.
    pub metrics: Arc<Metrics>,
    held: Arc<ArcSwap<Config>>,
    tls: Arc<MeshTls>,
    draining: Arc<AtomicBool>,
}

impl Shared {
    /// Whether the proxy may take traffic, or what it still lacks.
    ///
    /// # Errors
    /// The reason, for whoever reads the probe.
    pub fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining".to_owned());
        }
        if self.tls.identity().is_none() {
            return Err("no certificate yet: is the control plane reachable and the token valid?".to_owned());
        }
        if self.snapshot.load().own().is_none() {
            return Err("no configuration yet: is the control plane reachable?".to_owned());
        }
        Ok(())
    }
}

/// Runs a proxy until it is told to stop, then drains it.
///
/// `beside` starts what the binary runs beside the engine on the control thread, such as DNS capture.
///
/// # Errors
/// When a port is taken, a thread cannot be started or the state folder not be used.
pub fn run<F, B>(role: Role, flags: &Flags, settings: Settings, beside: F) -> anyhow::Result<()>
where
    F: FnOnce(Shared, CancellationToken) -> B,
    B: Future<Output = io::Result<()>>,
{
    logging::init();
    let broker = flags.broker().context("taking over the socket of MESH_BROKER_FD")?;
    let settings = Settings { broker, ..settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(role, flags, settings, beside))
}

async fn serve<F, B>(role: Role, flags: &Flags, settings: Settings, beside: F) -> anyhow::Result<()>
where
    F: FnOnce(Shared, CancellationToken) -> B,
    B: Future<Output = io::Result<()>>,
{
    let stop = signals::stop()?;
    let (demand, questions) = Demand::channel();
    let sinks = Sinks::default();
    let shared = Shared {
        snapshot: Arc::default(),
        demand,
        metrics: Arc::clone(&sinks.metrics),
        held: Arc::default(),
        tls: Arc::default(),
        draining: Arc::default(),
    };
    let handles = Handles {
        snapshot: Arc::clone(&shared.snapshot),
        demand: shared.demand.clone(),
        tls: Arc::clone(&shared.tls),
        sinks: sinks.clone(),
    };
    let engine = Engine::start(flags.complete(settings), handles)?;
    let client = subscribe::Handles {
        snapshot: Arc::clone(&shared.snapshot),
        held: Arc::clone(&shared.held),
        tls: Arc::clone(&shared.tls),
        notify: notifier(&shared, &sinks, engine.change_notice()),
    };
    let pages = serve_pages(&shared, &stop).await?;
    let end = after_lingering(&shared, stop, flags.linger());
    let besides = beside(shared.clone(), end.clone());
    let follow = subscribe::run(flags.subscription(role), client, questions, end.clone());
    tokio::select! {
        ended = follow => ended?,
        ended = besides => ended?,
        never = memory::give_back() => match never {},
        () = end.cancelled() => {}
    }
    shared.draining.store(true, Ordering::Relaxed);
    let patience = shared
        .snapshot
        .load()
        .own()
        .map_or(Duration::from_secs(5), |own| own.model().mesh.drain_timeout.duration());
    engine.drain(patience).await;
    drop(pages);
    Ok(())
}

/// Cancelled a while after `stop`. In between the proxy serves as before but is not ready: whoever sends connections here, such as
/// every node's forwarding of a Service, learns only later that it ends.
fn after_lingering(shared: &Shared, stop: CancellationToken, linger: Duration) -> CancellationToken {
    let end = CancellationToken::new();
    let (ended, draining) = (end.clone(), Arc::clone(&shared.draining));
    tokio::spawn(async move {
        stop.cancelled().await;
        draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(linger).await;
        ended.cancel();
    });
    end
}

/// What follows from the client's events: waiting requests wake, listeners follow, sinks follow the settings.
fn notifier(
    shared: &Shared,
    sinks: &Sinks,
    changed: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn Fn(Event) + Send + Sync> {
    let (shared, sinks) = (shared.clone(), sinks.clone());
    let in_use = Mutex::new(None::<MeshSettings>);
    Arc::new(move |event| match event {
        Event::Swapped(roots) => {
            shared.metrics.count(Counter::ConfigUpdates);
            if let Some(own) = shared.snapshot.load().own().map(crate::snapshot::Own::model) {
                let mut in_use = in_use.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if in_use.as_ref() != Some(&own.mesh) {
                    sinks.redirect(outputs(own, &sinks.metrics));
                    *in_use = Some(own.mesh.clone());
                }
            }
            changed();
            roots.iter().for_each(|root| shared.demand.answered(root));
        }
        Event::Refused(key, reason) => {
            tracing::warn!(%key, reason, "refused; the last good version stays in use");
            shared.metrics.count(Counter::ConfigRefused);
        }
        Event::Certificate => {
            shared.metrics.count(Counter::Certificates);
            changed();
        }
        Event::Trust => changed(),
        Event::Connected => shared.metrics.set_connected(true),
        Event::Disconnected => {
            shared.metrics.set_connected(false);
            shared.metrics.count(Counter::StreamsLost);
        }
    })
}

/// Opens the sinks the settings name. One that cannot be opened is reported and left out: traffic goes on.
fn outputs(own: &Own, metrics: &Arc<Metrics>) -> Outputs {
    Outputs { logs: logs(own, metrics), spans: spans(own, metrics), metrics: own.mesh.metrics.clone() }
}

/// Logs into one file share its writer, so that their lines do not mix.
fn logs(own: &Own, metrics: &Arc<Metrics>) -> Vec<(LogWriter, AccessLog)> {
    let mut logs = Vec::<(LogWriter, AccessLog)>::new();
    for log in &own.mesh.access_logs {
        let open = logs.iter().find(|(_, known)| known.path == log.path).map(|(writer, _)| writer.clone());
        match open.map_or_else(|| LogWriter::open(&log.path, Arc::clone(metrics)), Ok) {
            Ok(writer) => logs.push((writer, log.clone())),
            Err(error) => tracing::warn!(%error, path = log.path, "no access log"),
        }
    }
    logs
}

/// Both sides share an exporter when they send to one receiver.
fn spans(own: &Own, metrics: &Arc<Metrics>) -> Vec<(Side, SpanSender)> {
    let mut senders = Vec::<(&str, Side, SpanSender)>::new();
    for tracing in &own.mesh.tracing {
        let Some(endpoint) = tracing.endpoint.as_deref() else { continue };
        let known = senders.iter().find(|(known, ..)| *known == endpoint);
        let sender = match known {
            Some((.., sender)) => Ok(sender.with_tags_of(tracing)),
            None => SpanSender::start(endpoint, tracing, &own.workload, Arc::clone(metrics)),
        };
        match sender {
            Ok(sender) => senders.push((endpoint, tracing.side, sender)),
            Err(error) => tracing::warn!(%error, endpoint, "no span export"),
        }
    }
    senders.into_iter().map(|(_, side, sender)| (side, sender)).collect()
}

/// Starts the three servers; they end with the returned guards or with the process.
async fn serve_pages(
    shared: &Shared,
    stop: &CancellationToken,
) -> io::Result<[tokio_util::sync::DropGuard; 3]> {
    let start = async |address: Ipv4Addr, port: u16, pages: crate::daemon::Admin| {
        let listener = TcpListener::bind(SocketAddr::from((address, port))).await?;
        let end = CancellationToken::new();
        tokio::spawn(pages.serve(listener, end.clone()));
        io::Result::Ok(end.drop_guard())
    };
    let everywhere = Ipv4Addr::UNSPECIFIED;
    Ok([
        start(Ipv4Addr::LOCALHOST, ADMIN_PORT, pages::admin(shared, stop.clone())).await?,
        start(everywhere, HEALTH_PORT, pages::health(shared)).await?,
        start(everywhere, METRICS_PORT, pages::metrics(shared)).await?,
    ])
}
