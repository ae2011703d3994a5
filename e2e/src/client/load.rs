//! `mesh-echo load`: an open-loop generator.
//!
//! Requests have a schedule, and latency counts from the scheduled time, not from when a connection became free.
//! A server that stalls is therefore charged for everything it kept waiting (no coordinated omission).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::connect::{HttpClient, HttpOptions, http_client};
use super::print_json;
use super::request::{Answer, RequestOptions};
use super::tally::{COUNT_BY, Tally, key};
use crate::units::parse_duration;

/// Width of one window of the timeline.
const WINDOW: Duration = Duration::from_millis(100);
/// Longest latency that is told apart, in microseconds.
const MAX_LATENCY: u64 = 3_600_000_000;

/// Arguments of `load`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: RequestOptions,
    #[command(flatten)]
    http: HttpOptions,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Connections to spread them over.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How long to go on.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Count answers by this response header, or by a place in the JSON body (`/calls/0/answer/version`).
    #[arg(long, default_value = COUNT_BY)]
    count_by: String,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    tally: Tally,
    seconds: f64,
    latency_ms: Latency,
    /// Windows of 100 ms by the time an answer came, counted like `counts`.
    timeline: Vec<BTreeMap<String, u64>>,
}

#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// Sends at the given rate and prints the report.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.rate > 0.0, "--rate must be above 0");
    let client = http_client(&arguments.http)?;
    let load = Load {
        start: Instant::now(),
        next: AtomicU64::new(0),
        seen: RefCell::new(Seen {
            tally: Tally::default(),
            latencies: Histogram::new_with_max(MAX_LATENCY, 3)?,
            timeline: Vec::new(),
        }),
        arguments,
    };
    join_all((0..load.arguments.connections.max(1)).map(|_| load.send_in_turn(&client))).await;
    print_json(&load.report())
}

struct Load {
    arguments: Arguments,
    start: Instant,
    next: AtomicU64,
    // Everything runs on one thread, and no borrow lives across an await.
    seen: RefCell<Seen>,
}

struct Seen {
    tally: Tally,
    latencies: Histogram<u64>,
    timeline: Vec<BTreeMap<String, u64>>,
}

impl Load {
    /// One connection's worth of work: takes the next scheduled request as soon as it is free.
    async fn send_in_turn(&self, client: &HttpClient) {
        while let Some(scheduled) = self.next_scheduled() {
            sleep_until(scheduled).await;
            let answer = self.arguments.request.send(client).await;
            self.count(scheduled, &answer);
        }
    }

    fn next_scheduled(&self) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "no run sends 2^52 requests")]
        let number = self.next.fetch_add(1, Ordering::Relaxed) as f64;
        let offset = Duration::from_secs_f64(number / self.arguments.rate);
        (offset < self.arguments.duration).then(|| self.start + offset)
    }

    fn count(&self, scheduled: Instant, answer: &Answer) {
        let mut seen = self.seen.borrow_mut();
        let latency = u64::try_from(scheduled.elapsed().as_micros()).unwrap_or(MAX_LATENCY);
        seen.latencies.saturating_record(latency);
        seen.tally.add(answer, &self.arguments.count_by);
        let window =
            usize::try_from(self.start.elapsed().as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX - 1);
        if seen.timeline.len() <= window {
            seen.timeline.resize_with(window + 1, BTreeMap::new);
        }
        let who = key(answer, &self.arguments.count_by).unwrap_or_else(|| "none".to_owned());
        *seen.timeline[window].entry(who).or_default() += 1;
    }

    fn report(self) -> Report {
        let seconds = self.start.elapsed().as_secs_f64();
        let seen = self.seen.into_inner();
        let at = |quantile| milliseconds(seen.latencies.value_at_quantile(quantile));
        let latency_ms = Latency {
            mean: seen.latencies.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: milliseconds(seen.latencies.max()),
        };
        Report { tally: seen.tally, seconds, latency_ms, timeline: seen.timeline }
    }
}

#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}
