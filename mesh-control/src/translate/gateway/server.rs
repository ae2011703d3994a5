//! One server of a Gateway: its hosts, and what it does with TLS.

use mesh_core::model::{HostPattern, ListenerProtocol, ServerTls, TlsMode};

use super::termination::{self, Wrong};
use crate::api::Item;
use crate::api::networking::{Server, ServerTlsMode, VirtualService};
use crate::problem::Problem;
use crate::translate::scope::{Scope, covers, qualify};

/// What a server speaks.
#[derive(Debug)]
pub(super) enum Kind {
    /// HTTP in the clear.
    Http,
    /// Any bytes in the clear.
    Tcp,
    /// TLS, with HTTP inside or not.
    Tls { tls: ServerTls, http: bool },
}

impl Kind {
    pub(super) const fn protocol(&self) -> ListenerProtocol {
        match self {
            Self::Http => ListenerProtocol::Http,
            Self::Tcp => ListenerProtocol::Tcp,
            Self::Tls { .. } => ListenerProtocol::Tls,
        }
    }
}

/// What a server speaks, or which field says something that cannot be, and why. Secrets that it lacks are `lacking`.
pub(super) fn kind(
    scope: &Scope<'_>,
    server: &Server,
    namespace: &str,
    lacking: &mut Vec<Wrong>,
) -> Result<Kind, Wrong> {
    match server.port.protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Ok(Kind::Http),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" if server.tls.is_none() => Ok(Kind::Tcp),
        "HTTPS" => tls(scope, server, namespace, true, lacking),
        "TLS" | "TCP" => tls(scope, server, namespace, false, lacking),
        other => Err((
            "port.protocol",
            format!("{other:?} is not a protocol; allowed: HTTP, HTTPS, GRPC, HTTP2, TLS, TCP"),
        )),
    }
}

fn tls(
    scope: &Scope<'_>,
    server: &Server,
    namespace: &str,
    http: bool,
    lacking: &mut Vec<Wrong>,
) -> Result<Kind, Wrong> {
    let Some(settings) = &server.tls else {
        return Err(("tls", "a server of this protocol needs tls".to_owned()));
    };
    let mode = match settings.mode {
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => TlsMode::Passthrough,
        ServerTlsMode::Simple => TlsMode::Simple,
        ServerTlsMode::Mutual => TlsMode::Mutual,
        ServerTlsMode::OptionalMutual => TlsMode::OptionalMutual,
        ServerTlsMode::IstioMutual => TlsMode::Mesh,
    };
    let tls = match mode {
        TlsMode::Passthrough => ServerTls::new(mode, None),
        TlsMode::Mesh => {
            ServerTls { subject_alt_names: settings.subject_alt_names.clone(), ..ServerTls::new(mode, None) }
        }
        TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual => {
            termination::tls(scope, settings, mode, namespace, lacking)?
        }
    };
    Ok(Kind::Tls { tls, http: http && mode != TlsMode::Passthrough })
}

/// A host of a server, and whose VirtualServices may serve it.
#[derive(Debug)]
pub(super) struct ServerHost {
    pub(super) pattern: HostPattern,
    /// `None` for all.
    namespace: Option<String>,
}

/// The hosts of a server: `host`, `namespace/host`, `./host` or `*/host` (semantics.md 22).
pub(super) fn hosts(server: &Server, namespace: &str) -> Vec<ServerHost> {
    let host = |text: &String| {
        let (from, host) = text.split_once('/').unwrap_or(("*", text));
        let from = match from {
            "*" => None,
            "." => Some(namespace.to_owned()),
            named => Some(named.to_owned()),
        };
        Some(ServerHost { pattern: HostPattern::parse(host).ok()?, namespace: from })
    };
    server.hosts.iter().filter_map(host).collect()
}

/// The hosts of a VirtualService as a server admits them: its own where the server's covers it, the server's where that
/// is the narrower.
pub(super) fn meeting(hosts: &[ServerHost], service: &Item<'_, VirtualService>) -> Vec<HostPattern> {
    let theirs = |host: &&ServerHost| {
        host.namespace.as_deref().is_none_or(|namespace| namespace == service.namespace())
    };
    let admit = |pattern: &HostPattern| -> Vec<HostPattern> {
        let narrower = |host: &ServerHost| {
            if covers(&host.pattern, pattern) {
                Some(pattern.clone())
            } else {
                covers(pattern, &host.pattern).then(|| host.pattern.clone())
            }
        };
        hosts.iter().filter(theirs).filter_map(narrower).collect()
    };
    let patterns = service.spec.hosts.iter();
    let patterns = patterns.filter_map(|host| HostPattern::parse(&qualify(host, service.namespace())).ok());
    patterns.flat_map(|pattern| admit(&pattern)).collect()
}

/// What of a server has no effect here.
pub(super) fn unsupported(server: &Server, field: &str, tell: &mut dyn FnMut(Problem)) {
    let mut warn = |set: bool, name: &str| {
        if set {
            tell(Problem::warning(format!("{field}.{name}"), "not supported; has no effect"));
        }
    };
    warn(!server.bind.is_empty(), "bind");
    warn(!server.default_endpoint.is_empty(), "defaultEndpoint");
    let Some(tls) = &server.tls else { return };
    warn(!tls.ca_crl.is_empty(), "tls.caCrl");
    warn(!tls.tls_certificates.is_empty(), "tls.tlsCertificates");
    warn(tls.insecure_skip_verify == Some(true), "tls.insecureSkipVerify");
    warn(tls.mode == ServerTlsMode::AutoPassthrough, "tls.mode");
    termination::unsupported(tls, field, tell);
}
