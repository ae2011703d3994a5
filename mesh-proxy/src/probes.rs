//! Probes of the pod's containers, made on the kubelet's behalf: under STRICT its own plain call would be refused.
//!
//! Injection replaces each probe by one of port 15020 and hands us the original in `MESH_APP_PROBES`, as JSON by path. A call
//! of that path does what the original asked for, inside the pod. Only these paths answer, whatever a caller sends along: it
//! can make us ask what the kubelet would ask, and nothing else.
//!
//! Of HTTPS and gRPC it is looked at whether the port accepts connections, not at what is said on them.

mod call;
mod check;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use mesh_core::daemon::{Admin, Page};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use check::Check;

pub(crate) use call::wait_until_ready;

/// Where the kubelet asks.
const PORT: u16 = 15020;

/// Settings of probes.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "probes")]
pub(crate) struct Flags {
    /// The probes of the pod's containers, as JSON by path
    #[arg(long, env = "MESH_APP_PROBES", value_name = "JSON", default_value = "{}")]
    app_probes: Checks,
}

/// What to do, by path.
#[derive(Debug, Clone)]
struct Checks(BTreeMap<String, Check>);

impl FromStr for Checks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let members = value.as_object().ok_or("must be an object of probes by path")?;
        let checks = members.iter().map(|(path, probe)| {
            let check = Check::read(probe)
                .ok_or_else(|| format!("`{path}`: not a probe with httpGet, tcpSocket or grpc"))?;
            Ok((path.clone(), check))
        });
        checks.collect::<Result<_, String>>().map(Self)
    }
}

/// Serves until `stop`; nothing is opened where there is nothing to probe.
pub(crate) async fn serve(flags: Flags, pod: IpAddr, stop: CancellationToken) -> io::Result<()> {
    if flags.app_probes.0.is_empty() {
        return Ok(());
    }
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await?;
    pages(flags.app_probes, pod).serve(listener, stop).await;
    Ok(())
}

fn pages(checks: Checks, pod: IpAddr) -> Admin {
    checks.0.into_iter().fold(Admin::default(), |pages, (path, check)| {
        let check = Arc::new(check);
        pages.get_later(path, move || {
            let check = Arc::clone(&check);
            async move { Page::probe(call::perform(&check, pod).await) }
        })
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn application(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (port, served)
    }

    async fn ask(checks: &str, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = pages(checks.parse().unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let stop = CancellationToken::new();
        let served = tokio::spawn(pages.serve(listener, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_probe_asks_the_application_as_it_was_written() {
        let (port, served) = application("HTTP/1.1 204 No Content\r\n\r\n").await;
        let probe = format!(
            r#"{{"/app-health/a/readyz": {{"httpGet": {{"path": "/ready?x=1", "port": {port}, "httpHeaders":
            [{{"name": "X-Probe", "value": "1"}}, {{"name": "Host", "value": "shop.example"}}]}}, "timeoutSeconds": 5}}}}"#
        );
        assert!(ask(&probe, "/app-health/a/readyz").await.starts_with("HTTP/1.1 200"));
        let request = served.await.unwrap();
        assert!(request.starts_with("GET /ready?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("Host: shop.example\r\n") && request.contains("X-Probe: 1\r\n"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn an_application_that_fails_or_is_not_there_fails_the_probe() {
        let (port, _served) = application("HTTP/1.1 500 Oops\r\n\r\n").await;
        let probe =
            format!(r#"{{"/app-health/a/livez": {{"httpGet": {{"port": {port}}}, "timeoutSeconds": 5}}}}"#);
        assert!(ask(&probe, "/app-health/a/livez").await.starts_with("HTTP/1.1 503"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let probe = format!(
            r#"{{"/app-health/a/livez": {{"tcpSocket": {{"port": {closed}}}, "timeoutSeconds": 5}}}}"#
        );
        assert!(ask(&probe, "/app-health/a/livez").await.starts_with("HTTP/1.1 503"));
        assert!(ask(&probe, "/app-health/b/livez").await.starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn what_is_no_probe_is_named() {
        assert!("{".parse::<Checks>().is_err());
        let error = r#"{"/a": {"exec": {}}}"#.parse::<Checks>().unwrap_err();
        assert!(error.contains("`/a`: not a probe"), "{error}");
    }
}
