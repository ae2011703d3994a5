//! What is counted: the work of one request that is neither the kernel's nor the runtime's.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use mesh_core::decide::{Decide, Decision, Entry, Peer, Request, Trail};
use mesh_core::dice::Dice;
use mesh_core::engine::body::Body;
use mesh_core::engine::codec::h1::{ClientConnection, Limits, ServerConnection};
use mesh_core::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};
use mesh_core::model::Resource;
use mesh_core::name::Host;
use mesh_core::snapshot::{Config, Snapshot, compile};
use mesh_core::wire;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Operation = fn(u64) -> anyhow::Result<()>;

/// All operations, by name.
pub(super) const ALL: &[(&str, Operation)] = &[
    ("compile", compiling),
    ("decide", deciding),
    ("decide-long", deciding_on_long_lists),
    ("wire-encode", encoding),
    ("wire-decode", decoding),
    ("h1-server", serving),
    ("h1-client", sending),
];

const HOSTS: usize = 50;
/// Rules of a long list.
const LONG: usize = 1_000;
const REQUEST: &[u8] =
    b"GET /reviews/0?full=1 HTTP/1.1\r\nhost: host-7.example\r\nuser-agent: curl/8.5.0\r\n\
    accept: */*\r\nx-request-id: 5b1c1a1e-8c9f-4e0c-9d6f-0b7a3f1f2c11\r\ncookie: session=8f7b2c4d1e\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\
    server: gunicorn\r\ndate: Mon, 23 Nov 2026 09:00:00 GMT\r\n\r\n{\"reviews\": null}";

/// Does one so many times.
pub(crate) fn run(name: &str, times: u64) -> anyhow::Result<()> {
    let found = ALL.iter().find(|(each, _)| *each == name);
    let (_, operation) = found.with_context(|| format!("no operation {name:?}"))?;
    operation(times)
}

/// A gateway's table of some hosts, and their clusters.
fn config() -> anyhow::Result<Config> {
    let host = |at: usize| {
        let rules = format!(
            r#"{{"matches": [{{"headers": [{{"name": "end-user", "value": {{"exact": "jason"}}}}]}}], {}}},
              {{"timeout": 2000, {}}}"#,
            to(at),
            to(at)
        );
        format!(r#"{{"name": "h{at}", "hosts": ["host-{at}.example"], "rules": [{rules}]}}"#)
    };
    let hosts: Vec<_> = (0..HOSTS).map(host).collect();
    gateway(&hosts.join(","), HOSTS, "")
}

/// One host with many rules, and a policy with many: those in the middle take the request.
fn long_lists() -> anyhow::Result<Config> {
    let rule =
        |at: usize| format!(r#"{{"matches": [{{"path": {{"prefix": "/reviews/{at}/"}}}}], {}}}"#, to(0));
    let rules: Vec<_> = (0..=LONG).map(rule).collect();
    let host = format!(r#"{{"name": "h", "hosts": ["host-7.example"], "rules": [{}]}}"#, rules.join(","));
    let allowed = |at: usize| format!(r#"{{"to": [{{"paths": [{{"prefix": "/reviews/{at}/"}}]}}]}}"#);
    let allowed: Vec<_> = (0..=LONG).map(allowed).collect();
    let policy = format!(r#"{{"action": "allow", "rules": [{}], {ORIGIN}}}"#, allowed.join(","));
    gateway(&host, 1, &policy)
}

const ORIGIN: &str =
    r#""origin": {"kind": "VirtualService", "namespace": "default", "name": "shop", "field": "http"}"#;

/// The part of a rule that says where to.
fn to(cluster: usize) -> String {
    format!(r#""action": {{"forward": [{{"cluster": "c{cluster}", "weight": 1}}]}}, {ORIGIN}"#)
}

fn gateway(hosts: &str, clusters: usize, policies: &str) -> anyhow::Result<Config> {
    let cluster = |at: usize| {
        format!(
            r#"{{"cluster": {{"name": "c{at}", "service": "s{at}.default", "serviceName": "s{at}",
              "serviceNamespace": "default", "port": 80, "protocol": "http"}}}}"#
        )
    };
    let clusters: Vec<_> = (0..clusters).map(cluster).collect();
    let text = format!(
        r#"[{{"own": {{"role": "ingress", "identity": "spiffe://cluster.local/ns/default/sa/gateway", "workload": {{}},
           "mesh": {{"trustDomain": "cluster.local", "drainTimeout": 5000}}, "outboundPolicy": "registryOnly",
           "listeners": [{{"port": 8080, "protocol": "http", "routes": "http.8080"}}],
           "authorization": [{policies}]}}}},
          {{"routes": {{"name": "http.8080", "virtualHosts": [{hosts}]}}}}, {}]"#,
        clusters.join(",")
    );
    Ok(serde_json::from_str::<Vec<Resource>>(&text)?.into_iter().collect())
}

