//! Control plane and a proxy's side of the stream in one process: what travels when something changes, and what does not.
#![expect(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is the failure")]

#[path = "support/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_control::ca::keeper::Keeper;
use mesh_control::ca::succession::Pace;
use mesh_control::serve::Plane;
use mesh_control::source::Change;
use mesh_control::source::files::load_text;
use mesh_control::tokens::{AUDIENCE, Verifier};
use mesh_control::view::View;
use mesh_control::world::World;
use mesh_core::identity::SpiffeId;
use mesh_core::model::{Host, Root};
use mesh_core::tls::{certificates, peer_facts};
use mesh_core::wire::v1::config_client::ConfigClient;
use mesh_core::wire::v1::identity_client::IdentityClient;
use mesh_core::wire::v1::subscribe_request::Kind as Ask;
use mesh_core::wire::v1::subscribe_response::Kind as Answer;
use mesh_core::wire::v1::{
    Acknowledgement, Held, Hello, Interest, Refusal, SignRequest, SubscribeRequest, SubscribeResponse,
    Subscription, TrustTaken, Update,
};
use mesh_core::wire::{CONTROL_NAME, TRUST, encode_root};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Streaming};

use tokens::{Tokens, bearing, now};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to say that nothing comes.
const QUIET: Duration = Duration::from_millis(300);

