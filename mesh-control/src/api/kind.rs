//! The kinds of object we know, and what is to be done with the others.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kind of object that the mesh reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Service,
    Pod,
    EndpointSlice,
    Deployment,
    StatefulSet,
    Job,
    Secret,
    ConfigMap,
    IngressClass,
    Ingress,
    Gateway,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
    PeerAuthentication,
    AuthorizationPolicy,
    RequestAuthentication,
    Telemetry,
    RateLimit,
}

const CORE: &[&str] = &["v1"];
const APPS: &[&str] = &["apps/v1"];
const DISCOVERY: &[&str] = &["discovery.k8s.io/v1"];
const BATCH: &[&str] = &["batch/v1"];
const INGRESS: &[&str] = &["networking.k8s.io/v1"];
const NETWORKING: &[&str] =
    &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];
const OWN: &[&str] = &["minimesh.io/v1alpha1"];
const TELEMETRY: &[&str] = &["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"];

const KINDS: &[(Kind, &str, &[&str])] = &[
    (Kind::Namespace, "Namespace", CORE),
    (Kind::ServiceAccount, "ServiceAccount", CORE),
    (Kind::Service, "Service", CORE),
    (Kind::Pod, "Pod", CORE),
    (Kind::EndpointSlice, "EndpointSlice", DISCOVERY),
    (Kind::Deployment, "Deployment", APPS),
    (Kind::StatefulSet, "StatefulSet", APPS),
    (Kind::Job, "Job", BATCH),
    (Kind::Secret, "Secret", CORE),
    (Kind::ConfigMap, "ConfigMap", CORE),
    (Kind::IngressClass, "IngressClass", INGRESS),
    (Kind::Ingress, "Ingress", INGRESS),
    (Kind::Gateway, "Gateway", NETWORKING),
    (Kind::VirtualService, "VirtualService", NETWORKING),
    (Kind::DestinationRule, "DestinationRule", NETWORKING),
    (Kind::ServiceEntry, "ServiceEntry", NETWORKING),
    (Kind::WorkloadEntry, "WorkloadEntry", NETWORKING),
    (Kind::Sidecar, "Sidecar", NETWORKING),
    (Kind::PeerAuthentication, "PeerAuthentication", SECURITY),
    (Kind::AuthorizationPolicy, "AuthorizationPolicy", SECURITY),
    (Kind::RequestAuthentication, "RequestAuthentication", SECURITY),
    (Kind::Telemetry, "Telemetry", TELEMETRY),
    (Kind::RateLimit, "RateLimit", OWN),
];

/// API groups in which every object is meant for a mesh, so that one we cannot read is worth telling.
const MESH_GROUPS: &[&str] = &[
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "minimesh.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
];

/// Kinds of [`MESH_GROUPS`] that are recognised but have no effect yet.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("networking.istio.io", &["EnvoyFilter", "ProxyConfig", "WorkloadGroup"]),
    ("extensions.istio.io", &["WasmPlugin", "TrafficExtension"]),
    (
        "gateway.networking.k8s.io",
        &[
            "GatewayClass",
            "Gateway",
            "HTTPRoute",
            "GRPCRoute",
            "TLSRoute",
            "TCPRoute",
            "UDPRoute",
            "ListenerSet",
            "ReferenceGrant",
            "BackendTLSPolicy",
        ],
    ),
];

/// What an `apiVersion` and `kind` are to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognized {
    /// A kind we read.
    Known(Kind),
    /// A kind meant for a mesh that has no effect here yet.
    WithoutEffect,
    /// A known kind in a version nobody serves, or a kind that a mesh's API group does not have; says what would do.
    Wrong(String),
    /// Somebody else's.
    Foreign,
}

impl Kind {
    /// Finds out what an `apiVersion` and `kind` are.
    pub fn recognize(api_version: &str, kind: &str) -> Recognized {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let same_group = |versions: &[&str]| versions[0].split_once('/').map_or("", |(g, _)| g) == group;
        if let Some((known, _, versions)) =
            KINDS.iter().find(|(_, name, versions)| *name == kind && same_group(versions))
        {
            if versions.contains(&api_version) {
                return Recognized::Known(*known);
            }
            return Recognized::Wrong(format!("allowed for {kind}: {}", versions.join(", ")));
        }
        if WITHOUT_EFFECT.iter().any(|(g, kinds)| *g == group && kinds.contains(&kind)) {
            return Recognized::WithoutEffect;
        }
        if MESH_GROUPS.contains(&group) {
            return Recognized::Wrong(format!("{group} has no kind {kind}"));
        }
        Recognized::Foreign
    }

    /// The name, as in `kind:`.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// The values of `apiVersion` in which it is served, the preferred first.
    pub fn versions(self) -> &'static [&'static str] {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or(&[], |(.., versions)| versions)
    }

    /// The name of its collection in the API server's paths: lower case, in English plural.
    pub fn plural(self) -> String {
        let name = self.as_str().to_ascii_lowercase();
        match name.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
            _ if name.ends_with('s') => format!("{name}es"),
            _ => format!("{name}s"),
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::IngressClass)
    }

    /// Whether an object with a field that we do not know is refused: true of the kinds that are ours alone, where such a
    /// field can only be a mistake.
    pub const fn refuses_unknown_fields(self) -> bool {
        matches!(self, Self::RateLimit)
    }

    /// Whether an object with a value that is not what it must be is refused, as Istio's validation does.
    ///
    /// Not of policies, of which as much as can be is kept, and not of Kubernetes' kinds, which are read leniently.
    pub const fn refuses_out_of_range(self) -> bool {
        matches!(
            self,
            Self::VirtualService
                | Self::DestinationRule
                | Self::Gateway
                | Self::ServiceEntry
                | Self::Sidecar
                | Self::Telemetry
        )
    }

    /// Whether a field we do not know is worth a warning: true where we claim to implement the whole kind.
    ///
    /// Kubernetes' own kinds carry hundreds of fields that concern the cluster and not the mesh.
    pub const fn reports_unknown_fields(self) -> bool {
        !matches!(
            self,
            Self::Namespace
                | Self::ServiceAccount
                | Self::Service
                | Self::Pod
                | Self::EndpointSlice
                | Self::Deployment
                | Self::StatefulSet
                | Self::Job
                | Self::Secret
                | Self::ConfigMap
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
