//! Closures are worked out beside the thread that serves: what one proxy needs may take long.
//!
//! Each namespace has one thread at most, so that one whose objects are huge has its own proxies wait and no other's.
//! Of proxies that wait for the same closure, the later ones find it done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_core::model::Root;
use tokio::sync::OwnedMutexGuard;

use crate::view::{Basis, Members, Proxy, View};

/// What a root needs, and what that rests on.
pub(super) type Closure = (Members, Arc<Basis>);

/// Who works for which namespace. Holds one entry for each namespace that ever had a proxy.
#[derive(Default)]
pub(super) struct Turns {
    namespaces: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// The closures of some roots, in the order of roots.
    ///
    /// # Errors
    /// When translation fails, which is a mistake of ours.
    pub(super) async fn closures(
        &self,
        view: &Arc<View>,
        proxy: &Proxy,
        roots: Vec<Root>,
    ) -> Result<Vec<(Root, Closure)>, String> {
        let (mut closures, unknown) = recall(view, proxy, roots);
        if !unknown.is_empty() {
            let turn = self.of(&proxy.namespace).lock_owned().await;
            // Who went before may have worked out all of it.
            let (known, unknown) = recall(view, proxy, unknown);
            closures.extend(known);
            if !unknown.is_empty() {
                closures.extend(work_out(turn, Arc::clone(view), proxy.clone(), unknown).await?);
            }
            closures.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
        Ok(closures)
    }

    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(namespaces.entry(namespace.to_owned()).or_default())
    }
}

/// Takes the turn with it: whoever asked may be gone before it is done, and the next must still wait.
async fn work_out(
    turn: OwnedMutexGuard<()>,
    view: Arc<View>,
    proxy: Proxy,
    roots: Vec<Root>,
) -> Result<Vec<(Root, Closure)>, String> {
    let work = move || {
        let closures = roots.into_iter().map(|root| {
            let closure = view.look_up(&proxy, &root);
            (root, closure)
        });
        let closures = closures.collect();
        drop(turn);
        closures
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("translation failed: {error}"))
}

/// What is known of some roots, and the roots of which nothing is.
fn recall(view: &View, proxy: &Proxy, roots: Vec<Root>) -> (Vec<(Root, Closure)>, Vec<Root>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for root in roots {
        match view.recall(proxy, &root) {
            Some(closure) => known.push((root, closure)),
            None => unknown.push(root),
        }
    }
    (known, unknown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::model::Role;

    use super::*;

    /// TM-06: a namespace whose translation takes long has its own proxies wait.
    #[tokio::test]
    async fn no_namespace_waits_for_the_translation_of_another() {
        let (turns, view) = (Turns::default(), Arc::new(View::default()));
        let proxy = |namespace: &str| Proxy {
            role: Role::Sidecar,
            namespace: namespace.to_owned(),
            pod: "a".to_owned(),
            service_account: "a".to_owned(),
        };
        let (slow, other) = (proxy("slow"), proxy("other"));
        let _under_way = turns.of("slow").lock_owned().await;
        let found = turns.closures(&view, &other, vec![Root::Own]).await.unwrap();
        assert!(matches!(&found[..], [(Root::Own, (None, _))]));
        let waiting = turns.closures(&view, &slow, vec![Root::Own]);
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    }
}
