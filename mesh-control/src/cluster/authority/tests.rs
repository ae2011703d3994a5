use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method as Verb, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;

use super::*;
use crate::serve::ProxyStatus;
use crate::source::Change;
use crate::source::files::load_text;
use crate::tokens::Verifier;
use crate::view::View;
use crate::world::World;

const NAMESPACE: &str = "mesh-system";
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: mesh-system, uid: a, labels: {app: mesh-control}}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: mesh-system, uid: b, labels: {app: mesh-control}}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: default, uid: c, labels: {app: mesh-control}}
";
/// What depends on acknowledgements happens when they are there; the rest at once.
const PACE: Pace = Pace {
    introduce: Duration::ZERO,
    patience: Duration::from_secs(3600),
    renew: Duration::ZERO,
    retire: Duration::ZERO,
};

/// An API server that knows Secrets of one namespace, and notes the reasons of events.
#[derive(Default)]
struct Server {
    secrets: Mutex<BTreeMap<String, Value>>,
    events: Mutex<Vec<String>>,
}

impl Server {
    async fn start() -> (Arc<Self>, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = Arc::<Self>::default();
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&serving);
                let answer = service_fn(move |request| Arc::clone(&server).answer(request));
                let served =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(served);
            }
        });
        (server, Client::try_from(Config::new(url)).unwrap())
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (verb, path) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let (status, answer) = if name == "events" {
            self.events.lock().unwrap().push(body["reason"].as_str().unwrap().to_owned());
            (StatusCode::CREATED, body)
        } else {
            self.secret(&verb, name, body)
        };
        let answer = Response::builder().status(status).body(Full::from(answer.to_string()));
        Ok(answer.unwrap())
    }

    fn secret(&self, verb: &Verb, name: &str, body: Value) -> (StatusCode, Value) {
        let mut secrets = self.secrets.lock().unwrap();
        let refused = |status: StatusCode| {
            (
                status,
                json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": status.as_u16()}),
            )
        };
        let next = |secret: &Value| {
            let version = secret["metadata"]["resourceVersion"].as_str().unwrap_or("0");
            (version.parse::<u64>().unwrap() + 1).to_string()
        };
        if verb == Verb::POST {
            let (mut body, name) = (body.clone(), body["metadata"]["name"].as_str().unwrap().to_owned());
            if secrets.contains_key(&name) {
                return refused(StatusCode::CONFLICT);
            }
            body["metadata"]["resourceVersion"] = next(&body).into();
            secrets.insert(name, body.clone());
            return (StatusCode::CREATED, body);
        }
        let Some(secret) = secrets.get_mut(name) else { return refused(StatusCode::NOT_FOUND) };
        if verb == Verb::PATCH {
            let version = &body["metadata"]["resourceVersion"];
            if !version.is_null() && *version != secret["metadata"]["resourceVersion"] {
                return refused(StatusCode::CONFLICT);
            }
            merge(secret, body);
            secret["metadata"]["resourceVersion"] = next(secret).into();
        }
        (StatusCode::OK, secret.clone())
    }

    /// As a user does, or cert-manager.
    fn supply(&self, pair: &(String, String, String)) {
        let [certificates, key, roots] = [&pair.0, &pair.1, &pair.2].map(|pem| STANDARD.encode(pem));
        let data = json!({"tls.crt": certificates, "tls.key": key, "ca.crt": roots});
        self.secrets.lock().unwrap().get_mut(SECRET).unwrap()["data"] = data;
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *target = patch };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// A replica that is driven by hand.
struct Replica {
    follower: Follower,
    plane: Arc<Plane>,
    pod: &'static str,
}

impl Replica {
    async fn start(client: &Client, pod: &'static str) -> Self {
        let (follower, standing) = open(client, NAMESPACE, PACE).await.unwrap();
        let plane = Plane::new(standing, Verifier::new(std::path::Path::new("none")));
        let mut world = World::default();
        world.apply(Change::from(load_text(std::path::Path::new("pods.yaml"), PODS)));
        plane.publish(View::new(world, 1));
        Self { follower, plane, pod }
    }

    async fn look(&mut self, leads: bool) -> Arc<Standing> {
        self.follower.round(&self.plane, self.pod, leads).await.unwrap();
        self.plane.standing()
    }

    /// A proxy that has acknowledged these anchors.
    fn proxy(&self, trusts: &str) {
        let name = "web-1.default".to_owned();
        self.plane.registry().put(ProxyStatus { name, trusts: trusts.to_owned(), ..ProxyStatus::default() });
    }
}

fn another_root() -> (String, String, String) {
    let (root, key) = Authority::make().unwrap();
    (root.clone(), key, root)
}

/// A root, and a way to have intermediates signed by it.
fn issuer() -> impl Fn() -> (String, String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::from_ca_cert_pem(&root, key).unwrap();
    move || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem(), root.clone())
    }
}

