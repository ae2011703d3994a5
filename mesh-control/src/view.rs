//! What one proxy may see of a world: the closure of each root it asks for.
//!
//! A view is one generation of the world, never changed. A closure depends on the root and on the class of the proxy
//! alone (namespace, its Sidecar, and those of its labels that some object looks at), so it is computed, encoded and hashed once and
//! shared by all proxies of the class. Closures are deterministic: members in order of their keys.
//!
//! Views that differ in pods, EndpointSlices and VirtualServices share the closures that were worked out for any of them. Each
//! rests on what it was made of (`stamps`, `kept`), and a view believes one only if all of that is as it was. So a change
//! costs what it touches, and it does not matter which view a closure was worked out for.

mod closure;
mod kept;
mod stamps;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use mesh_core::model::{Role, Root, Workload};
use mesh_core::wire::Encoded;

use crate::api::core::Pod;
use crate::api::meta::StringMap;
use crate::api::{Item, Key};
use crate::problem::Problem;
use crate::translate::visibility::{self, Visibility};
use crate::translate::{Catalog, Client, Scope, problems, workload};
use crate::world::{Touched, World};
pub use stamps::Basis;
use stamps::{Stamps, Subject};

/// Closures that are not worth sweeping.
const SWEEP: usize = 1024;

/// A proxy as far as its view depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it is.
    pub role: Role,
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
}

/// What closures are shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Class {
    namespace: String,
    labels: Vec<(String, String)>,
    sidecar: Option<Key>,
    /// For what only one pod has.
    pod: Option<(String, Role)>,
}

/// Everything that a root needs, in order of keys; `None` when there is nothing, or nothing that the proxy may see.
pub type Members = Option<Arc<Vec<Arc<Encoded>>>>;

/// A closure, and what it was made of.
#[derive(Debug, Clone)]
struct Known {
    members: Members,
    basis: Arc<Basis>,
}

/// Closures of views that share a catalog.
#[derive(Default)]
struct Closures {
    known: DashMap<(Class, Root), Known>,
    /// Resources by content, so that equal ones of several classes are held once.
    resources: DashMap<(String, u64), Weak<Encoded>>,
    /// How many were known after those were forgotten that rest on nothing any more.
    swept: AtomicUsize,
}

/// One generation of the world.
#[derive(Default)]
pub struct View {
    generation: u64,
    world: World,
    catalog: Arc<Catalog>,
    stamps: Stamps,
    closures: Arc<Closures>,
    problems: OnceLock<Vec<Problem>>,
}

impl View {
    /// A view of a world. Generations count up from 1.
    pub fn new(world: World, generation: u64) -> Self {
        let (catalog, stamps) = (Arc::new(Catalog::new(&world)), Stamps::new(generation));
        Self { generation, catalog, stamps, world, ..Self::default() }
    }

    /// The view after a change. What the change cannot have altered is taken over from the view before: in a large mesh
    /// pods and EndpointSlices come and go all the time, and each concerns few.
    pub fn after(previous: &Self, world: World, generation: u64, touched: &Touched) -> Self {
        if previous.generation == 0 || !kept::leaves_catalog(&previous.world, &world, touched) {
            return Self::new(world, generation);
        }
        let mut stamps = previous.stamps.clone();
        kept::stamp(&mut stamps, &previous.world, &world, touched, generation);
        let (catalog, closures) = (Arc::clone(&previous.catalog), Arc::clone(&previous.closures));
        closures.sweep(&stamps);
        Self { generation, world, catalog, stamps, closures, problems: OnceLock::new() }
    }

