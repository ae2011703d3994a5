//! Load: requests on a schedule over connections that are kept, and how long each took from its scheduled time.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, sleep_until};

use crate::case::{Case, Entrance};
use crate::link::{self, Link};

/// The host that all subjects route by.
pub(crate) const HOST: &str = "bench.example";
/// Longest latency that is told apart, in microseconds.
const MAX_LATENCY: u64 = 60_000_000;

/// What a stretch of load showed.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Microseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// Connections to one subject, opened once and used for one stretch after the other.
pub(crate) struct Generator {
    case: Case,
    request: Vec<u8>,
    links: Vec<Link>,
}

impl Generator {
    /// Connects, and sends one request on each connection, so that nothing is new when it counts.
    pub(crate) async fn open(
        address: SocketAddr,
        case: Case,
        certificate: &CertificateDer<'static>,
        headers: &str,
    ) -> anyhow::Result<Self> {
        let links = link::open(address, case, certificate).await?;
        let mut generator = Self { case, request: request(case, headers), links };
        for link in &mut generator.links {
            link.exchange(case, &generator.request).await?;
        }
        Ok(generator)
    }

    /// Sends so many, one after the other, on each connection in turn.
    pub(crate) async fn send(&mut self, times: u64) -> anyhow::Result<()> {
        let count = self.links.len();
        for number in 0..times {
            let at = usize::try_from(number)? % count;
            self.links[at].exchange(self.case, &self.request).await?;
        }
        Ok(())
    }

    /// Sends at the case's rate for a while. Any answer but the right one is an error: failures are not fast requests.
    pub(crate) async fn run(&mut self, duration: Duration) -> anyhow::Result<Load> {
        let (start, next) = (Instant::now(), Cell::new(0_u64));
        let latencies = RefCell::new(Histogram::new_with_max(MAX_LATENCY, 3)?);
        let (case, request) = (self.case, &self.request);
        try_join_all(self.links.iter_mut().map(async |link| {
            loop {
                let number = next.replace(next.get() + 1);
                #[expect(clippy::cast_precision_loss, reason = "no run sends 2^52 requests")]
                let offset = Duration::from_secs_f64(number as f64 / case.rate);
                if offset >= duration {
                    return anyhow::Ok(());
                }
                let scheduled = start + offset;
                sleep_until(scheduled).await;
                link.exchange(case, request).await?;
                let latency = u64::try_from(scheduled.elapsed().as_micros()).unwrap_or(MAX_LATENCY);
                latencies.borrow_mut().saturating_record(latency);
            }
        }))
        .await?;
        let latencies = latencies.into_inner();
        Ok(Load { requests: latencies.len(), seconds: start.elapsed().as_secs_f64(), latencies })
    }
}

fn request(case: Case, headers: &str) -> Vec<u8> {
    let (method, path, body) = (if case.request == 0 { "GET" } else { "POST" }, case.response, case.request);
    let mut text = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: mesh-bench\r\naccept: */*\r\n\
         accept-encoding: gzip, deflate, br\r\ncookie: session=7f3a9c51d2e84b60\r\n"
    );
    text.push_str(headers);
    if body > 0 {
        text.push_str(&format!("content-type: application/octet-stream\r\ncontent-length: {body}\r\n"));
    }
    if case.entrance == Entrance::Handshakes {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len() + body, b'y');
    bytes
}
