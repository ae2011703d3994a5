//! The commands that exist, under Envoy's names (envoyproxy.io, "Command Operators").

use crate::model::Expression;

/// A value of a request or connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// When it began.
    StartTime(TimeFormat),
    /// The first of these request headers that there is. `:method`, `:path`, `:authority` and `:scheme` are the request's own.
    RequestHeader(Box<str>, Option<Box<str>>),
    /// The first of these response headers that there is.
    ResponseHeader(Box<str>, Option<Box<str>>),
    /// The path without its query.
    PathAlone,
    /// `HTTP/1.1`
    Protocol,
    /// The status.
    ResponseCode,
    /// What the proxy did to come to it.
    ResponseCodeDetails,
    /// Envoy's short flags.
    ResponseFlags,
    /// Why the transport to the upstream failed.
    TransportFailure,
    /// Bytes of the request's body.
    BytesReceived,
    /// Bytes of the response's body.
    BytesSent,
    /// Milliseconds from first to last byte.
    Duration,
    /// Milliseconds until the upstream's head was there.
    ResponseDuration,
    /// How often the request was sent.
    Attempts,
    /// The endpoint.
    UpstreamAddress(Part),
    /// Our own address towards it.
    UpstreamLocalAddress(Part),
    /// The cluster.
    UpstreamCluster,
    /// The address that the client dialled.
    LocalAddress(Part),
    /// The client's address.
    RemoteAddress(Part),
    /// The client's identity.
    PeerIdentity,
    /// Our own identity, as the client has seen it.
    OwnIdentity,
    /// The server name of the client's TLS.
    ServerName,
    /// The route.
    RouteName,
    /// The trace.
    TraceId,
    /// Our span.
    SpanId,
    /// The gRPC status: its name or number.
    GrpcStatus(StatusForm),
    /// The pod.
    HostName,
    /// A variable of the proxy's environment.
    Environment(Box<str>),
    /// An expression's value.
    Expression(Expression),
    /// Nothing: Envoy knows it, here it is always missing.
    Missing,
}

/// What of an address is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Address and port.
    Whole,
    /// Without the port.
    Address,
    /// The port alone.
    Port,
}

/// How a gRPC status is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusForm {
    /// `NotFound`
    Name,
    /// `5`
    Number,
}

/// How a point in time is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2026-11-23T00:12:08.123Z`
    Iso,
    /// `strftime` with the specifiers of [`SPECIFIERS`], in UTC.
    Given(Box<str>),
}

/// What a time format may use, and fractions of a second as `%3f`, `%6f` and `%9f`.
pub const SPECIFIERS: &str = "YmdHMSsTFzZfeyjb%";

const CREDENTIALS: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-forwarded-access-token",
    "x-auth-request-access-token",
];

/// Whether a header carries credentials.
pub fn is_credential(header: &str) -> bool {
    CREDENTIALS.iter().any(|name| name.eq_ignore_ascii_case(header))
}

impl Command {
    /// The command of this name and argument; the error says why there is none.
    pub(super) fn named(name: &str, argument: Option<&str>) -> Result<Self, String> {
        use Part::{Address, Port, Whole};
        if let Some(argument) = argument {
            return with_argument(name, argument);
        }
        Ok(match name {
            "START_TIME" => Self::StartTime(TimeFormat::Iso),
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_CODE_DETAILS" => Self::ResponseCodeDetails,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "CONNECTION_TERMINATION_DETAILS" => Self::Missing,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::TransportFailure,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::Attempts,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamAddress(Whole),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::UpstreamAddress(Address),
            "UPSTREAM_REMOTE_PORT" => Self::UpstreamAddress(Port),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocalAddress(Whole),
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::UpstreamLocalAddress(Address),
            "UPSTREAM_LOCAL_PORT" => Self::UpstreamLocalAddress(Port),
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::LocalAddress(Whole),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::LocalAddress(Address),
            "DOWNSTREAM_LOCAL_PORT" => Self::LocalAddress(Port),
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::RemoteAddress(Whole),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::RemoteAddress(Address),
            "DOWNSTREAM_REMOTE_PORT" => Self::RemoteAddress(Port),
            "DOWNSTREAM_PEER_URI_SAN" => Self::PeerIdentity,
            "DOWNSTREAM_LOCAL_URI_SAN" => Self::OwnIdentity,
            "REQUESTED_SERVER_NAME" => Self::ServerName,
            "ROUTE_NAME" => Self::RouteName,
            "TRACE_ID" => Self::TraceId,
            "SPAN_ID" => Self::SpanId,
            "GRPC_STATUS" => Self::GrpcStatus(StatusForm::Name),
            "GRPC_STATUS_NUMBER" => Self::GrpcStatus(StatusForm::Number),
            "HOSTNAME" => Self::HostName,
            "STREAM_ID" => Self::RequestHeader("x-request-id".into(), None),
            _ => return Err("not supported; written as -".to_owned()),
        })
    }

    /// Request headers that it needs beside those that every record has.
    pub(crate) fn request_headers<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        match self {
            Self::RequestHeader(first, other) => {
                take(first);
                other.iter().for_each(|name| take(name));
            }
            Self::Expression(expression) => expression.request_headers(take),
            _ => {}
        }
    }

    /// Response headers that it needs.
    pub(crate) fn response_headers<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        match self {
            Self::ResponseHeader(first, other) => {
                take(first);
                other.iter().for_each(|name| take(name));
            }
            Self::Expression(expression) => expression.response_headers(take),
            _ => {}
        }
    }
}

fn with_argument(name: &str, argument: &str) -> Result<Command, String> {
    let (first, other) = match argument.split_once('?') {
        Some((first, other)) => (first, Some(other)),
        None => (argument, None),
    };
    let headers = || -> Result<(Box<str>, Option<Box<str>>), String> {
        let lower = |name: &str| Box::<str>::from(name.trim().to_ascii_lowercase());
        let names = (lower(first), other.map(lower));
        let secret = is_credential(&names.0) || names.1.as_deref().is_some_and(is_credential);
        match secret {
            true => Err("the header carries credentials and is not logged; written as -".to_owned()),
            false => Ok(names),
        }
    };
    match name {
        "REQ" => headers().map(|(first, other)| Command::RequestHeader(first, other)),
        "RESP" => headers().map(|(first, other)| Command::ResponseHeader(first, other)),
        "REQ_WITHOUT_QUERY"
            if first.eq_ignore_ascii_case(":path") || first.eq_ignore_ascii_case("x-envoy-original-path") =>
        {
            Ok(Command::PathAlone)
        }
        "START_TIME" => time(argument).map(Command::StartTime),
        "ENVIRONMENT" => Ok(Command::Environment(argument.into())),
        "GRPC_STATUS" => Ok(Command::GrpcStatus(StatusForm::Name)),
        "CEL" => argument
            .parse()
            .map(Command::Expression)
            .map_err(|error: crate::model::ExpressionError| format!("{error}; written as -")),
        _ => Err("not supported; written as -".to_owned()),
    }
}

fn time(format: &str) -> Result<TimeFormat, String> {
    let mut rest = format.split('%');
    rest.next();
    let mut previous_was_percent = false;
    for part in rest {
        if std::mem::take(&mut previous_was_percent) {
            continue;
        }
        let specifier = part.trim_start_matches(|c: char| c.is_ascii_digit()).chars().next();
        match specifier {
            None => previous_was_percent = true,
            Some(known) if SPECIFIERS.contains(known) => {}
            Some(other) => return Err(format!("time format %{other} is not supported; written as -")),
        }
    }
    Ok(TimeFormat::Given(format.into()))
}
