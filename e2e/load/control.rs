//! `mesh-bench control`: what a control plane needs for many proxies in a large cluster.
//!
//! The control plane is the real one and reads files, or follows a real API server; the proxies are real gRPC streams
//! without a data plane, each of a pod of its own, and each uses ten services of its own choice and one that all of them use.
//! Times count from the moment when a file is in place, or when the API server is asked to change an EndpointSlice, to the
//! moment when a proxy has the change and acknowledges it. Where there is an API server, the same is told of somebody who does
//! nothing but watch it, for on a machine that it fills no control plane can be faster.

mod cluster;
mod objects;
mod proxies;

use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use serde::Serialize;

use crate::mesh::ControlPlane;
use crate::process::Running;
use cluster::Cluster;
use proxies::{Plane, Proxy, Tally};

/// Services that each proxy uses besides the one that all use.
const USED: usize = 10;
/// The service that all use.
const HUB: usize = 0;
/// Longer, and something is wrong.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two changes that are timed during the storm.
const PAUSE: Duration = Duration::from_millis(250);

/// How large a cluster, and how much of it changes.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// Follow an API server, started for this from the binaries in KUBEBUILDER_ASSETS, instead of files
    #[arg(long)]
    kubernetes: bool,
    /// Simulated proxies
    #[arg(long, default_value_t = 1000)]
    proxies: usize,
    /// Services
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// Pods behind all services together; at least two for each
    #[arg(long, default_value_t = 100_000)]
    endpoints: usize,
    /// Endpoints that change per second during the storm
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Seconds of storm
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Objects that make no sense, written per second into a namespace of their own for as long as the storm, while single changes
    /// elsewhere are timed, as they are for as long before
    #[arg(long)]
    bad: Option<u32>,
    /// `text` or `json`
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// One thing that was done, and what it took.
#[derive(Serialize)]
struct Step {
    what: String,
    seconds: f64,
    /// Messages and bytes that the proxies got.
    updates: u64,
    bytes: u64,
    /// Of the control plane, in seconds.
    processor: f64,
    /// Of the control plane afterwards, in bytes (PSS).
    memory: u64,
    /// Times of single changes, sorted, in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<f64>,
    /// The same until somebody saw them who does nothing but watch the API server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    watched: Vec<f64>,
}

/// Does it all and prints what it took.
pub(crate) async fn measure(size: &Size) -> anyhow::Result<()> {
    ensure!(size.proxies <= size.services, "there are fewer services than proxies, and each is of its own");
    ensure!(size.endpoints >= 2 * size.services, "each service needs two endpoints at least");
    let folder = tempfile::tempdir()?;
    eprintln!("writing {} services with {} endpoints", size.services, size.endpoints);
    let cluster = Arc::new(Cluster::create(size, folder.path()).await?);
    let control = cluster.control_plane(folder.path()).await?;
    let mut bench =
        Bench { control: &control, cluster: &cluster, size, tally: Rc::default(), steps: Vec::new() };
    bench.read().await?;
    let proxies = bench.connect().await?;
    let proxies = bench.reconnect(proxies).await?;
    bench.change(bench.probe()).await?;
    bench.change(HUB).await?;
    bench.storm().await?;
    if let Some(rate) = size.bad {
        bench.bad_objects(rate).await?;
    }
    drop(proxies);
    bench.print()
}

struct Bench<'a> {
    control: &'a ControlPlane,
    cluster: &'a Arc<Cluster>,
    size: &'a Size,
    tally: Rc<Tally>,
    steps: Vec<Step>,
}

/// A step that has begun.
struct Begun {
    at: Instant,
    processor: Duration,
}

/// Single changes in the midst of something.
struct Timed {
    begun: Begun,
    took: Duration,
    /// In milliseconds.
    changes: Vec<f64>,
    watched: Vec<f64>,
    /// Times that the something happened.
    written: usize,
}

