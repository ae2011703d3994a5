//! Proxies without a data plane: real streams over TLS that take and acknowledge what they are told.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_core::model::{Host, Root};
use mesh_core::wire::v1::config_client::ConfigClient;
use mesh_core::wire::v1::subscribe_request::Kind as Ask;
use mesh_core::wire::v1::subscribe_response::Kind as Answer;
use mesh_core::wire::v1::{
    Acknowledgement, Held, Hello, Interest, SubscribeRequest, SubscribeResponse, Subscription, Update,
};
use mesh_core::wire::{CONTROL_NAME, MAX_MESSAGE, encode_root};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_local};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use super::cluster::{Cluster, Credentials};
use super::objects;

/// What has come in, over all proxies.
#[derive(Default)]
pub(super) struct Tally {
    updates: Cell<u64>,
    bytes: Cell<u64>,
    /// When each update of the watched root came.
    arrivals: RefCell<Vec<Instant>>,
    watched: RefCell<String>,
    /// Proxies that have been told all that they asked for.
    complete: Cell<usize>,
    changed: Notify,
}

impl Tally {
    /// Forgets what was counted; from now on arrivals of this service's root are noted.
    pub(super) fn restart(&self, service: usize) {
        self.updates.set(0);
        self.bytes.set(0);
        self.arrivals.borrow_mut().clear();
        *self.watched.borrow_mut() = encode_root(&root(service));
    }

    pub(super) fn received(&self) -> (u64, u64) {
        (self.updates.get(), self.bytes.get())
    }

    /// Waits for so many arrivals of the watched root and tells when the last of them came.
    pub(super) async fn arrived(&self, count: usize, limit: Duration) -> anyhow::Result<Instant> {
        self.until(limit, || self.arrivals.borrow().len() >= count)
            .await
            .with_context(|| format!("{} of {count} proxies were told", self.arrivals.borrow().len()))?;
        self.arrivals.borrow().get(count - 1).copied().context("nobody was told")
    }

    /// Waits until so many proxies have all that they asked for.
    pub(super) async fn complete(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let done = self.until(limit, || self.complete.get() >= count).await;
        done.with_context(|| format!("{} of {count} proxies have their configuration", self.complete.get()))
    }

    async fn until(&self, limit: Duration, condition: impl Fn() -> bool) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if condition() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.with_context(|| format!("not within {limit:?}"))
    }

    fn take(&self, update: &Update) {
        self.updates.set(self.updates.get() + 1);
        self.bytes.set(self.bytes.get() + update.encoded_len() as u64);
        if update.root == *self.watched.borrow() {
            self.arrivals.borrow_mut().push(Instant::now());
        }
    }
}

/// Where the control plane is, and where proxies get what it knows them by.
pub(super) struct Plane<'a> {
    pub(super) address: SocketAddr,
    pub(super) root: &'a Path,
    pub(super) cluster: &'a Cluster,
}

/// What a proxy holds by root: what it would name after a reconnect.
type Holdings = HashMap<String, HashMap<String, u64>>;

/// One proxy; its stream ends when this is dropped.
pub(super) struct Proxy {
    service: usize,
    roots: Vec<String>,
    holdings: Rc<RefCell<Holdings>>,
    stream: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

impl Proxy {
    /// Connects the proxy of one service's pod; it asks for these services.
    pub(super) async fn connect(
        plane: &Plane<'_>,
        tally: &Rc<Tally>,
        service: usize,
        uses: impl Iterator<Item = usize>,
    ) -> anyhow::Result<Self> {
        let roots = uses.map(|used| encode_root(&root(used))).collect();
        Self::open(plane, tally, service, roots, Rc::default()).await
    }

    /// Connects anew, as a proxy does that has lost its stream.
    pub(super) async fn reconnect(self, plane: &Plane<'_>, tally: &Rc<Tally>) -> anyhow::Result<Self> {
        self.stream.abort();
        Self::open(plane, tally, self.service, self.roots.clone(), Rc::clone(&self.holdings)).await
    }

