//! What the tests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::engine::{Capture, Demand, Engine, Entrance, Handles, Questions, Settings};
use crate::model::{
    Action, Address, Backend, Cluster, Destination, Endpoint, EndpointAddress, Endpoints, Host, HostPattern,
    InboundPort, Locality, MeshSettings, Millis, MtlsMode, Origin, OutboundPolicy, Own, Protocol, Resource,
    Role, Routes, Rule, Transport, VirtualHost, Weight, Workload,
};
use crate::snapshot::{Config, Snapshot, compile};
use crate::telemetry::Sinks;
use crate::tls::MeshTls;

/// Where the application dials; nothing listens there.
pub(super) const VIRTUAL: &str = "10.96.0.7:9080";
pub(super) const SERVICE: &str = "reviews.default.svc.cluster.local";
pub(super) const CLUSTER: &str = "outbound|9080||reviews.default.svc.cluster.local";

pub(super) struct Mesh {
    pub(super) engine: Engine,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) config: Config,
    pub(super) demand: Demand,
    pub(super) questions: Questions,
}

impl Mesh {
    pub(super) fn start(settings: Settings, tls: Arc<MeshTls>, resources: Vec<Resource>) -> Self {
        let config: Config = resources.into_iter().collect();
        let (compiled, problems) = compile(None, &config);
        assert!(problems.is_empty(), "{problems:?}");
        let snapshot = Arc::new(ArcSwap::from_pointee(compiled));
        let (demand, questions) = Demand::channel();
        let sinks = Sinks::default();
        let handles = Handles { snapshot: snapshot.clone(), demand: demand.clone(), tls, sinks };
        let engine = Engine::start(Settings { mark: None, ..settings }, handles).unwrap();
        Self { engine, snapshot, config, demand, questions }
    }

    /// A sidecar whose application dials [`VIRTUAL`].
    pub(super) fn outbound(resources: Vec<Resource>) -> Self {
        Self::start(outbound_settings(), Arc::default(), resources)
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let (compiled, problems) = compile(Some(&self.snapshot.load()), &self.config);
        assert!(problems.is_empty(), "{problems:?}");
        self.snapshot.store(Arc::new(compiled));
        self.engine.changed();
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.engine.outbound_address().unwrap()).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> String {
        ask(self.connect().await, &format!("GET {path} HTTP/1.1\r\nHost: {SERVICE}:9080\r\n\r\n")).await
    }
}

pub(super) fn outbound_settings() -> Settings {
    let capture = Capture::Fixed(VIRTUAL.parse().unwrap());
    Settings {
        outbound: Some(Entrance { address: ([127, 0, 0, 1], 0).into(), capture }),
        ..Settings::default()
    }
}

pub(super) fn inbound_settings(local: SocketAddr) -> Settings {
    let capture = Capture::Fixed(local);
    Settings {
        inbound: Some(Entrance { address: ([127, 0, 0, 1], 0).into(), capture }),
        ..Settings::default()
    }
}

/// Sends a request and reads its whole response.
pub(super) async fn ask(mut stream: TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    response(&mut stream).await
}

/// Reads one response with a content length, or up to the end of the stream.
pub(super) async fn response(stream: &mut TcpStream) -> String {
    let read = async {
        let mut text = Vec::new();
        loop {
            let so_far = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
                let length = content_length(head);
                if length.is_some_and(|length| body.len() >= length) {
                    return so_far;
                }
            }
            if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                return String::from_utf8_lossy(&text).into_owned();
            }
        }
    };
    timeout(Duration::from_secs(10), read).await.expect("a response within ten seconds")
}

fn content_length(head: &str) -> Option<usize> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    };
    head.lines().find_map(value)
}

/// An upstream that answers every request with what the script says; nothing closes the connection.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub(super) async fn start<F>(script: F) -> Self
    where
        F: Fn(&str) -> String + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (opened, asked, script) = (connections.clone(), requests.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, asked.clone(), script.clone()));
            }
        });
        Self { address, connections, requests }
    }

    /// One that answers 200 with this body.
    pub(super) async fn saying(body: &'static str) -> Self {
        Self::start(move |_| ok(body)).await
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: TcpStream,
    asked: Arc<AtomicUsize>,
    script: Arc<impl Fn(&str) -> String + Send + Sync + 'static>,
) {
    loop {
        let mut text = Vec::new();
        let request = loop {
            let so_far = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = so_far.split_once("\r\n\r\n")
                && body.len() >= content_length(head).unwrap_or(0)
            {
                break so_far;
            }
            if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                return;
            }
        };
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = script(&request);
        // An empty script is an upstream that hangs up.
        if answer.is_empty() {
            return;
        }
        // One that says "hang" never answers.
        if answer == "hang" {
            std::future::pending::<()>().await;
        }
        // One that begins with "slow:" takes its time.
        let answer = match answer.strip_prefix("slow:") {
            Some(answer) => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                answer
            }
            None => &answer,
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} Said\r\ncontent-length: 0\r\n\r\n")
}

