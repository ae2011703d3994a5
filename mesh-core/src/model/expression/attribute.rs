//! The attributes that expressions may name, under Envoy's names (envoyproxy.io, "Attributes").

use super::Kind;

/// A fact about a request or connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the attributes")]
pub enum Attribute {
    RequestPath,
    RequestUrlPath,
    RequestHost,
    RequestScheme,
    RequestMethod,
    RequestQuery,
    RequestProtocol,
    RequestId,
    RequestUserAgent,
    RequestSize,
    RequestHeader(Box<str>),
    ResponseCode,
    ResponseCodeDetails,
    ResponseGrpcStatus,
    ResponseSize,
    ResponseHeader(Box<str>),
    ConnectionMtls,
    ConnectionServerName,
    ConnectionPeer,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    UpstreamAddress,
    UpstreamPort,
    ClusterName,
    RouteName,
    Peer(Which, PeerFact),
}

/// Which end of the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The caller.
    Downstream,
    /// Who served.
    Upstream,
}

/// What is known of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the fields")]
pub enum PeerFact {
    Pod,
    Namespace,
    Workload,
    App,
    Version,
    Cluster,
    Principal,
}

/// Attributes without an argument.
const PLAIN: [(&str, Attribute); 28] = [
    ("request.path", Attribute::RequestPath),
    ("request.url_path", Attribute::RequestUrlPath),
    ("request.host", Attribute::RequestHost),
    ("request.scheme", Attribute::RequestScheme),
    ("request.method", Attribute::RequestMethod),
    ("request.query", Attribute::RequestQuery),
    ("request.protocol", Attribute::RequestProtocol),
    ("request.id", Attribute::RequestId),
    ("request.useragent", Attribute::RequestUserAgent),
    ("request.size", Attribute::RequestSize),
    ("response.code", Attribute::ResponseCode),
    ("response.code_details", Attribute::ResponseCodeDetails),
    ("response.grpc_status", Attribute::ResponseGrpcStatus),
    ("response.size", Attribute::ResponseSize),
    ("connection.mtls", Attribute::ConnectionMtls),
    ("connection.requested_server_name", Attribute::ConnectionServerName),
    ("connection.uri_san_peer_certificate", Attribute::ConnectionPeer),
    ("source.address", Attribute::SourceAddress),
    ("source.port", Attribute::SourcePort),
    ("source.principal", Attribute::Peer(Which::Downstream, PeerFact::Principal)),
    ("destination.address", Attribute::DestinationAddress),
    ("destination.port", Attribute::DestinationPort),
    ("destination.principal", Attribute::Peer(Which::Upstream, PeerFact::Principal)),
    ("upstream.address", Attribute::UpstreamAddress),
    ("upstream.port", Attribute::UpstreamPort),
    ("xds.cluster_name", Attribute::ClusterName),
    ("xds.route_name", Attribute::RouteName),
    ("upstream.uri_san_peer_certificate", Attribute::Peer(Which::Upstream, PeerFact::Principal)),
];

/// What stands before the fact of a peer: Istio's filter state, and the older spelling of the same.
const PEERS: [(&str, Which); 6] = [
    ("filter_state.downstream_peer.", Which::Downstream),
    ("filter_state.upstream_peer.", Which::Upstream),
    ("downstream_peer.", Which::Downstream),
    ("upstream_peer.", Which::Upstream),
    ("source.workload.", Which::Downstream),
    ("destination.workload.", Which::Upstream),
];

impl Attribute {
    /// The attribute of this name, `request.headers` excepted.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Some((_, found)) = PLAIN.iter().find(|(known, _)| *known == name) {
            return Some(found.clone());
        }
        let (prefix, which) = PEERS.iter().find(|(prefix, _)| name.starts_with(prefix))?;
        // `source.workload.name` is the workload's name, `downstream_peer.name` the pod's.
        let of_workload = prefix.contains(".workload.");
        let fact = match &name[prefix.len()..] {
            "name" if of_workload => PeerFact::Workload,
            "name" => PeerFact::Pod,
            "namespace" => PeerFact::Namespace,
            "workload" if !of_workload => PeerFact::Workload,
            "app" | "service" => PeerFact::App,
            "version" | "revision" => PeerFact::Version,
            "cluster" => PeerFact::Cluster,
            _ => return None,
        };
        Some(Self::Peer(*which, fact))
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::ConnectionMtls => Kind::Bool,
            Self::RequestSize
            | Self::ResponseCode
            | Self::ResponseGrpcStatus
            | Self::ResponseSize
            | Self::SourcePort
            | Self::DestinationPort
            | Self::UpstreamPort => Kind::Number,
            _ => Kind::Text,
        }
    }
}
