//! One probe, as a container's author wrote it.

use std::time::Duration;

use serde_json::Value;

/// The longest that a probe may take.
const LONGEST: u64 = 3600;

/// What to ask the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) port: u16,
    /// The head of a request; only a connection is made without one.
    pub(super) request: Option<String>,
    pub(super) timeout: Duration,
}

impl Check {
    /// Reads a probe; `None` if it is not one that we make.
    pub(super) fn read(probe: &Value) -> Option<Self> {
        let seconds = probe["timeoutSeconds"].as_u64().unwrap_or(1).clamp(1, LONGEST);
        let timeout = Duration::from_secs(seconds);
        let port = |way: &str| u16::try_from(probe[way]["port"].as_u64()?).ok();
        if let Some(port) = port("httpGet") {
            let get = &probe["httpGet"];
            let https = get["scheme"].as_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
            let request = if https { None } else { Some(request(get, port)?) };
            return Some(Self { port, request, timeout });
        }
        let port = port("tcpSocket").or_else(|| port("grpc"))?;
        Some(Self { port, request: None, timeout })
    }
}

/// The head of the request; none if something in it would end a line of it.
fn request(get: &Value, port: u16) -> Option<String> {
    let path = get["path"].as_str().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("GET {slash}{path} HTTP/1.1\r\n");
    let mut host = format!("localhost:{port}");
    let mut lines = String::new();
    for header in get["httpHeaders"].as_array().into_iter().flatten() {
        let (name, value) = (header["name"].as_str()?, header["value"].as_str()?);
        if name.eq_ignore_ascii_case("host") {
            value.clone_into(&mut host);
        } else {
            lines.push_str(&format!("{name}: {value}\u{0}"));
        }
    }
    let clean = |text: &str| !text.contains(['\r', '\n']);
    if !clean(path) || path.contains(' ') || !clean(&host) || !clean(&lines) {
        return None;
    }
    head.push_str(&format!(
        "Host: {host}\r\nUser-Agent: kube-probe/mesh\r\nAccept: */*\r\nConnection: close\r\n"
    ));
    head.push_str(&lines.replace('\u{0}', "\r\n"));
    head.push_str("\r\n");
    Some(head)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_a_probe_can_add_a_line_to_the_request() {
        for get in [
            json!({"port": 1, "path": "/a\r\nx: y"}),
            json!({"port": 1, "path": "/a b"}),
            json!({"port": 1, "httpHeaders": [{"name": "a", "value": "b\r\nx: y"}]}),
            json!({"port": 1, "httpHeaders": [{"name": "host", "value": "b\r\nx: y"}]}),
        ] {
            assert_eq!(Check::read(&json!({"httpGet": get})), None, "{get}");
        }
    }

    #[test]
    fn of_https_and_grpc_only_the_port_is_asked() {
        let https = Check::read(&json!({"httpGet": {"port": 1, "scheme": "HTTPS"}})).unwrap();
        let grpc = Check::read(&json!({"grpc": {"port": 1}, "timeoutSeconds": 4})).unwrap();
        assert_eq!((https.request, grpc.request), (None, None));
        assert_eq!(grpc.timeout, Duration::from_secs(4));
    }
}
