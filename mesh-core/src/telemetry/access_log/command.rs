//! The values of commands.

use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use super::json;
use super::time::{Timestamp, write_formatted};
use crate::digits::{append_address, append_decimal};
use crate::message::{Method, Version};
use crate::model::template::StatusForm;
use crate::model::{Command, template::Part, template::TimeFormat};
use crate::telemetry::evaluate;
use crate::telemetry::record::{LoggedRequest, Record};

/// What bytes from the network become, so that nobody can forge a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum Escape {
    /// Quotes, backslashes, control bytes and bytes over 0x7e are escaped.
    Text,
    /// As in a JSON string.
    Json,
    /// Not a line: as they are.
    Nothing,
}

impl Escape {
    pub(super) fn write(self, out: &mut String, value: &[u8]) -> fmt::Result {
        match self {
            Self::Text => write_text(out, value),
            Self::Json => json::write_escaped(out, value),
            Self::Nothing => out.write_str(&String::from_utf8_lossy(value)),
        }
    }
}

fn write_text(out: &mut String, value: &[u8]) -> fmt::Result {
    if json::is_plain(value) {
        out.push_str(str::from_utf8(value).unwrap_or_default());
        return Ok(());
    }
    for &byte in value {
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

/// Whether a command's value is a number in JSON.
pub(super) const fn is_number(command: &Command) -> bool {
    matches!(
        command,
        Command::ResponseCode
            | Command::BytesReceived
            | Command::BytesSent
            | Command::Duration
            | Command::ResponseDuration
            | Command::Attempts
            | Command::UpstreamAddress(Part::Port)
            | Command::UpstreamLocalAddress(Part::Port)
            | Command::LocalAddress(Part::Port)
            | Command::RemoteAddress(Part::Port)
            | Command::GrpcStatus(StatusForm::Number)
    )
}

/// Appends a command's value; says whether there is one.
pub(super) fn write(
    out: &mut String,
    command: &Command,
    record: &Record,
    escape: Escape,
) -> Result<bool, fmt::Error> {
    let request = record.request.as_ref();
    let mut bytes = |value: Option<&[u8]>| match value {
        Some(value) => escape.write(out, value).map(|()| true),
        None => Ok(false),
    };
    match command {
        Command::RequestHeader(first, other) => {
            match request.and_then(|it| header(it, first, other.as_deref())) {
                Some(Shown::Bytes(value)) => bytes(Some(value)),
                Some(Shown::Path(request)) => bytes(Some(&request.path_and_query())),
                None => Ok(false),
            }
        }
        Command::ResponseHeader(first, other) => match response_header(record, first, other.as_deref()) {
            Some(Response::Bytes(value)) => bytes(Some(value)),
            Some(Response::Millis(millis)) => display(out, Some(millis)),
            None => Ok(false),
        },
        Command::PathAlone => bytes(request.map(|request| &request.path[..])),
        Command::ResponseCodeDetails => bytes(request.map(|_| record.response_details().as_bytes())),
        Command::TransportFailure => bytes(record.transport_failure().map(str::as_bytes)),
        Command::UpstreamCluster => bytes(record.cluster.as_deref().map(str::as_bytes)),
        Command::ServerName => bytes(record.server_name.as_deref().map(str::as_bytes)),
        Command::RouteName => bytes(record.route.as_deref().map(str::as_bytes)),
        Command::HostName => bytes(record.own().map(|own| own.pod.as_bytes())),
        Command::Expression(expression) => {
            bytes(evaluate::text(expression, record).as_deref().map(str::as_bytes))
        }
        Command::StartTime(TimeFormat::Given(format)) => {
            write_formatted(out, format, record.started.unwrap_or(UNIX_EPOCH)).map(|()| true)
        }
        other => write_plain(out, other, record),
    }
}

/// Values that hold nothing to escape.
fn write_plain(out: &mut String, command: &Command, record: &Record) -> Result<bool, fmt::Error> {
    match command {
        Command::StartTime(_) => display(out, Some(Timestamp(record.started.unwrap_or(UNIX_EPOCH)))),
        Command::Protocol => display(out, record.request.as_ref().map(|request| request.version)),
        Command::ResponseCode => decimal(out, Some(record.status.into())),
        Command::ResponseFlags => display(out, Some(record.flag())),
        Command::BytesReceived => decimal(out, Some(record.received)),
        Command::BytesSent => decimal(out, Some(record.sent)),
        Command::Duration => display(out, Some(record.duration.as_millis())),
        Command::ResponseDuration => display(out, record.upstream_duration.map(|time| time.as_millis())),
        Command::Attempts => display(out, (record.attempts > 0).then_some(record.attempts)),
        Command::UpstreamAddress(part) => address(out, record.upstream, *part),
        Command::UpstreamLocalAddress(part) => address(out, record.upstream_local, *part),
        Command::LocalAddress(part) => address(out, record.downstream_local, *part),
        Command::RemoteAddress(part) => address(out, record.downstream_remote, *part),
        Command::PeerIdentity => display(out, record.downstream_principal.as_ref()),
        Command::OwnIdentity => display(out, record.own_principal()),
        Command::TraceId => display(out, Some(format_args!("{:032x}", record.trace.trace_id))),
        Command::SpanId => display(out, Some(format_args!("{:016x}", record.trace.span_id))),
        Command::GrpcStatus(StatusForm::Number) => display(out, record.grpc_status),
        Command::GrpcStatus(StatusForm::Name) => display(out, record.grpc_status.map(grpc_name)),
        _ => Ok(false),
    }
}

fn display(out: &mut String, value: Option<impl Display>) -> Result<bool, fmt::Error> {
    match value {
        Some(value) => write!(out, "{value}").map(|()| true),
        None => Ok(false),
    }
}

fn decimal(out: &mut String, value: Option<u64>) -> Result<bool, fmt::Error> {
    value.into_iter().for_each(|value| append_decimal(out, value));
    Ok(value.is_some())
}

fn address(out: &mut String, value: Option<SocketAddr>, part: Part) -> Result<bool, fmt::Error> {
    match part {
        Part::Whole => {
            value.into_iter().for_each(|value| append_address(out, value));
            Ok(value.is_some())
        }
        Part::Address => display(out, value.map(|address| address.ip())),
        Part::Port => display(out, value.map(|address| address.port())),
    }
}

/// What stands for a request header.
enum Shown<'a> {
    Bytes(&'a [u8]),
    Path(&'a LoggedRequest),
}

fn header<'a>(request: &'a LoggedRequest, first: &str, other: Option<&str>) -> Option<Shown<'a>> {
    let one = |name: &str| match name {
        ":method" => Some(Shown::Bytes(request.method.as_str().as_bytes())),
        ":path" => Some(Shown::Path(request)),
        ":scheme" => Some(Shown::Bytes(request.scheme.as_str().as_bytes())),
        name => request.header(name).map(Shown::Bytes),
    };
    one(first).or_else(|| one(other?))
}

/// What stands for a response header.
enum Response<'a> {
    Bytes(&'a [u8]),
    Millis(u128),
}

/// The time that the upstream took is known also where the response has lost the header.
fn response_header<'a>(record: &'a Record, first: &str, other: Option<&str>) -> Option<Response<'a>> {
    let one = |name: &str| match name {
        "x-envoy-upstream-service-time" => {
            record.upstream_duration.map(|time| Response::Millis(time.as_millis()))
        }
        name => record.response_headers.get(name).map(Response::Bytes),
    };
    one(first).or_else(|| one(other?))
}

/// The names of grpc.io's status codes, as Envoy writes them.
const fn grpc_name(status: u8) -> &'static str {
    match status {
        0 => "OK",
        1 => "Canceled",
        2 => "Unknown",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "InvalidCode",
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