#[tokio::test]
async fn another_root_signs_when_all_replicas_proxies_trust_it() {
    let (server, client) = Server::start().await;
    let (mut a, mut b) = (Replica::start(&client, "a").await, Replica::start(&client, "b").await);
    let first = a.look(true).await;
    assert!(b.look(false).await.authority.is_same(&first.authority), "one authority, whoever asks first");
    b.proxy(&first.id);

    server.supply(&another_root());
    let introduced = a.look(true).await;
    assert_eq!(introduced.phase, Phase::Introducing);
    assert!(introduced.authority.is_same(&first.authority), "nobody trusts the other yet");
    assert_eq!(b.look(false).await.id, introduced.id);
    // A replica that starts meanwhile stands where the others do.
    assert_eq!(Replica::start(&client, "b").await.plane.standing().id, introduced.id);

    // All of a's proxies trust it, there are none; one of b's does not.
    a.look(true).await;
    b.look(false).await;
    assert_eq!(a.look(true).await.phase, Phase::Introducing);
    b.proxy(&introduced.id);
    b.look(false).await;
    let signing = a.look(true).await;
    assert_eq!((signing.phase, signing.anchors.matches("BEGIN").count()), (Phase::Retiring, 2));
    assert!(!signing.authority.is_same(&first.authority));
    assert!(b.look(false).await.authority.is_same(&signing.authority));

    let settled = a.look(true).await;
    assert_eq!((settled.phase, settled.anchors.as_str()), (Phase::Settled, settled.authority.root()));
    assert_eq!(b.look(false).await.id, settled.id);
    assert_eq!(server.events(), ["AuthorityIntroduced", "AuthoritySigns", "AuthorityRetired"]);
    let notes = server.secrets.lock().unwrap()[SUCCESSION]["metadata"]["annotations"].clone();
    assert_eq!(notes, json!({}), "notes go with what they are about");
}

#[tokio::test]
async fn a_replica_whose_pod_is_not_known_lets_nobody_sign() {
    let (server, client) = Server::start().await;
    let mut stranger = Replica::start(&client, "elsewhere").await;
    let first = stranger.look(true).await;
    server.supply(&another_root());
    for _ in 0..3 {
        let standing = stranger.look(true).await;
        assert!(standing.authority.is_same(&first.authority));
    }
    assert_eq!(stranger.plane.standing().phase, Phase::Introducing);
}

#[tokio::test]
async fn a_renewed_intermediate_signs_at_once_and_what_cannot_sign_is_refused() {
    let (server, client) = Server::start().await;
    let intermediate = issuer();
    let _ = Replica::start(&client, "a").await;
    server.supply(&intermediate());
    let (mut a, mut b) = (Replica::start(&client, "a").await, Replica::start(&client, "b").await);
    let first = a.look(true).await;
    let renewed = intermediate();
    server.supply(&renewed);
    let after = a.look(true).await;
    assert_eq!((&after.anchors, after.phase), (&first.anchors, Phase::Settled));
    assert_ne!(after.authority.id(), first.authority.id());
    assert!(b.look(false).await.authority.is_same(&after.authority));
    assert_eq!(server.events(), ["AuthoritySigns"]);

    server.supply(&("no certificate".to_owned(), renewed.1.clone(), renewed.2.clone()));
    for _ in 0..2 {
        assert!(a.look(true).await.authority.is_same(&after.authority), "the last good one stays");
        b.look(false).await;
    }
    assert!(a.plane.refused_authority().is_some() && b.plane.refused_authority().is_some());
    assert_eq!(server.events(), ["AuthorityRefused"], "told once, by the leader");
    server.supply(&renewed);
    a.look(true).await;
    assert_eq!(a.plane.refused_authority(), None);
}

#[tokio::test]
async fn of_two_that_lead_one_writes() {
    let (server, client) = Server::start().await;
    let (mut a, mut b) = (Replica::start(&client, "a").await, Replica::start(&client, "b").await);
    let first = a.look(true).await;
    let stale = b.follower.secrets.kept().await.unwrap();
    server.supply(&another_root());
    let introduced = a.look(true).await;
    let settled = Succession::settled(b.follower.succession.signer().clone());
    let before = b.plane.standing();
    let refused = b.follower.write(&b.plane, settled, stale.as_ref()).await.unwrap_err();
    assert!(matches!(&refused, SecretError::Request(error) if error.code() == Some(409)), "{refused}");
    assert!(Arc::ptr_eq(&before, &b.plane.standing()), "nothing comes of what was not written");
    assert!(introduced.authority.is_same(&first.authority));
    assert_eq!(b.look(true).await.id, introduced.id, "it follows what the other wrote");
}

/// As after a long time without a control plane.
#[tokio::test]
async fn what_cannot_sign_any_more_is_written_anew() {
    let (server, client) = Server::start().await;
    let mut a = Replica::start(&client, "a").await;
    let first = a.look(true).await;
    let gone = Pair { certificates: "none".to_owned(), key: "none".to_owned(), anchors: String::new() };
    let kept = a.follower.secrets.kept().await.unwrap();
    a.follower.secrets.keep(&Succession::settled(gone), kept.as_ref()).await.unwrap();
    for replica in [&mut Replica::start(&client, "b").await, &mut a] {
        assert!(replica.look(false).await.authority.is_same(&first.authority));
    }
    assert!(a.look(true).await.authority.is_same(&first.authority));
    let kept = a.follower.secrets.kept().await.unwrap().unwrap();
    assert_eq!(kept.succession.as_ref(), Some(&a.follower.succession));
    assert_eq!(server.events(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_not_followed() {
    let kept = Kept::read(&json!({"metadata": {"resourceVersion": "7"}, "data": {KEY: "bm9uZQ=="}}));
    assert_eq!((kept.succession, kept.version), (None, json!("7")));
}
