//! The backend: answers every request with as many bytes as its path says, `/65536`.
//!
//! It does the least that is still HTTP/1.1, so that its share of the processor stays small.

use std::io::Write as _;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::grpc;

/// No response is larger.
const LARGEST: usize = 4 * 1024 * 1024;

/// Serves on a port of the system's choice, which is printed first.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut output = std::io::stdout();
    writeln!(output, "{}", listener.local_addr()?)?;
    output.flush()?;
    let filler: &'static [u8] = vec![b'x'; LARGEST].leak();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(async move {
            // A connection that breaks is the generator's to notice.
            if let Ok(true) = grpc::is_spoken(&stream).await {
                let _ = grpc::serve(stream, filler).await;
            } else {
                let _ = connection(stream, filler).await;
            }
        });
    }
}

async fn connection(mut stream: TcpStream, filler: &[u8]) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let head = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let request = std::str::from_utf8(&buffer[..head]).context("a head that is not text")?;
        let asked = asked_length(request).min(filler.len());
        let mut body = body_length(request);
        let buffered = body.min(buffer.len() - head);
        body -= buffered;
        buffer.drain(..head + buffered);
        while body > 0 {
            buffer.reserve(16 * 1024);
            let read = stream.read_buf(&mut buffer).await?;
            anyhow::ensure!(read > 0, "cut within a body");
            let taken = body.min(buffer.len());
            buffer.drain(..taken);
            body -= taken;
        }
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {asked}\r\n\r\n")
                .into_bytes();
        if asked <= 4096 {
            answer.extend_from_slice(&filler[..asked]);
            stream.write_all(&answer).await?;
        } else {
            stream.write_all(&answer).await?;
            stream.write_all(&filler[..asked]).await?;
        }
    }
}

fn asked_length(request: &str) -> usize {
    let path = request.split(' ').nth(1).unwrap_or_default();
    path.trim_start_matches('/').parse().unwrap_or(0)
}

fn body_length(request: &str) -> usize {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    request.lines().find_map(value).unwrap_or(0)
}

/// Where a text begins.
pub(crate) fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}
