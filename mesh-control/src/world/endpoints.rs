//! Which workloads stand behind a service or a ServiceEntry.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::World;
use super::clues::Clue;
use super::readiness::Readiness;
use super::slices::SliceEndpoint;
use crate::api::core::{IntOrString, Pod, PodSpec, Service, ServicePort, TransportProtocol};
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{Port, ServiceEntry, WorkloadEntry};
use crate::api::{Item, Kind, Metadata};

/// A pod behind one port of a service.
#[derive(Debug, Clone, Copy)]
pub struct PodEndpoint<'w> {
    pub pod: Item<'w, Pod>,
    pub address: IpAddr,
    /// Where the pod listens.
    pub port: u16,
    pub readiness: Readiness,
}

impl<'w> PodEndpoint<'w> {
    /// The pod's labels, which subsets select by.
    pub fn labels(&self) -> &'w StringMap {
        &self.pod.object.meta.labels
    }

    /// The pod's UID; empty if nobody gave it one.
    pub fn uid(&self) -> &'w str {
        self.pod.object.meta.uid.as_deref().unwrap_or_default()
    }

    /// The pod's identity within its namespace.
    pub fn service_account(&self) -> &'w str {
        service_account(&self.pod.spec.spec)
    }

    /// The node the pod runs on.
    pub fn node(&self) -> Option<&'w str> {
        self.pod.spec.spec.node_name.as_deref()
    }

    /// `region/zone/subzone`, as far as labels tell; empty if they do not.
    pub fn locality(&self) -> String {
        locality(self.labels())
    }

    /// The name of the controller that made the pod, as metrics call the workload.
    pub fn workload(&self) -> &'w str {
        workload_name(&self.pod.object.meta)
    }
}

/// A workload that somebody describes, since it runs where no pods are, behind one port of a service.
#[derive(Debug, Clone, Copy)]
pub struct WrittenEndpoint<'w> {
    pub workload: &'w WorkloadEntry,
    /// Where the workload listens.
    pub port: u16,
    /// Of the object; `None` if it is described in a ServiceEntry.
    meta: Option<&'w Metadata>,
}

impl<'w> WrittenEndpoint<'w> {
    /// What subsets select by.
    pub fn labels(&self) -> Cow<'w, StringMap> {
        workload_labels(self.workload, self.meta)
    }
}

/// The labels of a described workload; those of the object itself win over those of its `spec`, as in Istio.
fn workload_labels<'w>(workload: &'w WorkloadEntry, meta: Option<&'w Metadata>) -> Cow<'w, StringMap> {
    match meta {
        Some(meta) if !meta.labels.is_empty() => {
            let mut labels = workload.labels.clone();
            labels.extend(meta.labels.clone());
            Cow::Owned(labels)
        }
        _ => Cow::Borrowed(&workload.labels),
    }
}