fn manifests(weight: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n\
         spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, uid: u-1, labels: {{app: web}}}}\n\
         spec: {{serviceAccountName: web}}\n\
         status: {{podIP: 10.244.0.5, conditions: [{{type: Ready, status: 'True'}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web}}\n\
         spec: {{host: web, subsets: [{{name: a, labels: {{app: web}}}}, {{name: b, labels: {{app: web}}}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web}}\n\
         spec: {{hosts: [web], http: [{{route: [{{destination: {{host: web, subset: a}}, weight: {weight}}}, \
         {{destination: {{host: web, subset: b}}, weight: 1}}]}}]}}\n"
    )
}

struct Control {
    plane: Arc<Plane>,
    world: World,
    generation: u64,
    tokens: Tokens,
    url: String,
    _folder: TempDir,
    _stop: DropGuard,
}

impl Control {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(&folder.path().join("keys.json"));
        let (_, standing) = Keeper::open(&folder.path().join("state"), Pace::default()).unwrap();
        let plane = Plane::new(standing, Verifier::new(&folder.path().join("keys.json")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (served, stopped) = (Arc::clone(&plane), stop.clone());
        tokio::spawn(async move { served.serve(listener, stopped).await.unwrap() });
        let (world, _stop) = (World::default(), stop.drop_guard());
        let mut control = Self { plane, world, generation: 0, tokens, url, _folder: folder, _stop };
        control.apply(&manifests(9));
        control
    }

    fn apply(&mut self, yaml: &str) {
        self.world.apply(Change::from(load_text(Path::new("t.yaml"), yaml)));
        self.generation += 1;
        self.plane.publish(View::new(self.world.clone(), self.generation));
    }

    async fn channel(&self) -> Channel {
        let anchors = Certificate::from_pem(self.plane.root());
        let tls = ClientTlsConfig::new().ca_certificate(anchors).domain_name(CONTROL_NAME);
        Endpoint::from_shared(self.url.clone()).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    async fn connect(&self, held: Vec<Held>) -> Client {
        self.connect_with(Vec::new(), held).await
    }

    async fn connect_with(&self, capabilities: Vec<String>, held: Vec<Held>) -> Client {
        let (sender, receiver) = mpsc::channel(16);
        let hello = Hello {
            proxy: "web-1.default".into(),
            pod: "web-1".into(),
            namespace: "default".into(),
            role: "sidecar".into(),
            capabilities,
            ..Hello::default()
        };
        let begin = vec![Subscription { root: encode_root(&root()), held }];
        for kind in [Ask::Hello(hello), Ask::Interest(Interest { begin, end: Vec::new() })] {
            sender.send(SubscribeRequest { kind: Some(kind) }).await.unwrap();
        }
        let request = self.tokens.authorized(ReceiverStream::new(receiver), "web", "u-1");
        let answers = ConfigClient::new(self.channel().await).subscribe(request).await.unwrap().into_inner();
        Client { sender, answers }
    }
}

fn root() -> Root {
    Root::Host { host: Host::parse("web").unwrap(), port: 80 }
}

struct Client {
    sender: mpsc::Sender<SubscribeRequest>,
    answers: Streaming<SubscribeResponse>,
}

impl Client {
    /// The next update of the host's root; others are acknowledged on the way.
    async fn update(&mut self) -> Update {
        loop {
            if let Answer::Update(update) = self.next().await {
                if update.root == encode_root(&root()) {
                    return update;
                }
                self.acknowledge(&update, Vec::new()).await;
            }
        }
    }

    async fn next(&mut self) -> Answer {
        let message = timeout(PATIENCE, self.answers.message()).await.expect("in time");
        message.unwrap().unwrap().kind.unwrap()
    }

    async fn acknowledge(&self, update: &Update, refused: Vec<Refusal>) {
        let acknowledgement = Acknowledgement { sequence: update.sequence, refused };
        let kind = Some(Ask::Acknowledgement(acknowledgement));
        self.sender.send(SubscribeRequest { kind }).await.unwrap();
    }

    /// Whether no update of the host's root comes.
    async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.update()).await.is_err()
    }
}

fn kinds(update: &Update) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for member in &update.members {
        let key = mesh_core::wire::decode_key(&member.key).unwrap();
        *kinds.entry(format!("{:?}", key.kind)).or_default() += 1;
    }
    kinds
}

fn held(update: &Update) -> Vec<Held> {
    update.members.iter().map(|member| Held { key: member.key.clone(), version: member.version }).collect()
}

#[tokio::test]
async fn a_changed_weight_sends_the_table_alone() {
    let mut control = Control::start().await;
    let mut client = control.connect(Vec::new()).await;
    let first = client.update().await;
    let all = [("Cluster".to_owned(), 2), ("Endpoints".to_owned(), 2), ("Routes".to_owned(), 1)];
    assert_eq!(kinds(&first), BTreeMap::from(all));
    assert_eq!((first.closure.len(), first.generation), (5, 1));
    client.acknowledge(&first, Vec::new()).await;

    control.apply(&manifests(1));
    let second = client.update().await;
    assert_eq!(kinds(&second), BTreeMap::from([("Routes".to_owned(), 1)]));
    assert_eq!(second.closure, first.closure);
    client.acknowledge(&second, Vec::new()).await;

    control.apply(&manifests(1));
    assert!(client.is_quiet().await, "an unchanged world sends nothing");
    let status = control.plane.registry().list();
    assert_eq!((status[0].name.as_str(), status[0].acked, status[0].in_sync), ("web-1.default", 3, true));
}

#[tokio::test]
async fn while_an_update_is_under_way_only_the_latest_waits() {
    let mut control = Control::start().await;
    let mut client = control.connect(Vec::new()).await;
    let first = client.update().await;
    for weight in 2..6 {
        control.apply(&manifests(weight));
    }
    assert!(client.is_quiet().await);
    client.acknowledge(&first, Vec::new()).await;
    let latest = client.update().await;
    assert_eq!(latest.generation, 5);
    client.acknowledge(&latest, Vec::new()).await;
    assert!(client.is_quiet().await);
}

#[tokio::test]
async fn who_comes_back_with_what_it_holds_gets_only_what_differs() {
    let mut control = Control::start().await;
    let mut client = control.connect(Vec::new()).await;
    let first = client.update().await;
    drop(client);
    let mut again = control.connect(held(&first)).await;
    assert!(again.is_quiet().await, "nothing has changed");
    drop(again);
    control.apply(&manifests(3));
    let mut later = control.connect(held(&first)).await;
    assert_eq!(kinds(&later.update().await), BTreeMap::from([("Routes".to_owned(), 1)]));
}

#[tokio::test]
async fn what_was_refused_is_told_and_sent_whole_with_the_next_change() {
    let mut control = Control::start().await;
    let mut client = control.connect(Vec::new()).await;
    let first = client.update().await;
    let refusal = Refusal { key: first.members[0].key.clone(), reason: "no".into() };
    client.acknowledge(&first, vec![refusal]).await;
    assert!(client.is_quiet().await, "it would only be refused again");
    assert!(control.plane.registry().list()[0].refused[0].ends_with(": no"));
    control.apply(&manifests(3));
    assert_eq!(client.update().await.members.len(), 5);
}

#[tokio::test]
async fn what_does_not_exist_is_said_once_and_sent_when_it_appears() {
    let mut control = Control::start().await;
    let mut client = control.connect(Vec::new()).await;
    let first = client.update().await;
    client.acknowledge(&first, Vec::new()).await;
    let late = Root::Host { host: Host::parse("late").unwrap(), port: 80 };
    let begin = vec![Subscription { root: encode_root(&late), held: Vec::new() }];
    let kind = Some(Ask::Interest(Interest { begin, end: Vec::new() }));
    client.sender.send(SubscribeRequest { kind }).await.unwrap();
    let absent = client.next().await;
    assert!(matches!(absent, Answer::NotFound(absent) if absent.root == encode_root(&late)));

    control.apply("apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {ports: [{port: 80}]}\n");
    control.apply("apiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec: {ports: [{port: 80}]}\n");
    let present = client.next().await;
    assert!(matches!(present, Answer::Update(update) if update.root == encode_root(&late)));
}

/// A proxy of an earlier version is sent nothing that it does not know, and counts as one that has not acknowledged.
#[tokio::test]
async fn who_understands_it_is_told_whom_to_trust_and_acknowledges() {
    let control = Control::start().await;
    let registry = control.plane.registry();
    let mut able = control.connect_with(vec![TRUST.into()], Vec::new()).await;
    let trust = loop {
        if let Answer::Trust(trust) = able.next().await {
            break trust;
        }
    };
    assert_eq!(trust.anchors, control.plane.root());
    eventually(|| registry.list().len() == 1).await;
    assert!(!registry.all_trust(&trust.id));
    let kind = Some(Ask::TrustTaken(TrustTaken { id: trust.id.clone() }));
    able.sender.send(SubscribeRequest { kind }).await.unwrap();
    eventually(|| registry.all_trust(&trust.id)).await;

    let mut earlier = control.connect(Vec::new()).await;
    assert!(matches!(earlier.next().await, Answer::Welcome(_)));
    assert!(matches!(earlier.next().await, Answer::Update(_)));
    eventually(|| !registry.all_trust(&trust.id)).await;
}

async fn eventually(is_so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("in time");
}

/// CA-01, CA-02, CA-04 of the attack list, over the wire.
#[tokio::test]
async fn certificates_are_for_the_pod_that_the_token_is_bound_to() {
    let control = Control::start().await;
    let csr = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        SignRequest { csr, lifetime_seconds: 0 }
    };
    let mut client = IdentityClient::new(control.channel().await);
    let signed = client.sign(control.tokens.authorized(csr(), "web", "u-1")).await.unwrap().into_inner();
    let facts = peer_facts(&certificates(&signed.certificates).unwrap()).unwrap();
    assert_eq!(facts.identity, SpiffeId::new("cluster.local", "default", "web").unwrap());
    assert_eq!(facts.workload.unwrap().pod, "web-1");
    assert_eq!(signed.trust_anchors, control.plane.root());

    let other = Tokens::new(&tempfile::tempdir().unwrap().path().join("other.json"));
    for token in [
        control.tokens.sign("web", "u-0", AUDIENCE),
        control.tokens.sign("admin", "u-1", AUDIENCE),
        control.tokens.sign("web", "u-1", "another"),
        control.tokens.sign_until(now() - 3600, "web", "u-1", AUDIENCE),
        other.sign("web", "u-1", AUDIENCE),
        "not.a.token".to_owned(),
    ] {
        let refused = client.sign(bearing(csr(), &token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let nonsense = SignRequest { csr: vec![1; 100], lifetime_seconds: 0 };
    let refused = client.sign(control.tokens.authorized(nonsense, "web", "u-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
