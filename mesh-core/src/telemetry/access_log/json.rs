//! The default JSON log: Istio's keys plus `source`, `destination` and `trace_id`.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::time::Timestamp;
use crate::digits::{append_address, append_decimal, append_hexadecimal};
use crate::model::Workload;
use crate::telemetry::record::{LoggedRequest, Record};

pub(super) fn write_default(out: &mut String, record: &Record) -> fmt::Result {
    let mut object = JsonLine { out, first: true };
    let request = record.request.as_ref();
    object.display("start_time", &Timestamp(record.started.unwrap_or(UNIX_EPOCH)))?;
    object.bytes("method", request.map(|r| r.method.as_str().as_bytes()))?;
    let path = request.map(LoggedRequest::path_and_query);
    object.bytes("path", path.as_deref())?;
    object.bytes("protocol", request.map(|r| r.version.as_str().as_bytes()))?;
    object.number("response_code", u64::from(record.status));
    object.bytes("response_flags", Some(record.flag().as_bytes()))?;
    object.bytes("response_code_details", request.map(|_| record.response_details().as_bytes()))?;
    object.bytes("upstream_transport_failure_reason", record.transport_failure().map(str::as_bytes))?;
    if let Some(denial) = record.dry_run.as_deref() {
        object.bytes("authorization_dry_run", Some(denial.as_bytes()))?;
    }
    object.number("bytes_received", record.received);
    object.number("bytes_sent", record.sent);
    object.number("duration", millis(record.duration));
    object.number("upstream_service_time", record.upstream_duration.map_or(0, millis));
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
    object.workload("source", record.source.as_deref())?;
    object.workload("destination", record.destination.as_deref())?;
    object.trace("trace_id", record.trace.trace_id);
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
    fn key(&mut self, key: &str) {
        self.out.push_str(if std::mem::take(&mut self.first) { "{\"" } else { ",\"" });
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        append_decimal(self.out, value);
    }

    /// `frontend.default.svc`: the canonical service and namespace.
    fn workload(&mut self, key: &str, workload: Option<&Workload>) -> fmt::Result {
        self.key(key);
        match workload.filter(|workload| !workload.app.is_empty()) {
            Some(workload) => {
                self.out.push('"');
                write_escaped(self.out, workload.app.as_bytes())?;
                self.out.push('.');
                write_escaped(self.out, workload.namespace.as_bytes())?;
                self.out.push_str(".svc\"");
            }
            None => self.out.push_str("\"unknown\""),
        }
        Ok(())
    }

    fn trace(&mut self, key: &str, id: u128) {
        self.key(key);
        self.out.push('"');
        append_hexadecimal(self.out, id);
        self.out.push('"');
    }

    /// A text that holds nothing to escape.
    fn display(&mut self, key: &str, value: &dyn fmt::Display) -> fmt::Result {
        self.key(key);
        write!(self.out, "\"{value}\"")
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) -> fmt::Result {
        match value {
            Some(value) => {
                self.key(key);
                self.out.push('"');
                append_address(self.out, value);
                self.out.push('"');
                Ok(())
            }
            None => self.bytes(key, None),
        }
    }

    fn bytes(&mut self, key: &str, value: Option<&[u8]>) -> fmt::Result {
        self.key(key);
        let Some(value) = value else { return self.out.write_str("null") };
        self.out.push('"');
        write_escaped(self.out, value)?;
        self.out.write_char('"')
    }
}

/// Whether nothing of it has to be escaped, as in nearly all values. Without a branch per byte, so that several are looked
/// at at once.
pub(super) fn is_plain(value: &[u8]) -> bool {
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) & (byte != b'"') & (byte != b'\\');
    value.iter().fold(true, |all, &byte| all & plain(byte))
}

/// Bytes within a JSON string.
pub(super) fn write_escaped(out: &mut String, value: &[u8]) -> fmt::Result {
    if is_plain(value) {
        out.push_str(str::from_utf8(value).unwrap_or_default());
        return Ok(());
    }
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_control() => write!(out, "\\u{:04x}", u32::from(character))?,
            character => out.push(character),
        }
    }
    Ok(())
}
