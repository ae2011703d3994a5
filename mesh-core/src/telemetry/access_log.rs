//! The access log: Istio's text format unchanged, or JSON with the same keys plus `source`, `destination` and
//! `trace_id`.
//!
//! A worker formats into its own buffer; full buffers go over a bounded queue to one writer thread. When the writer is
//! behind, lines are dropped and counted: a slow disk never slows a request.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::metrics::{Counter, Metrics};
use super::record::{LoggedRequest, Record};
use crate::message::Version;
use crate::model::{AccessLogFormat, Workload};

/// Buffers under way to the writer.
const QUEUE: usize = 256;
/// A worker hands its buffer over at this size, in bytes.
const BATCH: usize = 16 * 1024;

/// The way to the writer thread.
#[derive(Clone)]
pub struct LogWriter {
    sender: SyncSender<String>,
    metrics: Arc<Metrics>,
}

impl LogWriter {
    /// Opens `path` (`/dev/stdout` for standard output) and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(path: &str, metrics: Arc<Metrics>) -> io::Result<Self> {
        let sink: Box<dyn io::Write + Send> = match path {
            "/dev/stdout" => Box::new(io::stdout()),
            "/dev/stderr" => Box::new(io::stderr()),
            path => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
        };
        Self::to(sink, metrics)
    }

    /// Writes to `sink`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(sink: Box<dyn io::Write + Send>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let counts = Arc::clone(&metrics);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&receiver, sink, &counts))?;
        Ok(Self { sender, metrics })
    }
}

fn write_all(receiver: &Receiver<String>, mut sink: Box<dyn io::Write + Send>, metrics: &Metrics) {
    while let Ok(lines) = receiver.recv() {
        if sink.write_all(lines.as_bytes()).and_then(|()| sink.flush()).is_err() {
            metrics.count(Counter::LogDropped);
        }
    }
}

/// A worker's unwritten lines.
pub(super) struct LogBuffer {
    writer: LogWriter,
    format: AccessLogFormat,
    lines: String,
}

impl LogBuffer {
    pub(super) fn new(writer: LogWriter, format: AccessLogFormat) -> Self {
        Self { writer, format, lines: String::new() }
    }

