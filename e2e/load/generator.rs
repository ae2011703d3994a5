//! Load: requests on a schedule over connections that are kept, and how long each took from its scheduled time.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::find;
use crate::case::Case;

/// The host that all subjects route by.
pub(crate) const HOST: &str = "bench.example";
/// Longest latency that is told apart, in microseconds.
const MAX_LATENCY: u64 = 60_000_000;
/// For one request; one that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

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
    connections: Vec<TcpStream>,
}

impl Generator {
    /// Connects, and sends one request on each connection, so that nothing is new when it counts.
    pub(crate) async fn open(address: SocketAddr, case: Case) -> anyhow::Result<Self> {
        let mut connections = Vec::with_capacity(case.connections);
        for _ in 0..case.connections {
            let stream = TcpStream::connect(address).await.context("cannot connect")?;
            stream.set_nodelay(true)?;
            connections.push(stream);
        }
        let mut generator = Self { case, request: request(case), connections };
        let mut buffer = Vec::new();
        for stream in &mut generator.connections {
            exchange(stream, &generator.request, case.response, &mut buffer).await?;
        }
        Ok(generator)
    }

    /// Sends at the case's rate for a while. Any answer but the right one is an error: failures are not fast requests.
    pub(crate) async fn run(&mut self, duration: Duration) -> anyhow::Result<Load> {
        let (start, next) = (Instant::now(), Cell::new(0_u64));
        let latencies = RefCell::new(Histogram::new_with_max(MAX_LATENCY, 3)?);
        let (case, request) = (self.case, &self.request);
        try_join_all(self.connections.iter_mut().map(async |stream| {
            let mut buffer = Vec::with_capacity(16 * 1024);
            loop {
                let number = next.replace(next.get() + 1);
                #[expect(clippy::cast_precision_loss, reason = "no run sends 2^52 requests")]
                let offset = Duration::from_secs_f64(number as f64 / case.rate);
                if offset >= duration {
                    return anyhow::Ok(());
                }
                let scheduled = start + offset;
                sleep_until(scheduled).await;
                exchange(stream, request, case.response, &mut buffer).await?;
                let latency = u64::try_from(scheduled.elapsed().as_micros()).unwrap_or(MAX_LATENCY);
                latencies.borrow_mut().saturating_record(latency);
            }
        }))
        .await?;
        let latencies = latencies.into_inner();
        Ok(Load { requests: latencies.len(), seconds: start.elapsed().as_secs_f64(), latencies })
    }
}

fn request(case: Case) -> Vec<u8> {
    let (method, path, body) = (if case.request == 0 { "GET" } else { "POST" }, case.response, case.request);
    let mut text = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: mesh-bench\r\naccept: */*\r\n\
         accept-encoding: gzip, deflate, br\r\ncookie: session=7f3a9c51d2e84b60\r\n"
    );
    if body > 0 {
        text.push_str(&format!("content-type: application/octet-stream\r\ncontent-length: {body}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len() + body, b'y');
    bytes
}

async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    expected: usize,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    timeout(PATIENCE, exchange_unbounded(stream, request, expected, buffer))
        .await
        .with_context(|| format!("no answer within {PATIENCE:?}"))?
}

async fn exchange_unbounded(
    stream: &mut TcpStream,
    request: &[u8],
    expected: usize,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    buffer.clear();
    let head = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "answered {:?}", String::from_utf8_lossy(&buffer[..head]));
    let mut left = length(&buffer[..head], expected)?
        .checked_sub(buffer.len() - head)
        .context("more came than was announced")?;
    while left > 0 {
        buffer.clear();
        buffer.reserve(64 * 1024);
        let read = stream.read_buf(buffer).await?;
        ensure!(read > 0, "cut within a body");
        left = left.checked_sub(read).context("more came than was announced")?;
    }
    Ok(())
}

/// The body's length, which must be the one that was asked for.
fn length(head: &[u8], expected: usize) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(head)?.to_ascii_lowercase();
    let value = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = value.context("no content-length")?.trim().parse()?;
    ensure!(length == expected, "answered {length} bytes instead of {expected}");
    Ok(length)
}