/// A port of loopback on which nothing listens.
pub(super) async fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

pub(super) fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

pub(super) fn own(role: Role) -> Own {
    Own {
        role,
        identity: "spiffe://cluster.local/ns/default/sa/web".parse().unwrap(),
        workload: workload("web-1", "uid-web"),
        locality: Locality::default(),
        mesh: MeshSettings {
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            access_logs: Vec::new(),
            tracing: Vec::new(),
            metrics: Vec::new(),
            path_normalization: Default::default(),
            trusted_proxies: 0,
            proxy_protocol: false,
            headers: Default::default(),
            drain_timeout: Millis::seconds(5),
        },
        inbound: Vec::new(),
        default_mtls: MtlsMode::Permissive,
        tokens: Vec::new(),
        authorization: Vec::new(),
        limits: Vec::new(),
        listeners: Vec::new(),
        outbound_policy: OutboundPolicy::AllowAny,
    }
}

pub(super) fn inbound_port(port: u16, protocol: Protocol, mtls: MtlsMode) -> InboundPort {
    InboundPort {
        port,
        protocol,
        mtls,
        endpoint: None,
        service: host(SERVICE),
        service_name: "reviews".into(),
        service_namespace: "default".into(),
    }
}

pub(super) fn workload(pod: &str, uid: &str) -> Workload {
    Workload {
        pod: pod.into(),
        uid: uid.into(),
        namespace: "default".into(),
        workload: pod.into(),
        app: pod.into(),
        version: "v1".into(),
        cluster: "Kubernetes".into(),
    }
}

pub(super) fn address(protocol: Protocol) -> Resource {
    let destination =
        Destination { service: host(SERVICE), protocol, cluster: CLUSTER.into(), tcp_routes: Vec::new() };
    Resource::Address(Address { address: VIRTUAL.parse().unwrap(), destination })
}

pub(super) fn cluster(name: &str, protocol: Protocol) -> Cluster {
    let (_, rest) = name.split_once('|').unwrap();
    let subset = rest.split('|').nth(1).filter(|subset| !subset.is_empty());
    Cluster {
        name: name.into(),
        service: host(SERVICE),
        service_name: "reviews".into(),
        service_namespace: "default".into(),
        port: 9080,
        subset: subset.map(str::to_owned),
        protocol,
        external: false,
        load_balancer: Default::default(),
        locality: None,
        warm_up: None,
        pool: Default::default(),
        outlier: None,
        tls: Default::default(),
        origin: None,
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(address),
        weight: Weight(1),
        transport: Transport::Plain,
        identity: None,
        workload: workload("reviews-1", &format!("uid-{address}")),
        locality: Locality::default(),
    }
}

pub(super) fn endpoints(cluster: &str, addresses: &[SocketAddr]) -> Resource {
    let endpoints = addresses.iter().map(|address| endpoint(*address)).collect();
    Resource::Endpoints(Endpoints { cluster: cluster.into(), endpoints })
}

pub(super) fn backend(cluster: &str, weight: u32) -> Backend {
    Backend {
        cluster: cluster.into(),
        weight: Weight(weight),
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

pub(super) fn rule(backends: Vec<Backend>) -> Rule {
    Rule {
        name: "default".into(),
        matches: Vec::new(),
        action: Action::Forward(backends),
        request_headers: Default::default(),
        response_headers: Default::default(),
        rewrite: None,
        timeout: None,
        retry: Default::default(),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
        authorizer: None,
        admission: Default::default(),
        origin: Origin::default(),
    }
}

pub(super) fn routes(name: &str, rules: Vec<Rule>) -> Resource {
    let pattern = if name.contains(':') { HostPattern::Exact(host(SERVICE)) } else { HostPattern::Any };
    let virtual_host = VirtualHost { name: name.into(), hosts: vec![pattern], rules, https_redirect: false };
    Resource::Routes(Routes { name: name.into(), virtual_hosts: vec![virtual_host] })
}

/// A service with one rule, its cluster and its endpoints, as a sidecar's closure.
pub(super) fn service(
    change: impl FnOnce(&mut Rule, &mut Cluster),
    addresses: &[SocketAddr],
) -> Vec<Resource> {
    let mut rule = rule(vec![backend(CLUSTER, 1)]);
    let mut cluster = cluster(CLUSTER, Protocol::Http);
    change(&mut rule, &mut cluster);
    vec![
        Resource::Own(Box::new(own(Role::Sidecar))),
        address(Protocol::Http),
        routes(&format!("{SERVICE}:9080"), vec![rule]),
        Resource::Cluster(Box::new(cluster)),
        endpoints(CLUSTER, addresses),
    ]
}
