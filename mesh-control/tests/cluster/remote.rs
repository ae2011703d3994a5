//! What the command line does with a cluster: applies, waits, deletes, reads, and says which rights are missing.
//!
//! Nobody runs pods here, so port-forwarding is not part of it.

use std::cell::RefCell;
use std::time::Duration;

use mesh_control::api::networking::VirtualService;
use mesh_control::cluster::remote::{Remote, RemoteError};
use mesh_control::world::World;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::{chart, send};

fn route(host: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "route"},
        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

#[tokio::test]
async fn the_command_line_changes_and_reads_a_cluster() {
    let Some(server) = ApiServer::start().await else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let remote = Remote::with(server.client());
    let changes = |changed: &[mesh_control::cluster::remote::change::Changed]| {
        changed.iter().map(|one| one.change).collect::<Vec<_>>()
    };

    // A kind that the cluster does not have is told before anything else of it.
    let unknown = remote.apply(vec![route("web")]).await.unwrap_err();
    assert!(unknown.to_string().contains("has no kind VirtualService"), "{unknown}");

    // A definition and an object of its kind in one go, in the namespace that comes with them.
    let mut elsewhere = route("web");
    elsewhere["metadata"]["namespace"] = "team".into();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let together = [vec![elsewhere, namespace], chart::definitions()].concat();
    let changed = remote.apply(together.clone()).await.unwrap();
    assert!(changed.iter().all(|one| one.change == "created"), "{changed:?}");
    assert!(remote.apply(together).await.unwrap().iter().all(|one| one.change == "unchanged"));
    assert_eq!(changes(&remote.apply(vec![route("web")]).await.unwrap()), ["created"]);
    let changed = remote.apply(vec![route("other")]).await.unwrap();
    assert_eq!(changes(&changed), ["changed"]);

    // Nobody judges it; then somebody does, of the version before; then of this one.
    let told = RefCell::new(Vec::new());
    let tell = |step: String| told.borrow_mut().push(step);
    let short = Duration::from_secs(1);
    assert!(matches!(remote.wait(&changed, short, &tell).await, Err(RemoteError::Late(_))));
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/route";
    let judge = async |kind: &str, status: &str, generation: u64| {
        let condition = json!({"type": kind, "status": status, "observedGeneration": generation, "message": "because",
            "reason": "Test", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let patch = json!({"status": {"conditions": [condition]}});
        send(remote.client(), "PATCH", &format!("{path}/status"), &patch).await.unwrap();
    };
    judge("Programmed", "True", 1).await;
    assert!(matches!(remote.wait(&changed, short, &tell).await, Err(RemoteError::Late(_))));
    judge("Accepted", "False", 2).await;
    let refused = remote.wait(&changed, short, &tell).await.unwrap_err();
    assert_eq!(refused.to_string(), "VirtualService default/route: because");
    judge("Programmed", "True", 2).await;
    remote.wait(&changed, Duration::from_secs(10), &tell).await.unwrap();
    assert!(told.borrow().iter().any(|step| step.contains("has not judged it yet")), "{told:?}");

    // Read as the control plane reads it.
    let mut world = World::default();
    world.apply(remote.objects().await.unwrap().change);
    assert!(world.get::<VirtualService>("team", "route").is_some());

    // By any of its names; twice is once.
    let named = remote.named("vs", "default", "route").await.unwrap();
    let deleted = remote.delete(std::slice::from_ref(&named)).await.unwrap();
    remote.wait(&deleted, Duration::from_secs(10), &tell).await.unwrap();
    assert!(remote.delete(&[named]).await.unwrap().is_empty());
    assert!(remote.named("nothing", "default", "x").await.is_err());

    // A definition takes its objects with it; it goes last, and what is gone already is no failure.
    let mut elsewhere = route("web");
    elsewhere["metadata"]["namespace"] = "team".into();
    let all = [chart::definitions(), vec![elsewhere]].concat();
    let deleted = remote.delete(&all).await.unwrap();
    assert_eq!(deleted[0].object["kind"], "VirtualService");
    remote.wait(&deleted, Duration::from_secs(30), &tell).await.unwrap();
    assert!(remote.delete(&all).await.unwrap().is_empty());

    // Who may do nothing is told what is missing, at once.
    let stranger = Remote::with(server.control());
    let refused = stranger.objects().await.unwrap_err();
    assert!(
        !refused.is_unreachable() && refused.to_string().contains("you may not list namespaces"),
        "{refused}"
    );
    let refused = stranger.pods(None).await.unwrap_err();
    assert!(!refused.is_unreachable(), "{refused}");
}
