//! What a port carries, as far as it is declared.

use mesh_core::model::Protocol;

use crate::api::core::{ServicePort, TransportProtocol};

/// Ports on which the server speaks first, so that detection would only wait (Istio's list).
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// The protocol of a service's port: `appProtocol`, else the name before its first `-`, else to be detected.
///
/// `None` for UDP and SCTP, which the mesh does not carry.
pub fn service_protocol(port: &ServicePort) -> Option<Protocol> {
    if port.protocol != TransportProtocol::Tcp {
        return None;
    }
    let declared = match &port.app_protocol {
        Some(declared) => from_name(declared),
        None => from_prefix(&port.name),
    };
    let undeclared = if SERVER_FIRST.contains(&port.port) { Protocol::Tcp } else { Protocol::Detect };
    Some(declared.unwrap_or(undeclared))
}

/// The protocol of a port of a ServiceEntry, Gateway or Sidecar: `protocol`, which is required there, else its name.
pub fn entry_protocol(port: &crate::api::networking::Port) -> Protocol {
    from_name(&port.protocol).or_else(|| from_prefix(&port.name)).unwrap_or(Protocol::Tcp)
}

fn from_prefix(name: &str) -> Option<Protocol> {
    // The one protocol with a dash in it.
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return Some(Protocol::Http);
    }
    from_name(name.split('-').next().unwrap_or_default())
}

fn from_name(name: &str) -> Option<Protocol> {
    Some(match name.to_ascii_lowercase().as_str() {
        "http" | "grpc-web" | "kubernetes.io/ws" => Protocol::Http,
        "http2" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "https" | "tls" | "kubernetes.io/wss" => Protocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => Protocol::Tcp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_declared_protocol_beats_name_beats_number() {
        for (name, app_protocol, number, protocol) in [
            ("http", None, 80, Protocol::Http),
            ("http-web", None, 80, Protocol::Http),
            ("http2-x", None, 80, Protocol::Http2),
            ("grpc-api", None, 9000, Protocol::Grpc),
            ("grpc-web", None, 9000, Protocol::Http),
            ("https", None, 443, Protocol::Tls),
            ("HTTP-a", None, 80, Protocol::Http),
            ("web", None, 80, Protocol::Detect),
            ("httpx", None, 80, Protocol::Detect),
            ("", None, 8080, Protocol::Detect),
            ("", None, 3306, Protocol::Tcp),
            ("http", None, 3306, Protocol::Http),
            ("http", Some("tcp"), 80, Protocol::Tcp),
            ("tcp", Some("kubernetes.io/h2c"), 80, Protocol::Http2),
            ("tcp", Some("kubernetes.io/wss"), 80, Protocol::Tls),
            ("http", Some("example.com/mine"), 80, Protocol::Detect),
        ] {
            let app_protocol = app_protocol.map(str::to_owned);
            let port =
                ServicePort { name: name.to_owned(), app_protocol, port: number, ..ServicePort::default() };
            assert_eq!(service_protocol(&port), Some(protocol), "{port:?}");
        }
        let port = ServicePort { protocol: TransportProtocol::Udp, ..ServicePort::default() };
        assert_eq!(service_protocol(&port), None);
    }
}