/// What stands behind one port of a service.
#[derive(Debug, Clone, Copy)]
pub enum ServiceEndpoint<'w> {
    /// A pod: the service selects it, or a slice names it.
    Pod(PodEndpoint<'w>),
    /// A WorkloadEntry that the service selects, and its address.
    Written(WrittenEndpoint<'w>, IpAddr),
    /// An address that is no pod's.
    Slice(SliceEndpoint<'w>),
}

impl<'w> ServiceEndpoint<'w> {
    /// Where it listens.
    pub fn socket(&self) -> SocketAddr {
        match self {
            Self::Pod(pod) => SocketAddr::new(pod.address, pod.port),
            Self::Written(written, address) => SocketAddr::new(*address, written.port),
            Self::Slice(slice) => SocketAddr::new(slice.address, slice.port),
        }
    }

    /// Whether it takes requests.
    pub fn readiness(&self) -> Readiness {
        match self {
            Self::Pod(pod) => pod.readiness,
            // Nobody says when a described workload ends.
            Self::Written(..) => Readiness::Ready,
            Self::Slice(slice) => slice.readiness,
        }
    }

    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&PodEndpoint<'w>> {
        match self {
            Self::Pod(pod) => Some(pod),
            Self::Written(..) | Self::Slice(_) => None,
        }
    }
}

/// A workload behind one port of a ServiceEntry.
#[derive(Debug, Clone, Copy)]
pub enum EntryEndpoint<'w> {
    /// Written in the entry, or a WorkloadEntry it selects.
    Written(WrittenEndpoint<'w>),
    /// A pod the entry selects.
    Pod(PodEndpoint<'w>),
}

impl EntryEndpoint<'_> {
    /// Whether it takes requests.
    pub fn readiness(&self) -> Readiness {
        match self {
            Self::Pod(pod) => pod.readiness,
            Self::Written(_) => Readiness::Ready,
        }
    }
}

impl World {
    /// What stands behind a port of a service and takes requests, ready or leaving: the pods and WorkloadEntries it selects,
    /// then what its EndpointSlices add. Which of them get requests is [`preferred`](super::preferred)'s to say.
    pub fn endpoints_of<'w>(
        &'w self,
        service: &Item<'w, Service>,
        port: &ServicePort,
    ) -> Vec<ServiceEndpoint<'w>> {
        let mut endpoints: Vec<_> =
            self.selected_endpoints(service, port).into_iter().map(ServiceEndpoint::Pod).collect();
        endpoints.extend(self.workloads_of(service).filter_map(|entry| {
            let address = entry.address.parse().ok()?;
            let port = workload_port(port, entry.spec)?;
            let written = WrittenEndpoint { workload: entry.spec, port, meta: Some(&entry.object.meta) };
            Some(ServiceEndpoint::Written(written, address))
        }));
        self.add_slices(service, port, &mut endpoints);
        endpoints
    }

    fn selected_endpoints<'w>(
        &'w self,
        service: &Item<'w, Service>,
        port: &ServicePort,
    ) -> Vec<PodEndpoint<'w>> {
        if service.selector.is_empty() {
            return Vec::new();
        }
        let all = service.publish_not_ready_addresses;
        self.selected_pods(service.namespace(), &service.spec.selector)
            .filter_map(|pod| pod_endpoint(pod, target_port(port, &pod)?))
            .map(|endpoint| PodEndpoint { readiness: endpoint.readiness.published(all), ..endpoint })
            .filter(|endpoint| endpoint.readiness.takes_requests())
            .collect()
    }

    /// The workloads behind a port of a ServiceEntry; empty means that its hosts are to be resolved, or dialled as
    /// they are, as its resolution says.
    pub fn endpoints_of_entry<'w>(
        &'w self,
        entry: &Item<'w, ServiceEntry>,
        port: &Port,
    ) -> Vec<EntryEndpoint<'w>> {
        let number = port.target_port.unwrap_or(port.number);
        let written = |workload: &'w WorkloadEntry, meta| {
            let port = workload.ports.get(&port.name).copied().unwrap_or(number);
            EntryEndpoint::Written(WrittenEndpoint { workload, port, meta })
        };
        let mut endpoints: Vec<_> =
            entry.spec.endpoints.iter().map(|workload| written(workload, None)).collect();
        if let Some(selector) = &entry.spec.workload_selector {
            let selected = self.selected_workloads(entry.namespace(), &selector.labels);
            endpoints.extend(selected.map(|workload| written(workload.spec, Some(&workload.object.meta))));
            let pods = self.selected_pods(entry.namespace(), &selector.labels);
            let pods = pods.filter_map(|pod| pod_endpoint(pod, number));
            let serving = pods.filter(|endpoint| endpoint.readiness.takes_requests());
            endpoints.extend(serving.map(EntryEndpoint::Pod));
        }
        endpoints
    }

    /// The services that a pod stands behind.
    pub fn services_of<'w>(
        &'w self,
        pod: &Item<'w, Pod>,
    ) -> impl Iterator<Item = Item<'w, Service>> + use<'w> {
        let (world, object) = (self, pod.object);
        let (labels, namespace) = (&object.meta.labels, &*object.key.namespace);
        // Each service has one clue, so none is found twice.
        let clues = labels.iter().map(move |(name, value)| Clue::services(namespace, name, value));
        let found = clues.flat_map(move |clue| world.clues.at(Kind::Service, clue));
        found
            .filter_map(move |key| Item::of(world.object(&key)?))
            .filter(move |service: &Item<'_, Service>| selects(&service.selector, labels))
    }

    /// The WorkloadEntries that a service selects.
    pub fn workloads_of<'w>(
        &'w self,
        service: &Item<'w, Service>,
    ) -> impl Iterator<Item = Item<'w, WorkloadEntry>> + use<'w> {
        let selects_some = !service.selector.is_empty();
        let selected = self.selected_workloads(service.namespace(), &service.spec.selector);
        selected.filter(move |_| selects_some)
    }

    /// The WorkloadEntries of a namespace that have these labels.
    pub fn selected_workloads<'w>(
        &'w self,
        namespace: &str,
        labels: &'w StringMap,
    ) -> impl Iterator<Item = Item<'w, WorkloadEntry>> + use<'w> {
        self.in_namespace::<WorkloadEntry>(namespace)
            .filter(|entry| selects(labels, &workload_labels(entry.spec, Some(&entry.object.meta))))
    }

    /// The pods of a namespace that have these labels, ordered by name.
    pub(super) fn selected_pods<'w>(
        &'w self,
        namespace: &str,
        labels: &'w StringMap,
    ) -> impl Iterator<Item = Item<'w, Pod>> + use<'w> {
        let clues = labels.iter().map(|(name, value)| Clue::pods(namespace, name, value));
        let clue = self.clues.narrowest(clues);
        let found = clue.into_iter().flat_map(|clue| self.clues.at(Kind::Pod, clue));
        let found = found.filter_map(|key| Item::of(self.object(&key)?));
        // Who asks for no labels takes all.
        let all = clue.is_none().then(|| self.in_namespace::<Pod>(namespace));
        found
            .chain(all.into_iter().flatten())
            .filter(move |pod: &Item<'_, Pod>| selects(labels, &pod.object.meta.labels))
    }
}

