//! Istio's standard labels (istio.io/latest/docs/reference/config/metrics), in one list.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;

use super::record::{Record, Reporting, RequestProtocol, Security};
use crate::identity::SpiffeId;
use crate::model::Workload;

/// How many labels a request's series has.
pub const COUNT: usize = 25;

/// How many of them a connection's series has: all but the two that speak of responses.
pub const TCP_COUNT: usize = COUNT - 2;

/// The labels' names, in the order of [`values`].
pub const NAMES: [&str; COUNT] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "response_code",
    "grpc_response_status",
];

const UNKNOWN: &str = "unknown";

/// A record's label values, borrowed from it. `status` and `grpc_status` are the text of those two numbers.
pub fn values<'a>(record: &'a Record, status: &'a str, grpc_status: &'a str) -> [&'a str; COUNT] {
    let [source, source_ns, source_app, source_version, source_cluster] = workload(record.source.as_deref());
    let [target, target_ns, target_app, target_version, target_cluster] =
        workload(record.destination.as_deref());
    let service = record.service.as_deref();
    let service =
        |pick: fn(&super::record::ServiceLabels) -> &String| service.map_or(UNKNOWN, |s| known(pick(s)));
    [
        match record.reporting {
            Reporting::Source => "source",
            Reporting::Destination => "destination",
        },
        source,
        source_ns,
        principal(record.source_principal.as_ref()),
        source_app,
        source_version,
        source_cluster,
        source_app,
        source_version,
        target,
        target_ns,
        principal(record.destination_principal.as_ref()),
        target_app,
        target_version,
        target_cluster,
        target_app,
        target_version,
        service(|s| &s.host),
        service(|s| &s.name),
        service(|s| &s.namespace),
        match record.protocol {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
            RequestProtocol::Tcp => "tcp",
        },
        record.flag(),
        match record.security {
            Security::Unknown => UNKNOWN,
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
        },
        status,
        grpc_status,
    ]
}

fn workload(workload: Option<&Workload>) -> [&str; 5] {
    workload.map_or([UNKNOWN; 5], |w| {
        [&w.workload, &w.namespace, &w.app, &w.version, &w.cluster].map(|value| known(value))
    })
}

fn principal(identity: Option<&SpiffeId>) -> &str {
    identity.map_or(UNKNOWN, SpiffeId::as_str)
}

fn known(value: &str) -> &str {
    if value.is_empty() { UNKNOWN } else { value }
}

/// Owned label values, the key of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels(pub(super) Vec<Box<str>>);

/// Borrowed label values, to look a series up without an allocation.
pub(super) struct Borrowed<'a>(pub(super) &'a [&'a str]);

impl Borrowed<'_> {
    pub(super) fn to_owned(&self) -> Labels {
        Labels(self.0.iter().map(|value| (*value).into()).collect())
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Equivalent<Labels> for Borrowed<'_> {
    fn equivalent(&self, key: &Labels) -> bool {
        self.0.len() == key.0.len() && self.0.iter().zip(&key.0).all(|(a, b)| **a == **b)
    }
}
