//! One server of a Gateway: its hosts, and what it does with TLS.

use mesh_core::model::{HostPattern, ListenerProtocol, ServerTls, TlsMode};

use crate::api::Item;
use crate::api::networking::{Server, ServerTlsMode, ServerTlsSettings, TlsProtocol, VirtualService};
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

/// What a server speaks, or which field says something that cannot be, and why.
pub(super) fn kind(
    scope: &Scope<'_>,
    server: &Server,
    namespace: &str,
) -> Result<Kind, (&'static str, String)> {
    match server.port.protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Ok(Kind::Http),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" if server.tls.is_none() => Ok(Kind::Tcp),
        "HTTPS" => tls(scope, server, namespace, true),
        "TLS" | "TCP" => tls(scope, server, namespace, false),
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
) -> Result<Kind, (&'static str, String)> {
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
    let secret = match mode {
        TlsMode::Passthrough | TlsMode::Mesh => None,
        TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual => {
            Some(secret(scope, settings, namespace)?)
        }
    };
    let http = http && mode != TlsMode::Passthrough;
    Ok(Kind::Tls {
        tls: ServerTls { mode, secret, subject_alt_names: settings.subject_alt_names.clone() },
        http,
    })
}

/// The secret lies beside the gateway's pod, as Istio has it, or, for a shared gateway, beside the Gateway: never in a
/// third namespace, so that no tenant serves another's certificate (TN-02).
fn secret(
    scope: &Scope<'_>,
    settings: &ServerTlsSettings,
    gateway: &str,
) -> Result<String, (&'static str, String)> {
    let named = settings.credential_names.first().unwrap_or(&settings.credential_name);
    let name = named.trim_start_matches("kubernetes://").trim_start_matches("kubernetes-gateway://");
    if name.is_empty() {
        let message = "the certificate must be named here; files of the gateway are not read";
        return Err(("tls.credentialName", message.to_owned()));
    }
    let pod = scope.client.namespace;
    match scope.world.tls_secret(pod, name) {
        Ok(_) => Ok(format!("{pod}/{name}")),
        Err(_) if scope.is_shared_gateway() && scope.world.tls_secret(gateway, name).is_ok() => {
            Ok(format!("{gateway}/{name}"))
        }
        Err(error) => Err(("tls.credentialName", format!("{error}; the server is left out"))),
    }
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
    warn(tls.credential_names.len() > 1, "tls.credentialNames[1]");
    warn(!tls.ca_cert_credential_name.is_empty(), "tls.caCertCredentialName");
    warn(!tls.verify_certificate_spki.is_empty(), "tls.verifyCertificateSpki");
    warn(!tls.verify_certificate_hash.is_empty(), "tls.verifyCertificateHash");
    warn(!tls.cipher_suites.is_empty(), "tls.cipherSuites");
    warn(matches!(tls.min_protocol_version, Some(TlsProtocol::V1_3)), "tls.minProtocolVersion");
    warn(
        tls.max_protocol_version.is_some_and(|version| version != TlsProtocol::Auto),
        "tls.maxProtocolVersion",
    );
    warn(tls.mode == ServerTlsMode::AutoPassthrough, "tls.mode");
}
