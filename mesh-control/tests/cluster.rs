//! The control plane's dealings with a real API server: watches over a restart, identity, the authority, leadership, status,
//! webhooks; all with the rights that the chart gives it, no fewer and no more.
//!
//! One test and one of the installation, because the API server takes longer to start than everything that is asked of it.
#![expect(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is the failure")]

#[path = "cluster/api_server.rs"]
mod api_server;
#[path = "cluster/chart.rs"]
mod chart;
#[path = "cluster/installation.rs"]
mod installation;
#[path = "cluster/network_policies.rs"]
mod network_policies;
#[path = "cluster/remote.rs"]
mod remote;
#[path = "cluster/rights.rs"]
mod rights;

use std::sync::Arc;
use std::time::Duration;

use api_server::ApiServer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use mesh_control::api::core::{Pod, Secret, Service};
use mesh_control::api::discovery::EndpointSlice;
use mesh_control::api::networking::VirtualService;
use mesh_control::ca::Authority;
use mesh_control::ca::succession::{Pace, Phase};
use mesh_control::cluster::{authority, leader, roots, status, webhooks};
use mesh_control::serve::Plane;
use mesh_control::source::Change;
use mesh_control::source::kubernetes::{Scope, watch};
use mesh_control::tokens::{Reviewer, Verifier};
use mesh_control::view::View;
use mesh_control::world::World;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
/// Short times of an authority's replacement, long enough for each phase to be seen.
const PACE: Pace = Pace {
    introduce: Duration::from_secs(1),
    patience: Duration::from_secs(60),
    renew: Duration::from_secs(1),
    retire: Duration::from_secs(3),
};

async fn send(client: &Client, verb: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
    let content = if verb == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(verb).uri(path).header("content-type", content);
    client.request(request.body(body).unwrap()).await
}

