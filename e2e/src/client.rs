//! Small clients, so that tests need no other program inside a pod.

use std::io::Write;

pub(crate) mod connect;
pub(crate) mod get;
pub(crate) mod grpc;
pub(crate) mod load;
mod request;
mod tally;
pub(crate) mod tcp;
pub(crate) mod websocket;

/// Prints a result as one JSON document.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(value)?);
    Ok(())
}

/// Prints a line; a reader that has gone away is no error.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