fn compiled(config: &Config) -> anyhow::Result<Snapshot> {
    let (snapshot, problems) = compile(None, config);
    ensure!(problems.is_empty(), "the configuration has problems: {problems:?}");
    Ok(snapshot)
}

fn compiling(times: u64) -> anyhow::Result<()> {
    let config = config()?;
    for _ in 0..times {
        black_box(compiled(&config)?);
    }
    Ok(())
}

/// The whole configuration, as the control plane does once for all proxies that get it.
fn encoding(times: u64) -> anyhow::Result<()> {
    let config = config()?;
    for _ in 0..times {
        for (_, resource) in config.iter() {
            black_box(wire::encode(resource));
        }
    }
    Ok(())
}

/// The whole configuration, as a proxy does that gets it.
fn decoding(times: u64) -> anyhow::Result<()> {
    let encoded: Vec<_> = config()?.iter().map(|(_, resource)| wire::encode(resource)).collect();
    for _ in 0..times {
        for each in &encoded {
            black_box(wire::decode(&each.body)?);
        }
    }
    Ok(())
}

fn head() -> anyhow::Result<RequestHead> {
    let mut headers = Headers::default();
    for (name, value) in [("user-agent", "curl/8.5.0"), ("accept", "*/*"), ("cookie", "session=8f7b2c4d1e")] {
        headers.append(name, value);
    }
    Ok(RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        host: Host::parse("host-7.example")?,
        authority: "host-7.example".into(),
        path: "/reviews/0".into(),
        query: None,
        version: Version::Http11,
        upgrade: None,
        headers,
    })
}

fn deciding(times: u64) -> anyhow::Result<()> {
    decide(&config()?, &head()?, times)
}

fn deciding_on_long_lists(times: u64) -> anyhow::Result<()> {
    decide(&long_lists()?, &RequestHead { path: format!("/reviews/{}/1", LONG / 2).into(), ..head()? }, times)
}

fn decide(config: &Config, head: &RequestHead, times: u64) -> anyhow::Result<()> {
    let snapshot = compiled(config)?;
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let peer = Peer { address, local: address, identity: None, workload: None, tls: None };
    let entry = Entry::Gateway { port: 8080, routes: "http.8080", tls: false };
    let (now, mut dice) = (Instant::now(), Dice::seeded(1));
    let request = Request { snapshot: &snapshot, entry, peer: &peer, head, now };
    for _ in 0..times {
        let decision = Decide::new().step(&request, &mut dice, &mut Trail::off());
        ensure!(matches!(black_box(decision), Decision::Forward(_)), "the request is not forwarded");
    }
    Ok(())
}

/// Reads requests and writes responses.
fn serving(times: u64) -> anyhow::Result<()> {
    let io = Script { says: REQUEST, due: true };
    let mut connection = ServerConnection::new(io, Scheme::Http, Limits::default());
    let mut answer = ResponseHead::new(200);
    answer.headers.append("content-type", "application/json");
    answer.headers.append("server", "istio-envoy");
    alone(async {
        for _ in 0..times {
            let request = connection.next_request().await.map_err(|reject| anyhow::anyhow!(reject.reason))?;
            black_box(request.context("the connection has ended")?);
            connection.respond(&answer, Body::full("{\"reviews\": null}")).await?;
        }
        Ok(())
    })
}

/// Writes requests and reads responses.
fn sending(times: u64) -> anyhow::Result<()> {
    let mut connection = ClientConnection::new(Script { says: RESPONSE, due: false }, Limits::default());
    let head = head()?;
    alone(async {
        for _ in 0..times {
            let (answer, mut body) = connection.send(&head, Body::empty(), |_, _| {}).await?;
            black_box(answer);
            while let Some(frame) = body.frame().await {
                black_box(frame?);
            }
        }
        Ok(())
    })
}

fn alone(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(work)
}

/// A peer that says the same in its every turn, and takes everything at once.
struct Script {
    says: &'static [u8],
    due: bool,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.due) {
            return Poll::Pending;
        }
        buffer.put_slice(self.says);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.due = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