    /// Which generation this is; 0 before anything was read.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// All objects.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// All services.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.world.mesh_config().trust_domain
    }

    /// What a pod is, for its certificate.
    pub fn workload(&self, namespace: &str, pod: &str) -> Option<Workload> {
        self.world.get::<Pod>(namespace, pod).map(|pod| workload::facts(&pod))
    }

    /// Everything that is wrong or without effect; found out at the first call.
    pub fn problems(&self) -> &[Problem] {
        self.problems.get_or_init(|| problems::all(&self.world, &self.catalog))
    }

    /// A root's closure for a proxy; `None` when there is nothing, or nothing that it may see.
    pub fn closure(&self, proxy: &Proxy, root: &Root) -> Option<Vec<Arc<Encoded>>> {
        self.look_up(proxy, root).0.map(|members| members.to_vec())
    }

    /// The same, with what it rests on.
    pub fn look_up(&self, proxy: &Proxy, root: &Root) -> (Members, Arc<Basis>) {
        let pod = self.world.get::<Pod>(&proxy.namespace, &proxy.pod);
        let key = (self.class(proxy, pod.as_ref(), root), root.clone());
        let found = self.known(&key).unwrap_or_else(|| {
            let found = self.compute(proxy, pod.as_ref(), &key);
            self.closures.known.insert(key, found.clone());
            found
        });
        (found.members, found.basis)
    }

    /// The same if it has been worked out already.
    pub fn recall(&self, proxy: &Proxy, root: &Root) -> Option<(Members, Arc<Basis>)> {
        let pod = self.world.get::<Pod>(&proxy.namespace, &proxy.pod);
        let found = self.known(&(self.class(proxy, pod.as_ref(), root), root.clone()))?;
        Some((found.members, found.basis))
    }

    fn known(&self, key: &(Class, Root)) -> Option<Known> {
        let known = self.closures.known.get(key)?;
        self.stamps.support(&known.basis).then(|| known.clone())
    }

    /// Whether what was looked up on this basis would be found again by a proxy that is what it was then.
    pub fn supports(&self, basis: &Basis) -> bool {
        self.stamps.support(basis)
    }

    /// What a proxy itself rests on.
    pub fn basis_of(&self, proxy: &Proxy) -> Basis {
        let mut basis = self.stamps.begin();
        basis.add(Subject::Pod(&proxy.namespace, &proxy.pod));
        basis.finish()
    }

    /// The Sidecar that hides from a proxy what a root asks for, where somebody declares it.
    pub fn hidden_by(&self, proxy: &Proxy, root: &Root) -> Option<Key> {
        let pod = self.world.get::<Pod>(&proxy.namespace, &proxy.pod);
        self.scoped(proxy, pod.as_ref(), |scope| visibility::hider(scope, root).cloned())
    }

    fn class(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>, root: &Root) -> Class {
        let labels = pod.map(|pod| &pod.object.meta.labels);
        let known = |name: &String| Some((name.clone(), labels?.get(name)?.clone()));
        Class {
            namespace: proxy.namespace.clone(),
            labels: self.catalog.client_labels().iter().filter_map(known).collect(),
            sidecar: self.sidecar(proxy, pod).map(|sidecar| sidecar.key.clone()),
            pod: matches!(root, Root::Own).then(|| (proxy.pod.clone(), proxy.role)),
        }
    }

    /// The Sidecar that holds for a proxy; gateways are told everything that their resources name.
    fn sidecar(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>) -> Option<&Visibility> {
        if pod.is_some_and(workload::is_gateway) {
            return None;
        }
        let none = StringMap::new();
        let labels = pod.map_or(&none, |pod| &pod.object.meta.labels);
        self.catalog.sidecars().of(&proxy.namespace, labels)
    }

    fn compute(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>, (class, root): &(Class, Root)) -> Known {
        let resources = self.scoped(proxy, pod, |scope| closure::of(scope, pod, proxy.role, root));
        let basis = Arc::new(kept::basis(self, class, root, resources.as_deref()));
        let members = resources.map(|resources| {
            let encoded = resources.iter().map(mesh_core::wire::encode);
            let encoded: BTreeMap<String, Arc<Encoded>> =
                encoded.map(|encoded| (encoded.key.clone(), self.closures.shared(encoded))).collect();
            Arc::new(encoded.into_values().collect())
        });
        Known { members, basis }
    }

    fn scoped<T>(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>, look: impl FnOnce(&Scope<'_>) -> T) -> T {
        let none = StringMap::new();
        let labels = pod.map_or(&none, |pod| &pod.object.meta.labels);
        let client = Client { namespace: &proxy.namespace, labels, sidecar: self.sidecar(proxy, pod) };
        look(&Scope { world: &self.world, catalog: &self.catalog, client })
    }
}

impl Closures {
    fn shared(&self, encoded: Encoded) -> Arc<Encoded> {
        let mut held = self.resources.entry((encoded.key.clone(), encoded.version)).or_default();
        held.upgrade().unwrap_or_else(|| {
            let encoded = Arc::new(encoded);
            *held = Arc::downgrade(&encoded);
            encoded
        })
    }

    /// Forgets what rests on nothing any more, once that may be as much as all else.
    fn sweep(&self, stamps: &Stamps) {
        if self.known.len() < 2 * self.swept.load(Ordering::Relaxed) + SWEEP {
            return;
        }
        self.known.retain(|_, known| stamps.support(&known.basis));
        self.resources.retain(|_, resource| resource.strong_count() > 0);
        self.swept.store(self.known.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("generation", &self.generation).finish_non_exhaustive()
    }
}
