//! What is reported of a proxy's traffic: access logs, spans, and changes to Istio's standard metrics.
//!
//! It is already merged: which resource said what, and which scope won, the control plane has decided. Nothing here is
//! evaluated; expressions and templates are valid by construction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Command, Expression, PerMillion, Template};

/// The side of a hop that a setting is for. A gateway is a client of what it forwards to, as Istio has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// Either.
    #[default]
    Both,
    /// The calling workload's proxy, or a gateway.
    Client,
    /// The called workload's proxy.
    Server,
}

impl Side {
    /// Whether this is `one` too, which is a single side.
    pub const fn covers(self, one: Self) -> bool {
        matches!((self, one), (Self::Both, _) | (Self::Client, Self::Client) | (Self::Server, Self::Server))
    }

    const fn is_both(&self) -> bool {
        matches!(self, Self::Both)
    }
}

/// Where and how requests are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// `/dev/stdout`, `/dev/stderr` or a file.
    pub path: String,
    /// The format.
    pub format: AccessLogFormat,
    /// What is logged.
    #[serde(default, skip_serializing_if = "Side::is_both")]
    pub side: Side,
    /// Only requests and connections for which this holds are logged; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Expression>,
}

/// The access log's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    /// Istio's default text, or the template given.
    Text(Option<Template>),
    /// JSON with Istio's default keys plus `source`, `destination` and `trace_id`.
    Json,
    /// JSON with these keys.
    Labels(BTreeMap<String, Label>),
}

/// A value in a JSON log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Label {
    /// A text with commands. If it is one command and nothing else, a number stays a number, and what is missing is `null`.
    Text(Template),
    /// An object.
    Object(BTreeMap<String, Self>),
    /// A list.
    List(Vec<Self>),
}

/// Where spans go and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tracing {
    /// What is traced.
    #[serde(default, skip_serializing_if = "Side::is_both")]
    pub side: Side,
    /// `http://host:4317`, OTLP over gRPC. `None` sends no spans; the trace still goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Share of traces begun here that are recorded.
    pub sampling: PerMillion,
    /// The decision to record a trace follows from `x-request-id`, so that every proxy that begins a trace for the same
    /// id decides alike. Otherwise it is rolled.
    #[serde(default)]
    pub by_request_id: bool,
    /// Requests are sent on with the trace headers that they came with, and none that we made.
    #[serde(default)]
    pub keep_headers: bool,
    /// Spans carry `istio.*` tags.
    #[serde(default)]
    pub istio_tags: bool,
    /// The longest path in tag `http.url`, in bytes; Istio's 256 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_path: Option<u32>,
    /// More tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, SpanTag>,
}

/// Where a span's tag comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanTag {
    /// This text.
    Text(String),
    /// A text with access log commands.
    Format(Template),
    /// A variable of the proxy's environment, or the value given; without either there is no tag.
    Environment(String, Option<String>),
    /// A request header, or the value given; without either there is no tag.
    Header(String, Option<String>),
}

impl AccessLog {
    /// The commands and expressions of its format and filter.
    pub fn visit<'a>(&'a self, take: &mut dyn FnMut(Shows<'a>)) {
        if let Some(filter) = &self.filter {
            take(Shows::Expression(filter));
        }
        match &self.format {
            AccessLogFormat::Json | AccessLogFormat::Text(None) => {}
            AccessLogFormat::Text(Some(template)) => {
                template.commands().for_each(|it| take(Shows::Command(it)))
            }
            AccessLogFormat::Labels(labels) => labels.values().for_each(|label| label.visit(take)),
        }
    }
}

impl Label {
    fn visit<'a>(&'a self, take: &mut dyn FnMut(Shows<'a>)) {
        match self {
            Self::Text(template) => template.commands().for_each(|command| take(Shows::Command(command))),
            Self::Object(labels) => labels.values().for_each(|label| label.visit(take)),
            Self::List(labels) => labels.iter().for_each(|label| label.visit(take)),
        }
    }
}

/// What shows something of a request.
#[derive(Debug, Clone, Copy)]
pub enum Shows<'a> {
    /// A command of a template.
    Command(&'a Command),
    /// An expression.
    Expression(&'a Expression),
    /// A request header.
    Header(&'a str),
}

impl<'a> Shows<'a> {
    /// The request headers that it needs, in lower case.
    pub fn request_headers(self, take: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Command(command) => command.request_headers(take),
            Self::Expression(expression) => expression.request_headers(take),
            Self::Header(name) => take(name),
        }
    }

    /// The response headers that it needs, in lower case.
    pub fn response_headers(self, take: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Command(command) => command.response_headers(take),
            Self::Expression(expression) => expression.response_headers(take),
            Self::Header(_) => {}
        }
    }
}

impl super::MeshSettings {
    /// All that shows something of requests beyond the standard.
    pub fn shows<'a>(&'a self, take: &mut dyn FnMut(Shows<'a>)) {
        self.access_logs.iter().for_each(|log| log.visit(take));
        for tag in self.tracing.iter().flat_map(|tracing| tracing.tags.values()) {
            match tag {
                SpanTag::Format(template) => template.commands().for_each(|it| take(Shows::Command(it))),
                SpanTag::Header(name, _) => take(Shows::Header(name)),
                SpanTag::Text(_) | SpanTag::Environment(..) => {}
            }
        }
        for expression in self.metrics.iter().flat_map(|change| change.labels.values()).flatten() {
            take(Shows::Expression(expression));
        }
    }
}

/// A metric of Istio's standard set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// `istio_requests_total`
    RequestCount,
    /// `istio_request_duration_milliseconds`
    RequestDuration,
    /// `istio_request_bytes`
    RequestSize,
    /// `istio_response_bytes`
    ResponseSize,
    /// `istio_tcp_connections_opened_total`
    ConnectionsOpened,
    /// `istio_tcp_connections_closed_total`
    ConnectionsClosed,
    /// `istio_tcp_sent_bytes_total`
    BytesSent,
    /// `istio_tcp_received_bytes_total`
    BytesReceived,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::ConnectionsOpened,
        Self::ConnectionsClosed,
        Self::BytesSent,
        Self::BytesReceived,
    ];
}

/// How one metric differs from the standard on one side. There is at most one of these for a metric and side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricChange {
    /// The metric.
    pub metric: Metric,
    /// The side; never both.
    pub side: Side,
    /// It is not reported.
    #[serde(default)]
    pub disabled: bool,
    /// Labels that are set to an expression's value, or (`None`) left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<Expression>>,
}
