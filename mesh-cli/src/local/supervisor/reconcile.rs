//! Makes the running pods those that the objects ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::mesh::{Mesh, PodKey};
use super::pods::{self, Pod};
use crate::local::controllers::{self, DesiredPod, Replacement};
use crate::local::manifest::ObjectKey;
use crate::local::token;

/// Changes may be announced while nobody waits; this bounds how late they are seen.
const LATEST: Duration = Duration::from_millis(200);
/// How often the control plane is asked how far it is, while somebody waits for it.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for a change of pods or objects, or a short while.
pub(super) async fn next_change(mesh: &Mesh) {
    let _ = tokio::time::timeout(LATEST, mesh.changed.notified()).await;
}

/// As [`next_change`], for those who also wait for the control plane, which wakes nobody here.
pub(super) async fn next_look(mesh: &Mesh) {
    let _ = tokio::time::timeout(LOOK, mesh.changed.notified()).await;
}

/// Reconciles after every change.
pub(super) async fn keep(mesh: Rc<Mesh>) {
    while !mesh.stopping.is_cancelled() {
        reconcile(&mesh);
        next_change(&mesh).await;
    }
}

/// Gives the reconciler a turn, so that what was just applied is on its way.
pub(super) async fn settle(mesh: &Rc<Mesh>) {
    reconcile(mesh);
    tokio::task::yield_now().await;
}

/// Hands every pod a new token at half of a token's life.
pub(super) async fn rotate_tokens(mesh: Rc<Mesh>) {
    loop {
        tokio::time::sleep(token::LIFETIME / 2).await;
        let pods: Vec<Rc<Pod>> = mesh.pods.borrow().values().cloned().collect();
        for pod in pods {
            pods::renew_token(&mesh, &pod).await;
        }
    }
}

fn reconcile(mesh: &Rc<Mesh>) {
    if mesh.stopping.is_cancelled() {
        return;
    }
    // Objects were checked when they were applied.
    let Ok(desired) = controllers::desired(mesh.store.borrow().iter()) else { return };
    let running: BTreeMap<PodKey, Rc<Pod>> = mesh.pods.borrow().clone();
    for pod in desired.iter().filter(|pod| mesh.applications_allowed.get() || is_gateway(pod)) {
        if !running.contains_key(&(pod.namespace.clone(), pod.name.clone())) {
            pods::start(mesh, pod.clone());
        }
    }
    for pod in superfluous(&desired, &running) {
        pod.stop();
    }
}

fn is_gateway(pod: &DesiredPod) -> bool {
    pod.template.metadata.annotations.get("inject.istio.io/templates").is_some_and(|name| name == "gateway")
}

/// Pods to end now: those nobody asks for, and those of an older generation whose successors are ready or need the name.
fn superfluous<'a>(desired: &[DesiredPod], running: &'a BTreeMap<PodKey, Rc<Pod>>) -> Vec<&'a Rc<Pod>> {
    let wanted: BTreeMap<PodKey, &DesiredPod> =
        desired.iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
    let is_ready = |key: &PodKey| running.get(key).is_some_and(|pod| pod.is_ready() || pod.is_finished());
    let unready: BTreeSet<&ObjectKey> =
        wanted.iter().filter(|(key, _)| !is_ready(key)).map(|(_, pod)| &pod.owner).collect();
    running
        .iter()
        .filter(|(key, pod)| match wanted.get(*key) {
            Some(wanted) => wanted.generation != pod.desired.generation,
            None => pod.desired.replacement == Replacement::Recreate || !unready.contains(&pod.desired.owner),
        })
        .map(|(_, pod)| pod)
        .collect()
}
