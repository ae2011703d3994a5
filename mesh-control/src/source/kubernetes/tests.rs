//! The source against a scripted API server.

mod server;

use std::time::Duration;

use hyper::StatusCode;
use server::Server;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Scope, watch};
use crate::api::core::{Pod, Secret, Service};
use crate::api::discovery::EndpointSlice;
use crate::api::networking::VirtualService;
use crate::api::{Key, Kind};
use crate::source::Change;
use crate::world::{Readiness, World};

/// Longer than everything a test waits for, back-off included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to say that nothing comes.
const QUIET: Duration = Duration::from_millis(400);

/// What a control plane would know.
struct Known {
    changes: mpsc::Receiver<Change>,
    world: World,
    /// Everything that was ever removed.
    removed: Vec<Key>,
    _stop: DropGuard,
}

impl Known {
    fn of(server: &Server) -> Self {
        let stop = CancellationToken::new();
        let changes = watch(server.client(), Scope::default(), stop.clone());
        Self { changes, world: World::default(), removed: Vec::new(), _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> bool {
        let Some(change) = self.changes.recv().await else { return false };
        self.removed.extend(change.removed.iter().cloned());
        self.world.apply(change);
        true
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) {
        let reached = async { while !holds(&self.world) && self.next().await {} };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    async fn nothing_comes(&mut self) {
        assert!(timeout(QUIET, self.next()).await.is_err(), "something came");
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: 10.0.0.1, ports: [{{port: {port}}}]}}"
    )
}

fn has(name: &str) -> impl Fn(&World) -> bool + '_ {
    move |world| world.get::<Service>("default", name).is_some()
}

fn port_of(world: &World, name: &str) -> Option<u16> {
    Some(world.get::<Service>("default", name)?.ports.first()?.port)
}

#[tokio::test]
async fn the_first_change_has_every_page_of_everything_and_later_ones_what_happened() {
    let server = Server::start().await;
    (1..=5).for_each(|at| server.put(&service(&format!("web-{at}"), 80)));
    let mut known = Known::of(&server);
    assert!(timeout(PATIENCE, known.next()).await.unwrap());
    assert_eq!(known.world.all::<Service>().count(), 5);
    server.put(&service("web-6", 80));
    server.put(&service("web-1", 81));
    server.delete(Kind::Service, "default", "web-2");
    known
        .until("all three", |world| {
            has("web-6")(world) && !has("web-2")(world) && port_of(world, "web-1") == Some(81)
        })
        .await;
    assert_eq!(known.removed, [Key::new(Kind::Service, "default", "web-2")]);
}

#[tokio::test]
async fn slices_are_followed_without_those_that_repeat_pods_and_without_their_noise() {
    let slice = |address: &str, time: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: db-1\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: db}}\n  \
             annotations: {{endpoints.kubernetes.io/last-change-trigger-time: \"{time}\"}}\n\
             addressType: IPv4\nports: null\nendpoints: [{{addresses: [{address}], hostname: h, nodeName: n}}]"
        )
    };
    let server = Server::start().await;
    server.put(&slice("192.0.2.1", "one"));
    let mut known = Known::of(&server);
    let has = |address: &'static str| {
        move |world: &World| {
            let slice = world.get::<EndpointSlice>("default", "db-1");
            slice.is_some_and(|slice| slice.endpoints[0].addresses == [address])
        }
    };
    known.until("the slice", has("192.0.2.1")).await;
    let before = known.world.get::<EndpointSlice>("default", "db-1").unwrap().object.hash;
    server.put(&slice("192.0.2.1", "two"));
    server.put(&service("later", 80));
    known.until("what came later", |world| world.get::<Service>("default", "later").is_some()).await;
    assert_eq!(known.world.get::<EndpointSlice>("default", "db-1").unwrap().object.hash, before);
    server.put(&slice("192.0.2.2", "two"));
    known.until("the other address", has("192.0.2.2")).await;
    let asked = server.requests();
    let asked: Vec<_> = asked.iter().filter(|request| request.contains("/endpointslices?")).collect();
    let by_hand = "endpointslice.kubernetes.io%2Fmanaged-by%21%3Dendpointslice-controller.k8s.io";
    assert!(!asked.is_empty() && asked.iter().all(|request| request.contains(by_hand)), "{asked:?}");
}

