//! `mesh-echo tcp`: a line over TCP and what comes back.

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::print_line;
use crate::units::parse_duration;

/// Longest answer read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Arguments of `tcp`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to connect.
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// What to send; `whoami` asks for the name of the pod.
    text: String,
    /// Send nothing before the server has spoken.
    #[arg(long)]
    server_first: bool,
    /// Deadline of the whole exchange.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    timeout: Duration,
}

/// Sends the text, closes the sending half, and prints all that comes until the server closes.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let answer = timeout(arguments.timeout, exchange(&arguments)).await.context("no answer in time")??;
    print_line(String::from_utf8_lossy(&answer).trim_end());
    Ok(())
}

async fn exchange(arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let connect = TcpStream::connect(&arguments.address);
    let mut stream = connect.await.with_context(|| format!("cannot connect to {}", arguments.address))?;
    let mut answer = Vec::new();
    if arguments.server_first {
        let mut greeting = [0; 1024];
        let count = stream.read(&mut greeting).await.context("no greeting")?;
        answer.extend_from_slice(&greeting[..count]);
    }
    stream.write_all(format!("{}\n", arguments.text).as_bytes()).await.context("cannot send")?;
    stream.shutdown().await.context("cannot half-close")?;
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.context("connection broken")?;
    Ok(answer)
}
