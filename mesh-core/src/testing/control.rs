//! The server side of `proto/mesh/v1`, holding what a test delivers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Identity as TlsIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::TestAuthority;
use crate::model::{Resource, Root};
use crate::wire::v1::config_server::{Config, ConfigServer};
use crate::wire::v1::identity_server::{Identity, IdentityServer};
use crate::wire::v1::subscribe_request::Kind as Ask;
use crate::wire::v1::subscribe_response::Kind as Answer;
use crate::wire::v1::{
    Acknowledgement, Member, NotFound, SignRequest, SignResponse, SubscribeRequest, SubscribeResponse,
    Subscription, Update,
};
use crate::wire::{CONTROL_NAME, decode_root, encode, encode_root};

/// The service account every caller is signed for; the tests' tokens say nothing.
const ACCOUNT: (&str, &str) = ("default", "test");

/// A running control plane. Dropping it cuts every stream.
pub struct FakeControl {
    state: Arc<State>,
    address: SocketAddr,
    _stop: DropGuard,
}

struct State {
    authority: Arc<TestAuthority>,
    roots: Mutex<BTreeMap<Root, Vec<Resource>>>,
    changes: watch::Sender<u64>,
    acknowledged: Mutex<Vec<Acknowledgement>>,
    /// What each stream said it held when it began.
    begun: Mutex<Vec<Subscription>>,
}

/// The state as tonic's services take it.
struct Service(Arc<State>);

impl FakeControl {
    /// Starts one on loopback, on `port` or any free one when it is 0.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(authority: &Arc<TestAuthority>, port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            authority: Arc::clone(authority),
            roots: Mutex::default(),
            changes: watch::Sender::new(0),
            acknowledged: Mutex::default(),
            begun: Mutex::default(),
        });
        let (certificate, key) = authority.server(CONTROL_NAME);
        let tls = ServerTlsConfig::new().identity(TlsIdentity::from_pem(certificate, key));
        let server = Server::builder()
            .tls_config(tls)
            .expect("the test certificate is valid")
            .add_service(ConfigServer::new(Service(Arc::clone(&state))))
            .add_service(IdentityServer::new(Service(Arc::clone(&state))));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // A runtime of its own: when it ends, every connection ends with it, as when a process is killed.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
                tokio::select! {
                    served = server.serve_with_incoming(TcpListenerStream::new(listener)) => {
                        served.expect("the listener stays open");
                    }
                    () = stopped.cancelled() => {}
                }
            });
        });
        Self { state, address, _stop: stop.drop_guard() }
    }

    /// Where it is, as a proxy's setting.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes a root's closure be these resources.
    pub fn deliver(&self, root: Root, resources: Vec<Resource>) {
        lock(&self.state.roots).insert(root, resources);
        self.state.changes.send_modify(|generation| *generation += 1);
    }

    /// What was acknowledged so far, in order.
    pub fn acknowledged(&self) -> Vec<Acknowledgement> {
        lock(&self.state.acknowledged).clone()
    }

    /// Everything that streams asked for, with what they said they held.
    pub fn asked(&self) -> Vec<Subscription> {
        lock(&self.state.begun).clone()
    }
}

impl State {
    fn note(&self, ask: Ask) {
        match ask {
            Ask::Interest(interest) => lock(&self.begun).extend(interest.begin),
            Ask::Acknowledgement(acknowledgement) => lock(&self.acknowledged).push(acknowledgement),
            Ask::Hello(_) | Ask::TrustTaken(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tonic::async_trait]
impl Identity for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let (namespace, account) = ACCOUNT;
        let certificates = self
            .0
            .authority
            .sign_request(&request.into_inner().csr, namespace, account)
            .ok_or_else(|| Status::invalid_argument("not a signing request"))?;
        let trust_anchors = self.0.authority.root();
        Ok(Response::new(SignResponse { certificates, trust_anchors, signer: String::new() }))
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
        let (sender, receiver) = mpsc::channel(64);
        let stream = Serving { sender, subscribed: BTreeMap::new(), sequence: 0 };
        let changes = self.0.changes.subscribe();
        tokio::spawn(stream.serve(Arc::clone(&self.0), request.into_inner(), changes));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }
}

struct Serving {
    sender: mpsc::Sender<SubscribeResponse>,
    /// Root → the closure as last sent, or held before.
    subscribed: BTreeMap<Root, Option<Vec<(String, u64)>>>,
    sequence: u64,
}

impl Serving {
    async fn serve(
        mut self,
        state: Arc<State>,
        mut asks: Streaming<SubscribeRequest>,
        mut changes: watch::Receiver<u64>,
    ) {
        loop {
            tokio::select! {
                ask = asks.message() => match ask {
                    Ok(Some(SubscribeRequest { kind: Some(ask) })) => {
                        if let Ask::Interest(interest) = &ask {
                            for subscription in &interest.begin {
                                let Ok(root) = decode_root(&subscription.root) else { continue };
                                let held = subscription.held.iter().map(|held| (held.key.clone(), held.version)).collect();
                                self.subscribed.insert(root, Some(held));
                            }
                        }
                        state.note(ask);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return,
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
            if self.send_changes(&state).await.is_err() {
                return;
            }
        }
    }

    async fn send_changes(&mut self, state: &State) -> Result<(), ()> {
        let roots: Vec<Root> = self.subscribed.keys().cloned().collect();
        for root in roots {
            let answer = match lock(&state.roots).get(&root).cloned() {
                None if root == Root::Own => continue,
                None => Answer::NotFound(NotFound { root: encode_root(&root), generation: 1 }),
                Some(resources) => match self.update(&root, &resources) {
                    Some(update) => Answer::Update(update),
                    None => continue,
                },
            };
            let message = SubscribeResponse { kind: Some(answer) };
            self.sender.send_timeout(message, Duration::from_secs(5)).await.map_err(drop)?;
        }
        Ok(())
    }

    fn update(&mut self, root: &Root, resources: &[Resource]) -> Option<Update> {
        let encoded: Vec<_> = resources.iter().map(encode).collect();
        let closure: Vec<_> = encoded.iter().map(|member| (member.key.clone(), member.version)).collect();
        let before =
            self.subscribed.insert(root.clone(), Some(closure.clone())).flatten().unwrap_or_default();
        if before == closure {
            return None;
        }
        self.sequence += 1;
        let fresh =
            encoded.into_iter().filter(|member| !before.contains(&(member.key.clone(), member.version)));
        let member = |member: crate::wire::Encoded| Member {
            key: member.key,
            version: member.version,
            body: member.body.to_vec(),
            requires: Vec::new(),
        };
        Some(Update {
            sequence: self.sequence,
            generation: self.sequence,
            root: encode_root(root),
            members: fresh.map(member).collect(),
            closure: closure.into_iter().map(|(key, _)| key).collect(),
        })
    }
}