#[tokio::test]
async fn nothing_is_said_before_everything_has_been_read() {
    let server = Server::start().await;
    server.put(&service("web", 80));
    server.fail(Kind::AuthorizationPolicy, Some(StatusCode::INTERNAL_SERVER_ERROR));
    let mut known = Known::of(&server);
    known.nothing_comes().await;
    server.fail(Kind::AuthorizationPolicy, Some(StatusCode::FORBIDDEN));
    known.nothing_comes().await;
    server.fail(Kind::AuthorizationPolicy, None);
    known.until("the service", has("web")).await;
}

#[tokio::test]
async fn after_an_expired_watch_only_what_is_gone_is_removed() {
    let server = Server::start().await;
    ["a", "b", "c"].iter().for_each(|name| server.put(&service(name, 80)));
    let mut known = Known::of(&server);
    known.until("c", has("c")).await;
    server.set_down(true);
    server.delete(Kind::Service, "default", "b");
    server.put(&service("d", 80));
    server.expire(Kind::Service);
    server.set_down(false);
    known.until("d and not b", |world| has("d")(world) && !has("b")(world)).await;
    assert_eq!(known.removed, [Key::new(Kind::Service, "default", "b")]);
    server.put(&service("e", 80));
    known.until("e", has("e")).await;
}

#[tokio::test]
async fn while_the_server_is_away_or_fails_everything_stays() {
    let server = Server::start().await;
    ["a", "b", "c"].iter().for_each(|name| server.put(&service(name, 80)));
    let mut known = Known::of(&server);
    known.until("c", has("c")).await;
    server.set_down(true);
    known.nothing_comes().await;
    server.fail(Kind::Service, Some(StatusCode::SERVICE_UNAVAILABLE));
    server.expire(Kind::Service);
    server.set_down(false);
    known.nothing_comes().await;
    // A kind that is not served for a moment, as while an API server starts, has not lost its objects.
    server.fail(Kind::Service, Some(StatusCode::NOT_FOUND));
    known.nothing_comes().await;
    server.fail(Kind::Service, None);
    server.put(&service("d", 80));
    known.until("d", has("d")).await;
    assert_eq!(known.removed, []);
}

#[tokio::test]
async fn nonsense_in_a_watch_changes_nothing_and_the_watch_goes_on() {
    let server = Server::start().await;
    server.put(&service("a", 80));
    let mut known = Known::of(&server);
    known.until("a", has("a")).await;
    for line in [
        "}{",
        r#"{"type":"ADDED","object":7}"#,
        r#"{"type":"DELETED","object":{"metadata":{}}}"#,
        r#"{"type":"ODD","object":{}}"#,
        r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":500,"message":"oops"}}"#,
    ] {
        server.break_off(Kind::Service, line);
    }
    server.put(&service("b", 80));
    known.until("b", has("b")).await;
    assert_eq!(known.removed, []);
}

#[tokio::test]
async fn a_kind_that_the_cluster_does_not_have_is_empty_until_it_comes() {
    let server = Server::start().await;
    server.fail(Kind::VirtualService, Some(StatusCode::NOT_FOUND));
    let mut known = Known::of(&server);
    assert!(timeout(PATIENCE, known.next()).await.unwrap());
    server.fail(Kind::VirtualService, None);
    server.put(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {name: web, namespace: default}\nspec: {hosts: [web]}",
    );
    let has = |world: &World| world.get::<VirtualService>("default", "web").is_some();
    known.until("the new kind's object", has).await;
}

#[tokio::test]
async fn a_bad_object_keeps_its_last_good_version_and_harms_no_other() {
    let server = Server::start().await;
    server.put(&service("good", 80));
    server.put(&service("odd", 80));
    let mut known = Known::of(&server);
    known.until("odd", has("odd")).await;
    server.put(
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\nspec: {ports: [{port: 70000}]}",
    );
    server.put(&service("good", 81));
    known.until("good's change", |world| port_of(world, "good") == Some(81)).await;
    let odd = Key::new(Kind::Service, "default", "odd");
    known.until("the refusal", |world| world.refusal(&odd).is_some()).await;
    assert_eq!(port_of(&known.world, "odd"), Some(80));
    server.put(&service("odd", 82));
    known.until("mended", |world| world.refusal(&odd).is_none()).await;
    assert_eq!(port_of(&known.world, "odd"), Some(82));
}

