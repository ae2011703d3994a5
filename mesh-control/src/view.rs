//! What one proxy may see of a world: the closure of each root it asks for.
//!
//! A view is one generation of the world, never changed. A closure depends on the root and on the class of the proxy
//! alone (namespace, its Sidecar, and those of its labels that some object looks at), so it is computed, encoded and hashed once and
//! shared by all proxies of the class. Closures are deterministic: members in order of their keys.

mod closure;
mod kept;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use mesh_core::model::{Role, Root, Workload};
use mesh_core::wire::Encoded;

use crate::api::core::Pod;
use crate::api::meta::StringMap;
use crate::api::{Item, Key, Kind};
use crate::problem::Problem;
use crate::translate::visibility::{self, Visibility};
use crate::translate::{Catalog, Client, Scope, problems, workload};
use crate::world::{Touched, World};

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

/// Everything that a root needs.
#[derive(Debug, Clone)]
struct Closure {
    members: Arc<Vec<Arc<Encoded>>>,
    /// Hosts of which it has the endpoints.
    hosts: Arc<[String]>,
}

/// One generation of the world.
#[derive(Default)]
pub struct View {
    generation: u64,
    world: World,
    catalog: Arc<Catalog>,
    closures: DashMap<(Class, Root), Option<Closure>>,
    /// Resources by content, so that equal ones of several classes are held once.
    resources: DashMap<(String, u64), Arc<Encoded>>,
    problems: OnceLock<Vec<Problem>>,
}

impl View {
    /// A view of a world. Generations count up from 1.
    pub fn new(world: World, generation: u64) -> Self {
        Self { generation, catalog: Arc::new(Catalog::new(&world)), world, ..Self::default() }
    }

    /// The view after a change. What the change cannot have altered is taken over from the view before: in a large mesh
    /// pods and EndpointSlices come and go all the time, and each concerns few.
    pub fn after(previous: &Self, world: World, generation: u64, touched: &Touched) -> Self {
        if !touched.only(&[Kind::Pod, Kind::EndpointSlice]) {
            return Self::new(world, generation);
        }
        let catalog = Arc::clone(&previous.catalog);
        let view = Self { generation, catalog, world, ..Self::default() };
        kept::take_over(&view, previous, touched);
        view
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
        let pod = self.world.get::<Pod>(&proxy.namespace, &proxy.pod);
        let key = (self.class(proxy, pod.as_ref(), root), root.clone());
        if let Some(known) = self.closures.get(&key) {
            return known.as_ref().map(|closure| closure.members.to_vec());
        }
        let closure = self.compute(proxy, pod.as_ref(), root);
        self.closures.insert(key, closure.clone());
        closure.map(|closure| closure.members.to_vec())
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

    fn compute(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>, root: &Root) -> Option<Closure> {
        let resources = self.scoped(proxy, pod, |scope| closure::of(scope, pod, proxy.role, root))?;
        let encoded: BTreeMap<String, Arc<Encoded>> = resources
            .iter()
            .map(|resource| {
                let encoded = self.shared(mesh_core::wire::encode(resource));
                (encoded.key.clone(), encoded)
            })
            .collect();
        let hosts = resources.iter().filter_map(kept::host).map(str::to_owned).collect();
        Some(Closure { members: Arc::new(encoded.into_values().collect()), hosts })
    }

    fn scoped<T>(&self, proxy: &Proxy, pod: Option<&Item<'_, Pod>>, look: impl FnOnce(&Scope<'_>) -> T) -> T {
        let none = StringMap::new();
        let labels = pod.map_or(&none, |pod| &pod.object.meta.labels);
        let client = Client { namespace: &proxy.namespace, labels, sidecar: self.sidecar(proxy, pod) };
        look(&Scope { world: &self.world, catalog: &self.catalog, client })
    }

    fn shared(&self, encoded: Encoded) -> Arc<Encoded> {
        let key = (encoded.key.clone(), encoded.version);
        Arc::clone(&self.resources.entry(key).or_insert_with(|| Arc::new(encoded)))
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("generation", &self.generation).finish_non_exhaustive()
    }
}
