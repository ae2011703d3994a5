//! Closures are worked out beside the thread that serves: what one proxy needs may take long.
//!
//! Each namespace has one thread at most, so that one whose objects are huge has its own proxies wait and no other's.
//! Of proxies that wait for the same closure, the later ones find it done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_core::model::Root;

use crate::view::{Basis, Members, Proxy, View};

/// What a root needs, and what that rests on.
pub(super) type Closure = (Members, Arc<Basis>);

/// Who works for which namespace. Holds one entry for each namespace that ever had a proxy.
#[derive(Default)]
pub(super) struct Turns {
    namespaces: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// The closures of some roots, in their order.
    ///
    /// # Errors
    /// When translation fails, which is a mistake of ours.
    pub(super) async fn closures(
        &self,
        view: &Arc<View>,
        proxy: &Proxy,
        roots: Vec<Root>,
    ) -> Result<Vec<(Root, Closure)>, String> {
        let turn = self.of(&proxy.namespace).lock_owned().await;
        let (view, proxy) = (Arc::clone(view), proxy.clone());
        let work = move || {
            let closures = roots.into_iter().map(|root| {
                let closure = view.look_up(&proxy, &root);
                (root, closure)
            });
            let closures = closures.collect();
            // Held by the work itself: whoever asked may be gone, and the next must still wait.
            drop(turn);
            closures
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| format!("translation failed: {error}"))
    }

    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(namespaces.entry(namespace.to_owned()).or_default())
    }
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