    pub(super) fn append(&mut self, record: &Record) {
        let written = match &self.format {
            AccessLogFormat::Json => write_json(&mut self.lines, record),
            AccessLogFormat::Text(None) => write_text(&mut self.lines, record),
            AccessLogFormat::Text(Some(template)) => write_template(&mut self.lines, template, record),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
        if self.lines.len() >= BATCH {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.writer.sender.try_send(std::mem::take(&mut self.lines))
        {
            self.writer.metrics.count(Counter::LogDropped);
        }
    }
}

/// Istio's default format, `pilot/pkg/model/telemetry_logging.go`.
pub const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn write_text(out: &mut String, record: &Record) -> fmt::Result {
    write_template(out, DEFAULT_TEXT, record)
}

/// Fills in `%OPERATOR%`s; one that is not known is written as `-`, as a missing value is.
fn write_template(out: &mut String, template: &str, record: &Record) -> fmt::Result {
    let mut rest = template;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        let Some(length) = rest[start + 1..].find('%') else { break };
        write_operator(out, &rest[start + 1..start + 1 + length], record)?;
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    if !template.ends_with('\n') {
        out.push('\n');
    }
    Ok(())
}

fn write_operator(out: &mut String, operator: &str, record: &Record) -> fmt::Result {
    let request = record.request.as_ref();
    let or_dash = |out: &mut String, value: Option<&dyn fmt::Display>| match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_char('-'),
    };
    let address = |out: &mut String, value: Option<SocketAddr>| match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_char('-'),
    };
    match operator {
        "START_TIME" => write!(out, "{}", Timestamp(record.started.unwrap_or(UNIX_EPOCH))),
        "REQ(:METHOD)" => or_dash(out, request.map(|r| &r.method as &dyn fmt::Display)),
        "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)" | "REQ(:PATH)" => match request {
            Some(request) => write_path(out, request),
            None => out.write_char('-'),
        },
        "PROTOCOL" => or_dash(out, request.map(|r| r.version).as_ref().map(|v| v as &dyn fmt::Display)),
        "RESPONSE_CODE" => write!(out, "{}", record.status),
        "RESPONSE_FLAGS" => out.write_str(record.flag()),
        "RESPONSE_CODE_DETAILS" => {
            let details = if request.is_some() { record.response_details() } else { "-" };
            Escaped(details.as_bytes()).write(out)
        }
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => {
            Escaped(record.transport_failure().unwrap_or("-").as_bytes()).write(out)
        }
        "BYTES_RECEIVED" => write!(out, "{}", record.received),
        "BYTES_SENT" => write!(out, "{}", record.sent),
        "DURATION" => write!(out, "{}", record.duration.as_millis()),
        "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)" => or_dash(
            out,
            record.upstream_duration.map(|d| d.as_millis()).as_ref().map(|d| d as &dyn fmt::Display),
        ),
        "REQ(X-FORWARDED-FOR)" => write_header(out, request.and_then(|r| r.forwarded_for.as_deref())),
        "REQ(USER-AGENT)" => write_header(out, request.and_then(|r| r.user_agent.as_deref())),
        "REQ(X-REQUEST-ID)" => write_header(out, request.and_then(|r| r.request_id.as_deref())),
        "REQ(:AUTHORITY)" => write_header(out, request.map(|r| &r.authority[..])),
        "UPSTREAM_HOST" => address(out, record.upstream),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => {
            or_dash(out, record.cluster.as_ref().map(|c| c as &dyn fmt::Display))
        }
        "UPSTREAM_LOCAL_ADDRESS" => address(out, record.upstream_local),
        "DOWNSTREAM_LOCAL_ADDRESS" => address(out, record.downstream_local),
        "DOWNSTREAM_REMOTE_ADDRESS" => address(out, record.downstream_remote),
        "REQUESTED_SERVER_NAME" => write_header(out, record.server_name.as_ref().map(|name| name.as_bytes())),
        "DOWNSTREAM_PEER_URI_SAN" => {
            or_dash(out, record.downstream_principal.as_ref().map(|peer| peer as &dyn fmt::Display))
        }
        "ROUTE_NAME" => or_dash(out, record.route.as_ref().map(|r| r as &dyn fmt::Display)),
        "TRACE_ID" => write!(out, "{:032x}", record.trace.trace_id),
        _ => out.write_char('-'),
    }
}

fn write_path(out: &mut String, request: &LoggedRequest) -> fmt::Result {
    Escaped(&request.path).write(out)?;
    if let Some(query) = &request.query {
        out.push('?');
        Escaped(query).write(out)?;
    }
    Ok(())
}

fn write_header(out: &mut String, value: Option<&[u8]>) -> fmt::Result {
    Escaped(value.unwrap_or(b"-")).write(out)
}

/// Bytes from the network in a text line: quotes, backslashes, control bytes and bytes over 0x7e are escaped, so that
/// nobody can forge a line.
struct Escaped<'a>(&'a [u8]);

