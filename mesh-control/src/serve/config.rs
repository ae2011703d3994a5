//! The configuration stream: one task per proxy, which sends what differs from what the proxy holds.
//!
//! A task keeps, per subscribed root, the versions the proxy has. When the world changes it looks every root up again and
//! sends the members that are new or different together with the whole closure's names. One update is under way per
//! stream at a time: while it is, changes add up and only the latest is sent, so a slow proxy costs nothing but its own
//! delay. A proxy that does not take a message in time is cut off.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::Stream;
use mesh_core::model::{Role, Root};
use mesh_core::wire::v1::config_server::Config;
use mesh_core::wire::v1::subscribe_request::Kind as Ask;
use mesh_core::wire::v1::subscribe_response::Kind as Answer;
use mesh_core::wire::v1::{
    Acknowledgement, Hello, Interest, Member, NotFound, SubscribeRequest, SubscribeResponse, Trust, Update,
    Welcome,
};
use mesh_core::wire::{Encoded, TRUST, decode_root, encode_root};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Plane;
use super::registry::ProxyStatus;
use crate::ca::keeper::Standing;
use crate::tokens::Caller;
use crate::view::{Basis, Proxy, View};

/// How often an idle connection is probed, and how long a probe may take.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
pub(super) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline for the first message, and for taking one.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long an update may stay unacknowledged.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);
/// Roots of one stream: what a proxy holds at most.
const MAX_ROOTS: usize = 4097;
/// Messages on their way to one proxy.
const QUEUE: usize = 64;

/// The configuration service.
pub(super) struct Service {
    plane: Arc<Plane>,
    stop: CancellationToken,
    streams: AtomicU64,
}

