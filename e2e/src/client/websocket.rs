//! `mesh-echo ws`: messages over one WebSocket.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::print_line;
use crate::units::parse_duration;

/// Arguments of `ws`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to connect: `ws://HOST:PORT/PATH`.
    url: http::Uri,
    /// What to send; `whoami` asks for the name of the pod.
    text: String,
    /// How many messages to send, each after the reply to the one before.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Pause between messages.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    interval: Duration,
    /// Connect here, whatever the URL says; Host still follows the URL.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,
    /// Deadline of each step.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    timeout: Duration,
}

/// Sends the messages and prints each reply as it comes.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let opened = tokio::time::timeout(arguments.timeout, open(&arguments)).await;
    let mut socket = opened.context("no WebSocket in time")??;
    for number in 0..arguments.repeat {
        if number > 0 {
            tokio::time::sleep(arguments.interval).await;
        }
        let exchanged = tokio::time::timeout(arguments.timeout, exchange(&mut socket, &arguments.text)).await;
        print_line(&exchanged.context("no reply in time")??);
    }
    // The replies are in: a failed farewell changes nothing.
    let _ = tokio::time::timeout(arguments.timeout, socket.close(None)).await;
    Ok(())
}

async fn open(arguments: &Arguments) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let host = arguments.url.host().context("the URL names no host")?;
    let address = format!("{host}:{}", arguments.url.port_u16().unwrap_or(80));
    let address = arguments.connect.as_ref().unwrap_or(&address);
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (socket, _) = client_async(arguments.url.clone(), stream).await.context("upgrade refused")?;
    Ok(socket)
}

async fn exchange(socket: &mut WebSocketStream<TcpStream>, text: &str) -> anyhow::Result<String> {
    socket.send(Message::text(text)).await.context("cannot send")?;
    while let Some(message) = socket.next().await {
        match message.context("connection broken")? {
            Message::Text(text) => return Ok(text.as_str().to_owned()),
            Message::Close(_) => break,
            _ => {}
        }
    }
    bail!("the server closed the WebSocket")
}
