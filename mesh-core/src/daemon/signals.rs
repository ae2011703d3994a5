//! Signals that end the process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at once, with the status a
/// shell reports for it: whoever sends it does not want to wait for the drain.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let status = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if asked {
                std::process::exit(status);
            }
            asked = true;
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(token)
}