async fn create(client: &Client, path: &str, body: Value) -> Value {
    send(client, "POST", path, &body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Asks until the answer satisfies.
async fn eventually(client: &Client, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let asked = async {
        loop {
            match send(client, "GET", path, &Value::Null).await {
                Ok(value) if holds(&value) => return value,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not in time: {path}"))
}

struct Known {
    changes: mpsc::Receiver<Change>,
    world: World,
    removed: usize,
}

impl Known {
    async fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) {
        let reached = async {
            while !holds(&self.world) {
                let change = self.changes.recv().await.unwrap();
                self.removed += change.removed.len();
                self.world.apply(change);
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}})
}

#[tokio::test]
async fn a_control_plane_on_a_real_api_server() {
    let Some(mut server) = ApiServer::start().await else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (client, control) = (server.client(), server.control());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    for namespace in ["mesh-system", "istio-system"] {
        create(&client, "/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
    }
    chart::create_all(&client, chart::rights()).await;
    create(&client, "/api/v1/namespaces/default/services", service("web")).await;

    // What is there, and a kind that comes later, in a version that is not the newest.
    let changes = watch(control.clone(), Scope::default(), stop.clone());
    let mut known = Known { changes, world: World::default(), removed: 0 };
    known.until("the service", |world| world.get::<Service>("default", "web").is_some()).await;

    endpoints_by_hand(&client, &mut known).await;

    // One authority, whoever asks first.
    let open = || authority::open(&control, "mesh-system", PACE);
    let (a, b) = tokio::join!(open(), open());
    let (follower, standing) = a.unwrap();
    assert_eq!(standing.anchors, b.unwrap().1.anchors);

    // A token that is bound to a pod, and what is not.
    let uid = pod(&client).await;
    let reviewer = Verifier::Review(Reviewer::new(control.clone()));
    let caller = reviewer.verify(&token(&client, "mesh-ca", Some(&uid)).await).await.unwrap();
    assert_eq!(
        (caller.pod.as_str(), caller.pod_uid, caller.service_account.as_str()),
        ("web-1", uid.clone(), "web")
    );
    for refused in
        [token(&client, "other", Some(&uid)).await, token(&client, "mesh-ca", None).await, "x.y.z".to_owned()]
    {
        assert!(reviewer.verify(&refused).await.is_err());
    }
    known.until("the pod", |world| world.get::<Pod>("default", "web-1").is_some()).await;

    // Two replicas: one leads; when it leaves, the other does.
    let terms = leader::Terms {
        duration: Duration::from_secs(3),
        give_up: Duration::from_secs(2),
        retry: Duration::from_millis(300),
    };
    let first_stop = CancellationToken::new();
    let mut first = leader::run(control.clone(), "mesh-system", "a".to_owned(), terms, first_stop.clone());
    timeout(PATIENCE, first.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let mut second = leader::run(control.clone(), "mesh-system", "b".to_owned(), terms, stop.clone());
    sleep(Duration::from_secs(4)).await;
    assert!(*first.borrow() && !*second.borrow(), "a living leader is left alone");
    first_stop.cancel();
    timeout(PATIENCE, second.wait_for(|leads| *leads)).await.unwrap().unwrap();

    // The root in every namespace, and what became of an object.
    let plane = Plane::new(standing, reviewer);
    tokio::spawn(follower.follow(Arc::clone(&plane), "control-1".to_owned(), second.clone(), stop.clone()));
    tokio::spawn(roots::publish(control.clone(), Arc::clone(&plane), second.clone(), stop.clone()));
    tokio::spawn(status::write(control.clone(), Arc::clone(&plane), second.clone(), stop.clone()));
    chart::create_all(&client, chart::definitions()).await;
    let routes = "/apis/networking.istio.io/v1beta1/namespaces/default/virtualservices";
    for object in chart::objects() {
        eventually(&client, &chart::collection(&object), |_| true).await;
        chart::create_all(&client, vec![object]).await;
    }
    for (name, timeout) in [("good", "5s"), ("bad", "soon")] {
        let spec = json!({"hosts": ["web"], "http": [{"timeout": timeout, "route": [{"destination": {"host": "web"}}]}]});
        let object = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"name": name}, "spec": spec});
        create(&client, routes, object).await;
    }
    known.until("the route", |world| world.get::<VirtualService>("default", "good").is_some()).await;
    known.until("the refusal", |world| world.refusals().count() == 1).await;
    known
        .until("all kinds", |world| world.objects().filter(|one| &*one.key.name == "every").count() == 11)
        .await;
    known.until("the certificate", |world| world.get::<Secret>("default", "certificate").is_some()).await;
    plane.publish(View::new(known.world.clone(), 1));
    let root = eventually(&client, "/api/v1/namespaces/default/configmaps/mesh-root-cert", |_| true).await;
    assert_eq!(root["data"]["root-cert.pem"], plane.root());
    let accepted = |value: &Value| value["status"]["conditions"][0]["status"].as_str().map(str::to_owned);
    eventually(&client, &format!("{routes}/good"), |value| accepted(value).as_deref() == Some("True")).await;
    let bad =
        eventually(&client, &format!("{routes}/bad"), |value| accepted(value).as_deref() == Some("False"))
            .await;
    let message = bad["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("spec.http[0].timeout"), "{message}");
    let told = |value: &Value| {
        value["items"].as_array().is_some_and(|all| all.iter().any(|event| event["reason"] == "Invalid"))
    };
    eventually(&client, "/api/v1/namespaces/default/events", told).await;

    for object in chart::objects() {
        let path = format!("{}/{}", chart::collection(&object), object["metadata"]["name"].as_str().unwrap());
        match object["metadata"]["name"].as_str().unwrap() {
            "every" => drop(eventually(&client, &path, |value| accepted(value).is_some()).await),
            "front" => drop(
                eventually(&client, &path, |value| {
                    value["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
                })
                .await,
            ),
            _ => {}
        }
    }

    // The API server is told whom to trust, and again when somebody takes that away.
    chart::create_all(&client, chart::webhooks()).await;
    tokio::spawn(webhooks::keep(control.clone(), Arc::clone(&plane), second, stop.clone()));
    let trusts = |value: &Value, bundle: &str| {
        let all = value["webhooks"].as_array().unwrap();
        !all.is_empty() && all.iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle)
    };
    let bundle = STANDARD.encode(plane.root());
    let trusted = |value: &Value| trusts(value, &bundle);
    for object in chart::webhooks() {
        let path = format!("{}/{}", chart::collection(&object), object["metadata"]["name"].as_str().unwrap());
        let kept = eventually(&client, &path, trusted).await;
        let mut without = kept["webhooks"].clone();
        for webhook in without.as_array_mut().unwrap() {
            webhook["clientConfig"].as_object_mut().unwrap().remove("caBundle");
        }
        send(&client, "PATCH", &path, &json!({"webhooks": without})).await.unwrap();
        let again = eventually(&client, &path, trusted).await;
        assert_eq!(again["webhooks"], kept["webhooks"], "nothing but the bundle is written");
    }

    another_root(&client, &plane, &mut known).await;
    let bundle = STANDARD.encode(plane.root());
    for object in chart::webhooks() {
        let path = format!("{}/{}", chart::collection(&object), object["metadata"]["name"].as_str().unwrap());
        eventually(&client, &path, |value| trusts(value, &bundle)).await;
    }
    let root = |value: &Value| value["data"]["root-cert.pem"] == plane.root();
    eventually(&client, "/api/v1/namespaces/default/configmaps/mesh-root-cert", root).await;

    // Before the restart: an API server that has just started refuses everybody until it has read its roles.
    rights::compare(&server.audit_log(), api_server::CONTROL);

    // An API server that is gone takes nothing with it, and afterwards everything goes on.
    let removed = known.removed;
    server.stop();
    sleep(Duration::from_secs(1)).await;
    server.start_again().await;
    create(&client, "/api/v1/namespaces/default/services", service("later")).await;
    known.until("what came later", |world| world.get::<Service>("default", "later").is_some()).await;
    assert!(known.world.get::<VirtualService>("default", "good").is_some());
    assert_eq!(known.removed, removed);
}

/// Another root signs once every replica's proxies trust it; the one before it goes when nothing that it signed is valid.
async fn another_root(client: &Client, plane: &Arc<Plane>, known: &mut Known) {
    let spec = json!({"containers": [{"name": "c", "image": "none"}], "automountServiceAccountToken": false});
    let labels = json!({"app": "mesh-control"});
    let pod = json!({"metadata": {"name": "control-1", "labels": labels}, "spec": spec});
    create(client, "/api/v1/namespaces/mesh-system/pods", pod).await;
    known.until("the replica", |world| world.get::<Pod>("mesh-system", "control-1").is_some()).await;
    plane.publish(View::new(known.world.clone(), 2));
    let (first, mut standings) = (plane.standing(), plane.standings());
    let (root, key) = Authority::make().unwrap();
    let [encoded, key] = [&root, &key].map(|pem| STANDARD.encode(pem));
    let data = json!({"data": {"tls.crt": encoded, "tls.key": key, "ca.crt": encoded}});
    send(client, "PATCH", "/api/v1/namespaces/mesh-system/secrets/mesh-ca", &data).await.unwrap();
    for phase in [Phase::Introducing, Phase::Retiring, Phase::Settled] {
        let reached = standings.wait_for(|standing| standing.phase == phase && standing.id != first.id);
        let standing = Arc::clone(&*timeout(PATIENCE, reached).await.unwrap().unwrap());
        assert_eq!(standing.authority.is_same(&first.authority), phase == Phase::Introducing);
        assert!(standing.anchors.contains(root.trim()));
        assert_eq!(standing.anchors.contains(first.anchors.trim()), phase != Phase::Settled);
    }
    let told = |reason: &'static str| {
        move |value: &Value| {
            value["items"].as_array().is_some_and(|all| all.iter().any(|event| event["reason"] == reason))
        }
    };
    for reason in ["AuthorityIntroduced", "AuthoritySigns", "AuthorityRetired"] {
        eventually(client, "/api/v1/namespaces/mesh-system/events", told(reason)).await;
    }
}

/// A Service without selector has the endpoints of its slice; what the cluster's controller writes of pods is not read; and a
/// loopback address does not get past the API server.
async fn endpoints_by_hand(client: &Client, known: &mut Known) {
    let spec = json!({"ports": [{"name": "http", "port": 80}]});
    let by_hand = json!({"metadata": {"name": "by-hand"}, "spec": spec});
    create(client, "/api/v1/namespaces/default/services", by_hand).await;
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |name: &str, address: &str, labels: Value| {
        let mut labels = labels;
        labels["kubernetes.io/service-name"] = json!("by-hand");
        json!({"metadata": {"name": name, "labels": labels}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 9090}], "endpoints": [{"addresses": [address]}]})
    };
    let controller = json!({"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    create(client, path, slice("of-pods", "192.0.2.8", controller)).await;
    create(client, path, slice("by-hand-1", "192.0.2.9", json!({}))).await;
    let sockets = |world: &World| -> Vec<String> {
        let Some(service) = world.get::<Service>("default", "by-hand") else { return Vec::new() };
        let endpoints = world.endpoints_of(&service, &service.ports[0]);
        endpoints.iter().map(|endpoint| endpoint.socket().to_string()).collect()
    };
    known.until("the slice", |world| sockets(world) == ["192.0.2.9:9090"]).await;
    assert!(known.world.get::<EndpointSlice>("default", "of-pods").is_none());
    let moved = json!({"endpoints": [{"addresses": ["192.0.2.10"]}]});
    send(client, "PATCH", &format!("{path}/by-hand-1"), &moved).await.unwrap();
    known.until("the other address", |world| sockets(world) == ["192.0.2.10:9090"]).await;
    send(client, "DELETE", &format!("{path}/by-hand-1"), &Value::Null).await.unwrap();
    known.until("no address", |world| sockets(world).is_empty()).await;
    assert!(send(client, "POST", path, &slice("loop", "127.0.0.1", json!({}))).await.is_err());
}

/// Makes a pod with a service account; its UID.
async fn pod(client: &Client) -> String {
    create(client, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "web"}})).await;
    let spec = json!({"serviceAccountName": "web", "automountServiceAccountToken": false,
        "containers": [{"name": "web", "image": "none"}]});
    let pod = json!({"metadata": {"name": "web-1", "labels": {"app": "web"}}, "spec": spec});
    let pod = create(client, "/api/v1/namespaces/default/pods", pod).await;
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn token(client: &Client, audience: &str, pod: Option<&str>) -> String {
    let bound = pod.map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": uid}));
    let request =
        json!({"spec": {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound}});
    let answer = create(client, "/api/v1/namespaces/default/serviceaccounts/web/token", request).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}