#[tokio::test]
async fn a_namespace_can_be_left_out_and_taken_in() {
    let server = Server::start().await;
    server.put(
        "apiVersion: v1\nkind: Service\nmetadata: {name: theirs, namespace: other}\nspec: {ports: [{port: 80}]}",
    );
    server.put(&service("ours", 80));
    let mut known = Known::of(&server);
    known.until("ours", has("ours")).await;
    let theirs = |world: &World| world.get::<Service>("other", "theirs").is_some();
    assert!(!theirs(&known.world));
    server.put("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}");
    known.until("theirs", theirs).await;
    server.delete(Kind::Namespace, "", "other");
    known.until("not theirs", |world| !theirs(world)).await;
    assert!(has("ours")(&known.world));
}

#[tokio::test]
async fn of_secrets_only_those_that_something_names_are_read() {
    let secret = |name: &str, key: &str| server_secret(name, key);
    let server = Server::start().await;
    server.put(&secret("web-tls", "b25l"));
    server.put(&secret("password", "c2VjcmV0"));
    server.put(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: default}\n\
         spec: {tls: [{secretName: web-tls}]}",
    );
    let mut known = Known::of(&server);
    assert!(timeout(PATIENCE, known.next()).await.unwrap());
    let key = |world: &World| Some(world.get::<Secret>("default", "web-tls")?.data.get("tls.key")?.clone());
    assert_eq!(key(&known.world).as_deref(), Some("b25l"), "the first change has it already");
    server.put(&secret("web-tls", "dHdv"));
    known.until("the new key", |world| key(world).as_deref() == Some("dHdv")).await;
    // As an API server does that has just started.
    server.fail(Kind::Secret, Some(StatusCode::FORBIDDEN));
    let asked = || server.requests().iter().filter(|path| path.contains("web-tls")).count();
    let before = asked();
    server.put(&secret("web-tls", "dGhyZWU="));
    while asked() == before {
        tokio::task::yield_now().await;
    }
    server.fail(Kind::Secret, None);
    known.until("the third key", |world| key(world).as_deref() == Some("dGhyZWU=")).await;
    server.delete(Kind::Ingress, "default", "web");
    known.until("forgotten", |world| key(world).is_none()).await;
    assert!(!server.requests().iter().any(|path| path.contains("password")));
}

fn server_secret(name: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}, namespace: default}}\n\
         data: {{tls.crt: {key}, tls.key: {key}}}"
    )
}

#[tokio::test]
async fn a_pod_is_where_its_node_is_and_leaving_once_it_is_deleted() {
    let pod = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, namespace: default, uid: u-1{more}}}\n\
             spec: {{nodeName: n1, containers: [{{name: web, image: x, ports: [{{containerPort: 80}}]}}]}}\n\
             status: {{podIP: 10.1.0.1, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}"
        )
    };
    let server = Server::start().await;
    server.put(&pod(""));
    let mut known = Known::of(&server);
    let readiness = |world: &World| Some(Readiness::of_pod(&world.get::<Pod>("default", "web-1")?));
    known.until("ready", |world| readiness(world) == Some(Readiness::Ready)).await;
    server.put(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1, other: x}}",
    );
    let zone = |world: &World| {
        let pod = world.get::<Pod>("default", "web-1")?;
        pod.object.meta.label("topology.kubernetes.io/zone").map(str::to_owned)
    };
    known.until("the zone", |world| zone(world).as_deref() == Some("z1")).await;
    server.put(&pod(", deletionTimestamp: '2026-01-01T00:00:00Z'"));
    known.until("leaving", |world| readiness(world) == Some(Readiness::Leaving)).await;
    assert_eq!(zone(&known.world).as_deref(), Some("z1"));
}
