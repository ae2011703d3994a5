//! The process's own log, on standard error; the access log is telemetry's.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, in the syntax of `tracing_subscriber::EnvFilter`; default `info`.
pub const FILTER: &str = "MESH_LOG";
/// Environment variable: `json` writes objects instead of text.
pub const FORMAT: &str = "MESH_LOG_FORMAT";

/// Starts logging. Call it once, first thing in `main`; a second call changes nothing.
///
/// A filter that cannot be read is reported and replaced by the default.
pub fn init() {
    let text = std::env::var(FILTER).unwrap_or_else(|_| "info".to_owned());
    let (filter, refused) = match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let started = match std::env::var(FORMAT).as_deref() {
        Ok("json") => builder.json().try_init(),
        _ => builder.try_init(),
    };
    if let Some(error) = refused {
        tracing::warn!(%error, filter = text, "{FILTER} is not a filter; logging at info");
    }
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