    async fn open(
        plane: &Plane<'_>,
        tally: &Rc<Tally>,
        service: usize,
        roots: Vec<String>,
        holdings: Rc<RefCell<Holdings>>,
    ) -> anyhow::Result<Self> {
        let Credentials { uid, token } = plane.cluster.credentials(service).await?;
        let (sender, receiver) = mpsc::channel(64);
        let (hello, interest) = (hello(service, uid), interest(&roots, &holdings.borrow()));
        let pod = hello.proxy.clone();
        for kind in [Ask::Hello(hello), Ask::Interest(interest)] {
            sender.send(SubscribeRequest { kind: Some(kind) }).await?;
        }
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let anchors = Certificate::from_pem(std::fs::read(plane.root)?);
        let tls = ClientTlsConfig::new().ca_certificate(anchors).domain_name(CONTROL_NAME);
        let channel =
            Endpoint::from_shared(format!("https://{}", plane.address))?.tls_config(tls)?.connect().await?;
        let mut client = ConfigClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut answers = client.subscribe(request).await?.into_inner();
        let first = answers.message().await?.and_then(|answer| answer.kind);
        ensure!(matches!(first, Some(Answer::Welcome(_))), "no welcome for {pod}: {first:?}");
        let reader = Reader {
            // The own configuration comes without asking.
            missing: (roots.len() + 1).saturating_sub(holdings.borrow().len()),
            tally: Rc::clone(tally),
            holdings: Rc::clone(&holdings),
            sender,
        };
        Ok(Self { service, roots, holdings, stream: spawn_local(reader.read(answers)) })
    }
}

struct Reader {
    missing: usize,
    tally: Rc<Tally>,
    holdings: Rc<RefCell<Holdings>>,
    sender: mpsc::Sender<SubscribeRequest>,
}

impl Reader {
    async fn read(mut self, mut answers: Streaming<SubscribeResponse>) {
        while let Ok(Some(answer)) = answers.message().await {
            if let Some(Answer::Update(update)) = answer.kind {
                let acknowledgement = Acknowledgement { sequence: update.sequence, refused: Vec::new() };
                let kind = Some(Ask::Acknowledgement(acknowledgement));
                if self.sender.send(SubscribeRequest { kind }).await.is_err() {
                    break;
                }
                self.take(update);
            }
        }
    }

    fn take(&mut self, update: Update) {
        self.tally.take(&update);
        let is_new = {
            let mut holdings = self.holdings.borrow_mut();
            let is_new = !holdings.contains_key(&update.root);
            let held = holdings.entry(update.root).or_default();
            held.retain(|key, _| update.closure.contains(key));
            held.extend(update.members.into_iter().map(|member| (member.key, member.version)));
            is_new
        };
        if is_new && self.missing > 0 {
            self.missing -= 1;
            if self.missing == 0 {
                self.tally.complete.set(self.tally.complete.get() + 1);
            }
        }
        self.tally.changed.notify_waiters();
    }
}

fn hello(service: usize, pod_uid: String) -> Hello {
    let (namespace, pod) = (objects::namespace(service), objects::steady_pod(service));
    Hello {
        proxy: format!("{pod}.{namespace}"),
        pod_uid,
        pod,
        namespace,
        service_account: format!("s{service}"),
        role: "sidecar".to_owned(),
        ..Hello::default()
    }
}

fn interest(roots: &[String], holdings: &Holdings) -> Interest {
    let held = |root: &String| {
        let held = holdings.get(root).into_iter().flatten();
        held.map(|(key, version)| Held { key: key.clone(), version: *version }).collect()
    };
    let begin = roots.iter().map(|root| Subscription { root: root.clone(), held: held(root) });
    Interest { begin: begin.collect(), end: Vec::new() }
}

fn root(service: usize) -> Root {
    let host = Host::parse(&objects::host(service)).expect("a valid name by construction");
    Root::Host { host, port: 80 }
}
