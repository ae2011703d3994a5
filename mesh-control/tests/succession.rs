//! One certificate authority follows another while two proxies go on talking to each other: control plane, proxies' clients and
//! TLS are the real ones, in one process; only the times are short.
#![expect(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is the failure")]

#[path = "support/tokens.rs"]
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_control::ca::Authority;
use mesh_control::ca::keeper::{Keeper, Standing};
use mesh_control::ca::succession::{Pace, Phase};
use mesh_control::serve::Plane;
use mesh_control::source::Change;
use mesh_control::source::files::load_text;
use mesh_control::tokens::{AUDIENCE, Verifier};
use mesh_control::view::View;
use mesh_control::world::World;
use mesh_core::model::Role;
use mesh_core::subscribe::{Handles, Settings, run};
use mesh_core::tls::{MeshAlpn, MeshTls};
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use tokens::Tokens;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Pace = Pace {
    introduce: Duration::from_secs(1),
    patience: Duration::from_secs(60),
    renew: Duration::from_secs(1),
    retire: Duration::from_secs(5),
};
const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, uid: u-1}\nspec: {serviceAccountName: web}\n";

struct Control {
    folder: TempDir,
    plane: Arc<Plane>,
    tokens: Tokens,
    url: String,
    stop: CancellationToken,
}

impl Control {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.json");
        let tokens = Tokens::new(&keys);
        let (keeper, standing) = Keeper::open(folder.path(), PACE).unwrap();
        let plane = Plane::new(standing, Verifier::new(&keys));
        let mut world = World::default();
        world.apply(Change::from(load_text(Path::new("t.yaml"), POD)));
        plane.publish(View::new(world, 1));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (served, stopped) = (Arc::clone(&plane), stop.clone());
        tokio::spawn(async move { served.serve(listener, stopped).await.unwrap() });
        tokio::spawn(keeper.keep(Arc::clone(&plane), stop.clone()));
        Self { folder, plane, tokens, url, stop }
    }

    /// A proxy's client, once it has its certificate.
    async fn proxy(&self, name: &str) -> Arc<MeshTls> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("root.pem"), self.plane.root()).unwrap();
        std::fs::write(folder.join("token"), self.tokens.sign("web", "u-1", AUDIENCE)).unwrap();
        let settings = Settings {
            control: self.url.clone(),
            anchors_file: folder.join("root.pem"),
            token_file: folder.join("token"),
            state: Some(folder.join("state")),
            role: Role::Sidecar,
            pod: "web-1".into(),
            namespace: "default".into(),
            pod_uid: "u-1".into(),
            service_account: "web".into(),
            address: "10.244.0.2".into(),
        };
        let tls = Arc::<MeshTls>::default();
        let handles = Handles {
            snapshot: Arc::default(),
            held: Arc::default(),
            tls: Arc::clone(&tls),
            notify: Arc::new(|_| {}),
        };
        let (questions, asked) = mpsc::channel(1);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            run(settings, handles, asked, stop).await.unwrap();
            drop(questions);
        });
        eventually(|| tls.identity().is_some()).await;
        tls
    }

    /// What a user does: puts another pair in place of the one there is.
    fn give(&self, certificates: &str, key: &str) {
        std::fs::write(self.folder.path().join("ca-cert.pem"), certificates).unwrap();
        std::fs::write(self.folder.path().join("ca-key.pem"), key).unwrap();
    }

    async fn stands(&self, wanted: impl Fn(&Standing) -> bool) -> Arc<Standing> {
        let mut standings = self.plane.standings();
        let stands = timeout(PATIENCE, standings.wait_for(|standing| wanted(standing))).await;
        Arc::clone(&stands.expect("in time").unwrap())
    }
}

async fn eventually(is_so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("in time");
}

/// One request between two proxies on a connection of its own; what the server has shown.
async fn exchange(client: &MeshTls, server: &MeshTls) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(server.server_config().unwrap());
    let connector = TlsConnector::from(client.client_config(MeshAlpn::Tcp).unwrap());
    let answer = async {
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await
    };
    let ask = async {
        let name = "web.default.svc.cluster.local".try_into().unwrap();
        let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
        stream.write_u8(7).await?;
        stream.read_u8().await?;
        Ok(stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap()
            .iter()
            .map(|one| one.clone().into_owned())
            .collect())
    };
    tokio::try_join!(answer, ask).map(|((), shown)| shown)
}

/// Counts of requests between two proxies, in both directions in turn, one after the other until `stop`.
#[derive(Default)]
struct Traffic {
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Traffic {
    async fn flow(self: Arc<Self>, a: Arc<MeshTls>, b: Arc<MeshTls>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for (client, server) in [(&a, &b), (&b, &a)] {
                let count = match exchange(client, server).await {
                    Ok(_) => &self.answered,
                    Err(_) => &self.failed,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// RO-02: through all phases no request fails, and at the end what the old root signed is refused.
#[tokio::test]
async fn a_new_root_takes_over_and_no_request_fails() {
    let control = Control::start().await;
    let (a, b) = (control.proxy("a").await, control.proxy("b").await);
    let old = (control.plane.root(), exchange(&a, &b).await.unwrap());
    let (traffic, stop) = (Arc::new(Traffic::default()), CancellationToken::new());
    let flowing = tokio::spawn(Arc::clone(&traffic).flow(Arc::clone(&a), Arc::clone(&b), stop.clone()));

    let (root, key) = Authority::make().unwrap();
    control.give(&root, &key);
    let introducing = control.stands(|standing| standing.phase == Phase::Introducing).await;
    assert_eq!(introducing.anchors, old.0.clone() + &root);
    let retiring = control.stands(|standing| standing.phase == Phase::Retiring).await;
    assert_ne!(retiring.authority.id(), introducing.authority.id());
    let late = control.proxy("late").await;
    exchange(&late, &a).await.unwrap();
    let settled = control.stands(|standing| standing.phase == Phase::Settled).await;
    assert_eq!(settled.anchors, root);
    for proxy in [&a, &b, &late] {
        eventually(|| proxy.trust_anchors().as_deref() == Some(root.as_str())).await;
        assert!(!proxy.trusts(&old.1, UnixTime::now()), "the old root's certificates are refused");
    }
    let shown = exchange(&a, &b).await.unwrap();
    assert!(a.trusts(&shown, UnixTime::now()), "the chain ends in the new root");

    stop.cancel();
    flowing.await.unwrap();
    let [answered, failed] = [&traffic.answered, &traffic.failed].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(failed, 0, "of {answered}");
    assert!(answered > 100, "only {answered} requests");
    control.stop.cancel();
}

/// RO-05: a pair that is of no use changes nothing, and is told; a good one after it is taken.
#[tokio::test]
async fn a_pair_that_cannot_be_used_changes_nothing_and_is_told() {
    let control = Control::start().await;
    let before = control.plane.standing();
    let (root, key) = Authority::make().unwrap();
    let (_, other) = Authority::make().unwrap();
    control.give(&root, &other);
    eventually(|| control.plane.refused_authority().is_some()).await;
    assert!(control.plane.refused_authority().unwrap().contains("tls.key"));
    assert_eq!(control.plane.standing().id, before.id);
    control.give(&root, &key);
    control.stands(|standing| standing.phase == Phase::Introducing).await;
    assert_eq!(control.plane.refused_authority(), None);
    control.stop.cancel();
}
