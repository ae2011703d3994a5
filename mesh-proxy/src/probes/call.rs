//! Asking: the application on the kubelet's behalf, or ourselves whether we are ready.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::check::Check;

/// A longer status line is none.
const LONGEST_LINE: u64 = 1024;
/// Between two looks at whether the proxy is ready.
const PAUSE: Duration = Duration::from_millis(100);
const HEALTH: &str = "GET /healthz/ready HTTP/1.1\r\nHost: localhost:15021\r\nConnection: close\r\n\r\n";

/// Asks what the probe asks; the reason otherwise.
pub(super) async fn perform(check: &Check, pod: IpAddr) -> Result<(), String> {
    match tokio::time::timeout(check.timeout, ask(check, pod)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer from port {} in {:?}", check.port, check.timeout)),
    }
}

async fn ask(check: &Check, pod: IpAddr) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("port {}: {error}", check.port);
    let mut stream = TcpStream::connect((pod, check.port)).await.map_err(failed)?;
    let Some(request) = &check.request else { return Ok(()) };
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line).await.map_err(failed)?;
    // As the kubelet sees it: a redirect is good too, and is not followed.
    match line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse::<u16>().ok())
    {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("the application answered {code}")),
        None => Err(format!("port {} does not speak HTTP", check.port)),
    }
}

/// Returns when the proxy of this pod is ready.
pub(crate) fn wait_until_ready(patience: Duration) -> anyhow::Result<()> {
    let check = Check { port: 15021, request: Some(HEALTH.to_owned()), timeout: Duration::from_secs(1) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until = Instant::now() + patience;
    runtime.block_on(async {
        loop {
            let Err(reason) = perform(&check, IpAddr::V4(Ipv4Addr::LOCALHOST)).await else { return Ok(()) };
            if Instant::now() >= until {
                bail!("the proxy is not ready after {patience:?}: {reason}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}