impl Service {
    pub(super) const fn new(plane: Arc<Plane>, stop: CancellationToken) -> Self {
        Self { plane, stop, streams: AtomicU64::new(0) }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Config for Service {
    type SubscribeStream = Answers;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = self.plane.authenticate(request.metadata()).await?;
        let mut asks = request.into_inner();
        let hello = first(&mut asks).await?;
        let proxy = proxy(&hello, &caller)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let session = Session {
            plane: Arc::clone(&self.plane),
            proxy,
            hello,
            stream: self.streams.fetch_add(1, Ordering::Relaxed),
            sender,
            held: BTreeMap::new(),
            bases: BTreeMap::new(),
            itself: Basis::default(),
            together: None,
            pending: None,
            sequence: 0,
            acked: 0,
            refused: BTreeMap::new(),
            trusts: String::new(),
        };
        tokio::spawn(session.run(asks, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }
}

async fn first(asks: &mut Streaming<SubscribeRequest>) -> Result<Hello, Status> {
    let message = timeout(DEADLINE, asks.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello in 10 s"))??;
    match message.and_then(|message| message.kind) {
        Some(Ask::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message must be a hello")),
    }
}

/// What a proxy says of itself counts only where its token says the same.
fn proxy(hello: &Hello, caller: &Caller) -> Result<Proxy, Status> {
    if hello.namespace != caller.namespace || hello.pod != caller.pod {
        return Err(Status::permission_denied("the hello names another pod than the token"));
    }
    let role = match hello.role.as_str() {
        "sidecar" => Role::Sidecar,
        "ingress" => Role::Ingress,
        "egress" => Role::Egress,
        other => return Err(Status::invalid_argument(format!("{other:?} is not a role"))),
    };
    Ok(Proxy {
        role,
        namespace: caller.namespace.clone(),
        pod: caller.pod.clone(),
        service_account: caller.service_account.clone(),
    })
}

struct Session {
    plane: Arc<Plane>,
    proxy: Proxy,
    hello: Hello,
    stream: u64,
    sender: mpsc::Sender<SubscribeResponse>,
    /// What the proxy has of each root: versions by key, or `None` when it was told that there is nothing.
    held: BTreeMap<Root, Held>,
    /// What that rests on: as long as it is as it was, there is nothing to look up.
    bases: BTreeMap<Root, Arc<Basis>>,
    /// The same of the proxy itself, on which the answer to every root depends.
    itself: Basis,
    /// All of these, where every root has been looked up.
    together: Option<Basis>,
    /// The last sequence that is not acknowledged yet.
    pending: Option<Pending>,
    sequence: u64,
    /// The last generation of which it has acknowledged everything.
    acked: u64,
    /// What it refused of the last update of each root.
    refused: BTreeMap<Root, Vec<String>>,
    /// Id of the trust anchors that it has acknowledged last.
    trusts: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Nothing,
    Absent,
    Members(BTreeMap<String, u64>),
    /// Sent and refused in part. What the proxy has of it is not known, so what differs next is sent whole.
    Refused(BTreeMap<String, u64>),
}

/// Updates under way.
struct Pending {
    /// Of the last of them.
    sequence: u64,
    /// What each of them is about.
    roots: BTreeMap<u64, Root>,
    generation: u64,
    since: tokio::time::Instant,
}

impl Session {
    async fn run(mut self, mut asks: Streaming<SubscribeRequest>, stop: CancellationToken) {
        let mut generations = self.plane.generation.subscribe();
        let ended = tokio::select! {
            ended = self.follow(&mut asks, &mut generations) => ended,
            () = stop.cancelled() => "the control plane stops".to_owned(),
        };
        tracing::info!(proxy = self.hello.proxy, reason = ended, "stream ended");
        self.plane.registry.remove(&self.hello.proxy, self.stream);
    }

    async fn follow(
        &mut self,
        asks: &mut Streaming<SubscribeRequest>,
        generations: &mut watch::Receiver<u64>,
    ) -> String {
        tracing::info!(proxy = self.hello.proxy, role = self.hello.role, "stream begun");
        let mut standings = self.plane.standings();
        standings.mark_unchanged();
        let welcome = Welcome {
            trust_anchors: standings.borrow().anchors.clone(),
            control_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if let Err(reason) = self.send(Answer::Welcome(welcome)).await {
            return reason;
        }
        if let Err(reason) = self.tell_trust(&mut standings).await {
            return reason;
        }
        self.held.insert(Root::Own, Held::Nothing);
        loop {
            if self.pending.is_none()
                && let Err(reason) = self.send_differences(generations).await
            {
                return reason;
            }
            let overdue = self.pending.as_ref().map(|pending| pending.since + ACKNOWLEDGE);
            let late = async {
                match overdue {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asks.message() => match ask {
                    Ok(Some(ask)) => if let Err(reason) = self.take(ask) {
                        return reason;
                    },
                    Ok(None) => return "the proxy closed it".to_owned(),
                    Err(status) => return status.message().to_owned(),
                },
                changed = generations.changed(), if self.pending.is_none() => if changed.is_err() {
                    return "the control plane stops".to_owned();
                },
                // The plane is ours as well, so its sender cannot be gone.
                Ok(()) = standings.changed() => if let Err(reason) = self.tell_trust(&mut standings).await {
                    return reason;
                },
                () = late => return "an update was not acknowledged in 30 s".to_owned(),
            }
        }
    }

    /// Whom to trust and who signs, if the proxy understands that.
    async fn tell_trust(&self, standings: &mut watch::Receiver<Arc<Standing>>) -> Result<(), String> {
        let standing = Arc::clone(&standings.borrow_and_update());
        if !self.hello.capabilities.iter().any(|capability| capability == TRUST) {
            return Ok(());
        }
        let trust = Trust {
            anchors: standing.anchors.clone(),
            id: standing.id.clone(),
            signer: standing.authority.id().to_owned(),
            renew_within_seconds: u32::try_from(standing.renew.as_secs()).unwrap_or(u32::MAX),
        };
        self.send(Answer::Trust(trust)).await
    }

    fn take(&mut self, ask: SubscribeRequest) -> Result<(), String> {
        match ask.kind {
            Some(Ask::Interest(interest)) => self.subscribe(interest),
            Some(Ask::Acknowledgement(acknowledgement)) => {
                self.acknowledge(acknowledgement);
                Ok(())
            }
            Some(Ask::TrustTaken(taken)) => {
                self.trusts = taken.id;
                self.report(self.pending.is_none());
                Ok(())
            }
            Some(Ask::Hello(_)) => Err("a second hello".to_owned()),
            None => Ok(()),
        }
    }

    fn subscribe(&mut self, interest: Interest) -> Result<(), String> {
        for text in &interest.end {
            if let Ok(root) = decode_root(text) {
                self.held.remove(&root);
                self.bases.remove(&root);
                self.together = None;
                self.refused.remove(&root);
            }
        }
        for subscription in interest.begin {
            let root = decode_root(&subscription.root).map_err(|error| error.to_string())?;
            let members: BTreeMap<_, _> =
                subscription.held.into_iter().map(|held| (held.key, held.version)).collect();
            let held = if members.is_empty() { Held::Nothing } else { Held::Members(members) };
            self.bases.remove(&root);
            self.together = None;
            self.held.insert(root, held);
        }
        if self.held.len() > MAX_ROOTS { Err(format!("more than {MAX_ROOTS} roots")) } else { Ok(()) }
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let Acknowledgement { sequence, refused } = acknowledgement;
        for refusal in &refused {
            tracing::warn!(proxy = self.hello.proxy, key = refusal.key, reason = refusal.reason, "refused");
        }
        let root = self.pending.as_ref().and_then(|pending| pending.roots.get(&sequence)).cloned();
        if let Some(root) = root.filter(|_| !refused.is_empty()) {
            if let Some(held) = self.held.get_mut(&root)
                && let Held::Members(members) = held
            {
                *held = Held::Refused(std::mem::take(members));
            }
            let told = refused.into_iter().map(|refusal| format!("{}: {}", refusal.key, refusal.reason));
            self.refused.insert(root, told.collect());
        }
        if let Some(pending) = self.pending.take_if(|pending| pending.sequence <= sequence) {
            self.acked = pending.generation;
            self.report(true);
        }
    }

    /// Sends every root whose closure is not what the proxy holds.
    async fn send_differences(&mut self, generations: &mut watch::Receiver<u64>) -> Result<(), String> {
        generations.mark_unchanged();
        let view = self.plane.view();
        // What most proxies do at most changes.
        if self.together.as_ref().is_some_and(|together| view.supports(together)) {
            self.acked = view.generation();
            self.plane.registry.note_acked(&self.hello.proxy, self.stream, self.acked);
            return Ok(());
        }
        let roots = self.uncertain(&view);
        let mut closures = Vec::new();
        if !roots.is_empty() {
            let plane = Arc::clone(&self.plane);
            closures = plane.turns.closures(&view, &self.proxy, roots).await?;
        }
        let mut sent = BTreeMap::new();
        for (root, (closure, basis)) in closures {
            self.bases.insert(root.clone(), basis);
            let answer = match closure {
                Some(closure) => self.difference(&root, &closure, view.generation()).map(Answer::Update),
                None => self.missing(&root, view.generation()).map(Answer::NotFound),
            };
            if let Some(answer) = answer {
                if let Answer::Update(update) = &answer {
                    sent.insert(update.sequence, root);
                }
                self.send(answer).await?;
            }
        }
        self.together = Some(Basis::union(self.bases.values().map(Arc::as_ref).chain([&self.itself])));
        let in_sync = sent.is_empty();
        if in_sync {
            self.acked = view.generation();
        } else {
            let since = tokio::time::Instant::now();
            let (sequence, generation) = (self.sequence, view.generation());
            self.pending = Some(Pending { sequence, roots: sent, generation, since });
        }
        self.report(in_sync);
        Ok(())
    }

    /// Roots whose closure may be another than what the proxy was told.
    fn uncertain(&mut self, view: &View) -> Vec<Root> {
        if !view.supports(&self.itself) {
            self.bases.clear();
        }
        self.itself = view.basis_of(&self.proxy);
        let holds = |root: &&Root| self.bases.get(*root).is_some_and(|basis| view.supports(basis));
        self.held.keys().filter(|root| !holds(root)).cloned().collect()
    }

    fn difference(&mut self, root: &Root, closure: &[Arc<Encoded>], generation: u64) -> Option<Update> {
        let members: BTreeMap<_, _> =
            closure.iter().map(|member| (member.key.clone(), member.version)).collect();
        match self.held.get(root) {
            Some(Held::Members(held) | Held::Refused(held)) if *held == members => return None,
            _ => {}
        }
        let before = self.held.insert(root.clone(), Held::Members(members));
        self.refused.remove(root);
        let has = |member: &Encoded| match &before {
            Some(Held::Members(held)) => held.get(&member.key) == Some(&member.version),
            _ => false,
        };
        self.sequence += 1;
        Some(Update {
            sequence: self.sequence,
            generation,
            root: encode_root(root),
            members: closure.iter().filter(|member| !has(member)).map(|member| encoded(member)).collect(),
            closure: closure.iter().map(|member| member.key.clone()).collect(),
        })
    }

    fn missing(&mut self, root: &Root, generation: u64) -> Option<NotFound> {
        let before = self.held.insert(root.clone(), Held::Absent);
        (before != Some(Held::Absent)).then(|| NotFound { root: encode_root(root), generation })
    }

    fn report(&self, in_sync: bool) {
        self.plane.registry.put(ProxyStatus {
            name: self.hello.proxy.clone(),
            role: self.hello.role.clone(),
            namespace: self.proxy.namespace.clone(),
            version: self.hello.version.clone(),
            roots: self.held.len(),
            acked: self.acked,
            in_sync,
            refused: self.refused.values().flatten().cloned().collect(),
            trusts: self.trusts.clone(),
            stream: self.stream,
        });
    }

    async fn send(&self, kind: Answer) -> Result<(), String> {
        let message = SubscribeResponse { kind: Some(kind) };
        match self.sender.send_timeout(message, DEADLINE).await {
            Ok(()) => Ok(()),
            Err(_) => Err("the proxy did not take a message in 10 s".to_owned()),
        }
    }
}

fn encoded(member: &Encoded) -> Member {
    Member {
        key: member.key.clone(),
        version: member.version,
        body: member.body.to_vec(),
        requires: Vec::new(),
    }
}