fn pod_endpoint<'w>(pod: Item<'w, Pod>, port: u16) -> Option<PodEndpoint<'w>> {
    let address = pod.status.pod_ip.filter(|_| !pod.is_finished())?;
    Some(PodEndpoint { pod, address, port, readiness: Readiness::of_pod(&pod) })
}

/// The number that a service's port stands for in a pod; `None` if the pod has no port of that name.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        // Go's zero value: written out by some tools, means absent.
        Some(IntOrString::Number(0)) => Some(port.port),
        Some(IntOrString::Number(number)) => Some(*number),
        Some(IntOrString::Name(name)) => named_port(&pod.spec, name, port.protocol),
    }
}

/// The number that a service's port stands for in a described workload, which may say it by the port's name or by the
/// target port's; `None` if the target port has a name that the workload does not say.
fn workload_port(port: &ServicePort, workload: &WorkloadEntry) -> Option<u16> {
    workload.ports.get(&port.name).copied().or_else(|| match &port.target_port {
        None | Some(IntOrString::Number(0)) => Some(port.port),
        Some(IntOrString::Number(number)) => Some(*number),
        Some(IntOrString::Name(name)) => workload.ports.get(name).copied(),
    })
}

fn named_port(pod: &PodSpec, name: &str, protocol: TransportProtocol) -> Option<u16> {
    let sidecars = pod.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = pod.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    ports
        .find(|port| port.name.as_deref() == Some(name) && port.protocol == protocol)
        .map(|port| port.container_port)
}

/// The service account of a pod; Kubernetes' default when it names none.
pub(super) fn service_account(pod: &PodSpec) -> &str {
    pod.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// From the label Istio reads first, else from the topology labels.
pub fn locality(labels: &StringMap) -> String {
    if let Some(locality) = labels.get("istio-locality") {
        return locality.replace('.', "/");
    }
    let names = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    let parts: Vec<_> = names.iter().map_while(|name| labels.get(*name).map(String::as_str)).collect();
    parts.join("/")
}

/// The controller's name. A ReplicaSet stands for its Deployment: the hash at the end of its name is cut off.
fn workload_name(meta: &Metadata) -> &str {
    let Some(owner) = meta.owner_references.iter().find(|owner| owner.controller.unwrap_or(true)) else {
        return &meta.name;
    };
    match meta.label("pod-template-hash") {
        Some(hash) if owner.kind == "ReplicaSet" => {
            owner.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-')).unwrap_or(&owner.name)
        }
        _ => &owner.name,
    }
}