impl Escaped<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'"' | b'\\' => {
                    out.push('\\');
                    out.push(char::from(byte));
                }
                0x20..=0x7e => out.push(char::from(byte)),
                _ => write!(out, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

fn write_json(out: &mut String, record: &Record) -> fmt::Result {
    let mut object = JsonLine { out, first: true };
    let request = record.request.as_ref();
    object.display("start_time", &Timestamp(record.started.unwrap_or(UNIX_EPOCH)))?;
    object.bytes("method", request.map(|r| r.method.as_str().as_bytes()))?;
    let path = request.map(|r| match &r.query {
        Some(query) => [&r.path[..], b"?", query].concat(),
        None => r.path.to_vec(),
    });
    object.bytes("path", path.as_deref())?;
    object.bytes("protocol", request.map(|r| r.version.as_str().as_bytes()))?;
    object.number("response_code", u64::from(record.status))?;
    object.bytes("response_flags", Some(record.flag().as_bytes()))?;
    object.bytes("response_code_details", request.map(|_| record.response_details().as_bytes()))?;
    object.bytes("upstream_transport_failure_reason", record.transport_failure().map(str::as_bytes))?;
    if let Some(denial) = record.dry_run.as_deref() {
        object.bytes("authorization_dry_run", Some(denial.as_bytes()))?;
    }
    object.number("bytes_received", record.received)?;
    object.number("bytes_sent", record.sent)?;
    object.number("duration", millis(record.duration))?;
    object.number("upstream_service_time", record.upstream_duration.map_or(0, millis))?;
    object.bytes("x_forwarded_for", request.and_then(|r| r.forwarded_for.as_deref()))?;
    object.bytes("user_agent", request.and_then(|r| r.user_agent.as_deref()))?;
    object.bytes("request_id", request.and_then(|r| r.request_id.as_deref()))?;
    object.bytes("authority", request.map(|r| &r.authority[..]))?;
    object.address("upstream_host", record.upstream)?;
    object.bytes("upstream_cluster", record.cluster.as_ref().map(|c| c.as_bytes()))?;
    object.address("upstream_local_address", record.upstream_local)?;
    object.address("downstream_local_address", record.downstream_local)?;
    object.address("downstream_remote_address", record.downstream_remote)?;
    if let Some(peer) = &record.downstream_principal {
        object.display("downstream_peer_uri_san", peer)?;
    }
    object.bytes("requested_server_name", record.server_name.as_ref().map(|name| name.as_bytes()))?;
    object.bytes("route_name", record.route.as_ref().map(|route| route.as_bytes()))?;
    object.display("source", &WorkloadName(record.source.as_deref()))?;
    object.display("destination", &WorkloadName(record.destination.as_deref()))?;
    object.display("trace_id", &format_args!("{:032x}", record.trace.trace_id))?;
    out.push_str("}\n");
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct JsonLine<'a> {
    out: &'a mut String,
    first: bool,
}

impl JsonLine<'_> {
    fn key(&mut self, key: &str) -> fmt::Result {
        let separator = if std::mem::take(&mut self.first) { '{' } else { ',' };
        write!(self.out, "{separator}\"{key}\":")
    }

    fn number(&mut self, key: &str, value: u64) -> fmt::Result {
        self.key(key)?;
        write!(self.out, "{value}")
    }

    /// A text that holds nothing to escape.
    fn display(&mut self, key: &str, value: &dyn fmt::Display) -> fmt::Result {
        self.key(key)?;
        write!(self.out, "\"{value}\"")
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) -> fmt::Result {
        match value {
            Some(value) => self.display(key, &value),
            None => self.bytes(key, None),
        }
    }

    fn bytes(&mut self, key: &str, value: Option<&[u8]>) -> fmt::Result {
        self.key(key)?;
        let Some(value) = value else { return self.out.write_str("null") };
        self.out.push('"');
        for character in String::from_utf8_lossy(value).chars() {
            match character {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                character if character.is_control() => write!(self.out, "\\u{:04x}", u32::from(character))?,
                character => self.out.push(character),
            }
        }
        self.out.write_char('"')
    }
}

/// `frontend.default.svc`: the canonical service and namespace of a workload.
struct WorkloadName<'a>(Option<&'a Workload>);

impl fmt::Display for WorkloadName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(workload) if !workload.app.is_empty() => {
                write!(f, "{}.{}.svc", workload.app, workload.namespace)
            }
            _ => f.write_str("unknown"),
        }
    }
}

/// `2026-11-23T00:12:08.123Z`.
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            since.subsec_millis()
        )
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, by counting 400-year eras that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for crate::message::Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
pub(super) fn line(format: &AccessLogFormat, record: &Record) -> String {
    let mut out = String::new();
    match format {
        AccessLogFormat::Json => write_json(&mut out, record),
        AccessLogFormat::Text(None) => write_text(&mut out, record),
        AccessLogFormat::Text(Some(template)) => write_template(&mut out, template, record),
    }
    .expect("a String takes everything");
    out
}