impl<'a> Bench<'a> {
    const fn process(&self) -> &'a Running {
        &self.control.process
    }

    fn plane(&self) -> Plane<'a> {
        Plane { address: self.control.address, root: &self.control.root, cluster: self.cluster }
    }

    fn begin(&self, watched: usize) -> Begun {
        self.tally.restart(watched);
        Begun { at: Instant::now(), processor: self.process().processor_time() }
    }

    fn end(&mut self, what: impl Into<String>, begun: &Begun, took: Duration, mut changes: Vec<f64>) {
        changes.sort_by(f64::total_cmp);
        let (updates, bytes) = self.tally.received();
        let processor = self.process().processor_time().saturating_sub(begun.processor).as_secs_f64();
        let memory = self.process().memory();
        let what = what.into();
        eprintln!("{what}: {:.3} s", took.as_secs_f64());
        self.steps.push(Step {
            what,
            seconds: took.as_secs_f64(),
            updates,
            bytes,
            processor,
            memory,
            changes,
            watched: Vec::new(),
        });
    }

    fn end_timed(&mut self, what: String, timed: Timed) {
        let Timed { begun, took, changes, mut watched, .. } = timed;
        self.end(what, &begun, took, changes);
        watched.sort_by(f64::total_cmp);
        if let Some(step) = self.steps.last_mut() {
            step.watched = watched;
        }
    }

    /// Services that a proxy uses: neighbours of its own, so that each service has about as many users as another.
    fn used(&self, proxy: usize) -> impl Iterator<Item = usize> + use<> {
        let services = self.size.services;
        (1..=USED).map(move |at| (proxy + at) % services).filter(|used| *used != HUB).chain([HUB])
    }

    /// Waits until the control plane has read everything: before that it does not know the proxies' pods.
    async fn read(&mut self) -> anyhow::Result<()> {
        let (begun, last) = (self.begin(HUB), self.cluster.services() - 1);
        while let Err(error) = Proxy::connect(&self.plane(), &Rc::default(), last, std::iter::empty()).await {
            if begun.at.elapsed() > PATIENCE {
                return Err(error.context("the control plane has not read everything"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.end(
            format!("reading {} services", self.cluster.services()),
            &begun,
            begun.at.elapsed(),
            Vec::new(),
        );
        Ok(())
    }

    async fn connect(&mut self) -> anyhow::Result<Vec<Proxy>> {
        let begun = self.begin(HUB);
        let plane = self.plane();
        let connecting = (0..self.size.proxies).map(|p| Proxy::connect(&plane, &self.tally, p, self.used(p)));
        let proxies = try_join_all(connecting).await.context("connecting the proxies")?;
        self.tally.complete(self.size.proxies, PATIENCE).await?;
        let what = format!("{} new proxies at once", proxies.len());
        self.end(what, &begun, begun.at.elapsed(), Vec::new());
        Ok(proxies)
    }

    async fn reconnect(&mut self, proxies: Vec<Proxy>) -> anyhow::Result<Vec<Proxy>> {
        let begun = self.begin(HUB);
        let plane = self.plane();
        let connecting = proxies.into_iter().map(|proxy| proxy.reconnect(&plane, &self.tally));
        let proxies = try_join_all(connecting).await.context("connecting the proxies anew")?;
        self.end(
            format!("{} proxies come back at once", proxies.len()),
            &begun,
            begun.at.elapsed(),
            Vec::new(),
        );
        Ok(proxies)
    }

    /// One endpoint of a service changes; all its users are told.
    async fn change(&mut self, service: usize) -> anyhow::Result<()> {
        let users = self.users(service);
        let (begun, mut changes) = (self.begin(service), Vec::new());
        let mut took = Duration::ZERO;
        for instance in 1..=10 {
            let (_, one) = self.time(service, instance, users * instance).await?;
            took += one;
            changes.push(one.as_secs_f64() * 1000.0);
        }
        self.end(format!("an endpoint that {users} proxies use, ten times"), &begun, took, changes);
        Ok(())
    }

    /// Changes an endpoint and waits for so many arrivals in all; from when the change counts, and how long they took.
    async fn time(
        &self,
        service: usize,
        instance: usize,
        arrivals: usize,
    ) -> anyhow::Result<(Instant, Duration)> {
        let written = self.cluster.write(service, instance).await?;
        let last = self.tally.arrived(arrivals, PATIENCE).await?;
        Ok((written, last.saturating_duration_since(written)))
    }

    /// A service that a few proxies use.
    fn probe(&self) -> usize {
        (self.size.proxies / 2).max(1)
    }

    /// Proxies that use a service.
    fn users(&self, service: usize) -> usize {
        (0..self.size.proxies).filter(|proxy| self.used(*proxy).any(|used| used == service)).count()
    }

    /// Endpoints all over the cluster change; meanwhile changes of one service are timed.
    async fn storm(&mut self) -> anyhow::Result<()> {
        let write = Write::Endpoint { spared: self.probe() };
        let timed = self.time_beside(Some((write, self.size.rate)), 100).await?;
        self.end_timed(format!("{} endpoints change elsewhere", timed.written), timed);
        Ok(())
    }

    /// Changes of one service are timed while nothing else happens, and then while objects that make no sense are written.
    async fn bad_objects(&mut self, rate: u32) -> anyhow::Result<()> {
        let quiet = self.time_beside(None, 20_000).await?;
        self.end_timed("nothing else happens".to_owned(), quiet);
        let timed = self.time_beside(Some((Write::Bad, rate)), 40_000).await?;
        self.end_timed(format!("{} bad objects are written elsewhere", timed.written), timed);
        Ok(())
    }

    /// Times changes of one service, the first as the instance of that number, for as long as a storm lasts, while
    /// something is written so many times per second.
    async fn time_beside(&self, storm: Option<(Write, u32)>, instance: usize) -> anyhow::Result<Timed> {
        let probe = self.probe();
        let users = self.users(probe);
        let watcher = self.cluster.watcher(probe)?;
        let begun = self.begin(probe);
        let storm = storm.map(|(write, rate)| Storm::start(self.cluster, write, rate));
        let (mut changes, mut written) = (Vec::new(), Vec::new());
        let end = begun.at + Duration::from_secs(self.size.seconds);
        while Instant::now() < end {
            let number = changes.len();
            let (at, one) = self.time(probe, instance + number, users * (number + 1)).await?;
            written.push(at);
            changes.push(one.as_secs_f64() * 1000.0);
            tokio::time::sleep(PAUSE).await;
        }
        let took = begun.at.elapsed();
        let watched = match watcher {
            // It may have come to watch after the first.
            Some(watcher) => watcher.took(&written[1.min(written.len())..]).await?,
            None => Vec::new(),
        };
        let written = match storm {
            Some(storm) => storm.stop().await?,
            None => 0,
        };
        Ok(Timed { begun, took, changes, watched, written })
    }

    fn print(&self) -> anyhow::Result<()> {
        let text = match self.size.output.as_str() {
            "json" => serde_json::to_string_pretty(&self.steps)? + "\n",
            _ => self.steps.iter().map(Step::text).collect(),
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

/// What a storm does again and again.
#[derive(Clone, Copy)]
enum Write {
    /// Changes an endpoint of any service but this one and the one that all use.
    Endpoint { spared: usize },
    /// Writes one more object that makes no sense.
    Bad,
}

impl Write {
    async fn once(self, cluster: &Cluster, number: usize) -> anyhow::Result<()> {
        match self {
            Self::Endpoint { spared } => {
                let mut service = spared;
                while service == spared || service == HUB {
                    service = fastrand::usize(..cluster.services());
                }
                cluster.write(service, 1000 + number).await.map(drop)
            }
            Self::Bad => cluster.write_bad(number).await,
        }
    }
}

/// A thread that writes at a fixed rate.
struct Storm {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<usize>>,
}

impl Storm {
    fn start(cluster: &Arc<Cluster>, write: Write, rate: u32) -> Self {
        let (cluster, over) = (Arc::clone(cluster), Arc::<AtomicBool>::default());
        let stop = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(Self::blow(&cluster, write, rate, &stop))
        });
        Self { over, thread }
    }

    async fn blow(cluster: &Cluster, write: Write, rate: u32, stop: &AtomicBool) -> anyhow::Result<usize> {
        let (begin, number) = (Instant::now(), Cell::new(0_usize));
        let lane = || async {
            while !stop.load(Ordering::Relaxed) {
                let own = number.replace(number.get() + 1);
                let due = begin + Duration::from_secs(1) * u32::try_from(own)? / rate;
                tokio::time::sleep_until(due.into()).await;
                write.once(cluster, own).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..cluster.lanes()).map(|_| lane())).await?;
        Ok(number.get())
    }

    /// Ends it; how many changes there were. Waits aside: connections that it uses are served by this thread.
    async fn stop(self) -> anyhow::Result<usize> {
        self.over.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the storm's thread panicked"))?
    }
}

impl Step {
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    fn text(&self) -> String {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut text = format!(
            "{}\n  {:.3} s, {} messages, {:.2} MiB; control plane {:.2} s of processor, {:.1} MiB\n",
            self.what,
            self.seconds,
            self.updates,
            mebibytes(self.bytes),
            self.processor,
            mebibytes(self.memory)
        );
        text += &spread("one change", &self.changes);
        text += &spread("until somebody saw it who only watches", &self.watched);
        text
    }
}

/// Of times in milliseconds, sorted; nothing of none.
fn spread(what: &str, times: &[f64]) -> String {
    let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
        return String::new();
    };
    let late = times[(times.len() * 99 / 100).min(times.len() - 1)];
    format!("  {what}: {middle:.1} ms median, {late:.1} ms p99, {worst:.1} ms at most, of {}\n", times.len())
}
