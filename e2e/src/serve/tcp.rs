//! TCP ports: every byte comes back, half-close included. `whoami` on the first line asks for the pod's name; a
//! greeting makes it a protocol in which the server speaks first.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{App, Drain};

const IDLE_DEADLINE: Duration = Duration::from_secs(600);
const BUFFER: usize = 16 << 10;

/// Echoes until the client has finished or the server stops.
pub(super) async fn serve(app: &App, mut stream: TcpStream, mut drain: Drain) {
    tokio::select! {
        // An error is the client's going away: nothing is left to do for it.
        _ = echo(app, &mut stream) => {}
        () = drain.stopped() => {}
    }
}

async fn echo(app: &App, stream: &mut TcpStream) -> std::io::Result<()> {
    if let Some(greeting) = &app.settings.greeting {
        stream.write_all(format!("{greeting} {}\n", app.pod.pod).as_bytes()).await?;
    }
    let mut buffer = vec![0; BUFFER];
    let mut first = true;
    loop {
        let count = timeout(IDLE_DEADLINE, stream.read(&mut buffer)).await??;
        let received = &buffer[..count];
        if received.is_empty() {
            return stream.shutdown().await;
        }
        if first && received.trim_ascii_end() == b"whoami" {
            stream.write_all(format!("{}\n", app.pod.pod).as_bytes()).await?;
        } else {
            timeout(IDLE_DEADLINE, stream.write_all(received)).await??;
        }
        first = false;
    }
}
