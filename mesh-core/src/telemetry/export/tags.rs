//! What a span says beside its times: the tags that Istio's Envoys send, and those that settings add.

use opentelemetry::KeyValue;

use crate::model::{SpanTag, Tracing};
use crate::telemetry::access_log::Text;
use crate::telemetry::record::{LoggedRequest, Record};

/// The longest path in a span when nobody says (Istio's `maxTagLength`), in bytes.
const LONGEST_PATH: u32 = 256;

/// Which tags spans have.
pub(super) struct Tags {
    istio: bool,
    longest_path: usize,
    fixed: Vec<KeyValue>,
    made: Vec<(String, Made)>,
}

/// A tag whose value the request gives.
enum Made {
    Text(Text),
    Header(String, Option<String>),
}

impl Tags {
    /// The environment is read here, once.
    pub(super) fn new(tracing: &Tracing) -> Self {
        let (mut fixed, mut made) = (Vec::new(), Vec::new());
        for (name, tag) in &tracing.tags {
            match tag {
                SpanTag::Text(text) => fixed.push(KeyValue::new(name.clone(), text.clone())),
                SpanTag::Format(template) => made.push((name.clone(), Made::Text(Text::new(template)))),
                SpanTag::Header(header, default) => {
                    made.push((name.clone(), Made::Header(header.clone(), default.clone())));
                }
                SpanTag::Environment(variable, default) => {
                    let value = std::env::var(variable).ok().or_else(|| default.clone());
                    fixed.extend(value.map(|value| KeyValue::new(name.clone(), value)));
                }
            }
        }
        let longest_path =
            usize::try_from(tracing.longest_path.unwrap_or(LONGEST_PATH)).unwrap_or(usize::MAX);
        Self { istio: tracing.istio_tags, longest_path, fixed, made }
    }

    fn added<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = KeyValue> + 'a {
        let made = self.made.iter().filter_map(move |(name, made)| {
            let value = match made {
                Made::Text(text) => Some(text.plain(record)),
                Made::Header(header, default) => {
                    let value = record.request.as_ref().and_then(|request| request.header(header));
                    value.map(text).or_else(|| default.clone())
                }
            };
            value.map(|value| KeyValue::new(name.clone(), value))
        });
        self.fixed.iter().cloned().chain(made)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names as Istio's Envoys send them, which existing queries use.
pub(super) fn attributes(record: &Record, tags: &Tags) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("component", "proxy"),
        KeyValue::new("http.status_code", i64::from(record.status)),
        KeyValue::new("response_flags", record.flag()),
        KeyValue::new("request_size", i64::try_from(record.received).unwrap_or(i64::MAX)),
        KeyValue::new("response_size", i64::try_from(record.sent).unwrap_or(i64::MAX)),
    ];
    if let Some(request) = &record.request {
        of_request(&mut attributes, request, tags.longest_path);
    }
    if let Some(cluster) = &record.cluster {
        attributes.push(KeyValue::new("upstream_cluster", cluster.to_string()));
    }
    if let Some(own) = record.own().filter(|_| tags.istio) {
        attributes.push(KeyValue::new("istio.canonical_service", own.app.clone()));
        attributes.push(KeyValue::new("istio.canonical_revision", own.version.clone()));
        attributes.push(KeyValue::new("istio.namespace", own.namespace.clone()));
        attributes.push(KeyValue::new("istio.cluster_id", own.cluster.clone()));
    }
    if let Some(remote) = record.downstream_remote {
        attributes.push(KeyValue::new("peer.address", remote.ip().to_string()));
    }
    attributes.extend(tags.added(record));
    attributes
}

/// The query is left out: it is where secrets are.
fn of_request(attributes: &mut Vec<KeyValue>, request: &LoggedRequest, longest_path: usize) {
    attributes.push(KeyValue::new("http.method", request.method.as_str().to_owned()));
    attributes.push(KeyValue::new("http.protocol", request.version.as_str()));
    let path = &request.path[..request.path.len().min(longest_path)];
    attributes.push(KeyValue::new("http.url", format!("{}{}", text(&request.authority), text(path))));
    if let Some(id) = &request.request_id {
        attributes.push(KeyValue::new("guid:x-request-id", text(id)));
    }
    if let Some(agent) = &request.user_agent {
        attributes.push(KeyValue::new("user_agent", text(agent)));
    }
}
