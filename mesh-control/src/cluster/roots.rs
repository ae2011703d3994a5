//! The mesh's root certificate in a ConfigMap of every namespace, where pods mount it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::request::{Method, send};
use crate::api::core::Namespace;
use crate::serve::Plane;

/// The ConfigMap, as injected pods name it, and its key.
pub const CONFIG_MAP: &str = "mesh-root-cert";
const KEY: &str = "root-cert.pem";
/// How often all are written again, for those that somebody changed or deleted; and after a failure.
const AGAIN: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(5);

/// Writes while we lead, until `stop`.
pub async fn publish(
    client: Client,
    plane: Arc<Plane>,
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (mut generations, mut standings) = (plane.generations(), plane.standings());
    let mut written = BTreeMap::new();
    let mut forget_at = tokio::time::Instant::now() + AGAIN;
    loop {
        let leading = *leads.borrow_and_update();
        generations.mark_unchanged();
        standings.mark_unchanged();
        if !leading || tokio::time::Instant::now() >= forget_at {
            written.clear();
            forget_at = tokio::time::Instant::now() + AGAIN;
        }
        let complete = !leading || write(&client, &plane, &mut written).await;
        tokio::select! {
            _ = generations.changed() => {}
            _ = standings.changed() => {}
            changed = leads.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(if complete { AGAIN } else { SOON }) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// True if every namespace has the root.
async fn write(client: &Client, plane: &Plane, written: &mut BTreeMap<String, String>) -> bool {
    let (view, root) = (plane.view(), plane.root());
    let namespaces: Vec<_> =
        view.world().all::<Namespace>().map(|namespace| namespace.name().to_owned()).collect();
    written.retain(|namespace, _| namespaces.contains(namespace));
    let mut complete = true;
    for namespace in namespaces {
        if written.get(&namespace).is_some_and(|held| *held == root) {
            continue;
        }
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}");
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "labels": {"app.kubernetes.io/part-of": "mesh"}},
            "data": {KEY: root},
        });
        match send(client, Method::Apply, &path, Some(&map)).await {
            Ok(_) => drop(written.insert(namespace, root.clone())),
            // The namespace is being deleted.
            Err(error) if matches!(error.code(), Some(404)) => {}
            Err(error) => {
                tracing::warn!(
                    namespace,
                    error = &error as &dyn std::error::Error,
                    "the root cannot be published"
                );
                complete = false;
            }
        }
    }
    complete
}
