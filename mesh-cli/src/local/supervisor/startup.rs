//! The order of the start: control plane, then gateways, then all other pods at once; and what the user hears of it.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::mesh::Mesh;
use super::pods::Pod;
use super::{apply, control_plane, reconcile};
use crate::local::protocol::Event;

/// After this long a pod that is not ready shows its log, and the start goes on without it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long proxies may take to hear of the last pod that became ready.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Starts everything, then says that the mesh is up.
pub(super) async fn run(mesh: Rc<Mesh>) {
    if let Err(error) = control_plane::start(&mesh).await {
        mesh.tell(Event::Failed { message: format!("{error:#}") }).await;
        return;
    }
    tokio::task::spawn_local(reconcile::keep(Rc::clone(&mesh)));
    tokio::task::spawn_local(reconcile::rotate_tokens(Rc::clone(&mesh)));
    let mut told = HashSet::new();
    await_pods(&mesh, &mut told).await;
    mesh.applications_allowed.set(true);
    mesh.changed.notify_waiters();
    reconcile::settle(&mesh).await;
    await_pods(&mesh, &mut told).await;
    await_proxies(&mesh).await;
    let status = mesh.status().await;
    mesh.tell(Event::Up { status }).await;
}

/// A pod that is ready gets traffic once the proxies know of it: the first request should not come too early. What
/// does not settle does not hold up the start; `mesh status` shows it.
async fn await_proxies(mesh: &Mesh) {
    let settled = async {
        while apply::unsettled(mesh).await.is_some() {
            reconcile::next_look(mesh).await;
        }
    };
    let _ = tokio::time::timeout(ACKNOWLEDGED, settled).await;
}

/// Waits until each pod is ready or has used up the patience, and tells of each once.
async fn await_pods(mesh: &Rc<Mesh>, told: &mut HashSet<String>) {
    reconcile::settle(mesh).await;
    let begun = Instant::now();
    loop {
        let pods: Vec<Rc<Pod>> = mesh.pods.borrow().values().cloned().collect();
        let mut waiting = Vec::new();
        for pod in pods {
            let name = format!("{}/{}", pod.place.namespace, pod.place.name);
            if !pod.is_ready() && !pod.is_finished() {
                waiting.push((name, pod));
            } else if told.insert(name.clone()) {
                mesh.tell(Event::Ready { subject: name, after: pod.begun.elapsed() }).await;
            }
        }
        if waiting.is_empty() {
            return;
        }
        let Some(left) = PATIENCE.checked_sub(begun.elapsed()) else {
            for (name, pod) in waiting.into_iter().filter(|(name, _)| told.insert(name.clone())) {
                mesh.tell(Event::Waiting { subject: name, reason: pod.trouble(), log: pod.last_words() })
                    .await;
            }
            return;
        };
        let _ = tokio::time::timeout(left, reconcile::next_change(mesh)).await;
    }
}
