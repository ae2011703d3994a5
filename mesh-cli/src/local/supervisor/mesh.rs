//! The state of a running mesh, shared by all tasks of the supervisor.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use mesh_core::broker::Broker;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pods::Pod;
use super::{control_plane, reconcile};
use crate::local::channel::Sender;
use crate::local::controllers;
use crate::local::manifest::{self, Object};
use crate::local::network::Network;
use crate::local::protocol::{Change, Event, ServiceStatus, Start, Status, Target, ToParent};
use crate::local::reaper::Reaper;
use crate::local::ring::Ring;
use crate::local::store::Store;
use crate::local::token::Issuer;

/// In the supervisor's private `/run`.
pub(super) const FOLDER: &str = "/run/mesh";
/// Longer than any proxy needs to drain; a container's own grace may be shorter.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Everything there is.
pub(super) struct Mesh {
    pub(super) start: Start,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) parent: Sender,
    pub(super) reaper: Rc<Reaper>,
    pub(super) network: Network,
    pub(super) issuer: Issuer,
    pub(super) store: RefCell<Store>,
    pub(super) pods: RefCell<BTreeMap<PodKey, Rc<Pod>>>,
    /// Pods, objects or the phase of the start changed.
    pub(super) changed: Notify,
    /// Whether pods other than gateways may start.
    pub(super) applications_allowed: Cell<bool>,
    /// PEM, once the control plane is there.
    pub(super) control_root: RefCell<String>,
    pub(super) control_log: RefCell<Rc<Ring>>,
    pub(super) stopping: CancellationToken,
    stopped: CancellationToken,
    next_pod: Cell<u16>,
    next_id: Cell<u64>,
}

/// Namespace and name.
pub(super) type PodKey = (String, String);

impl Mesh {
    pub(super) async fn create(
        start: Start,
        listeners: Vec<OwnedFd>,
        parent: Sender,
    ) -> anyhow::Result<Rc<Self>> {
        let reaper = Reaper::start()?;
        crate::local::mounts::make_folder(Path::new(FOLDER), 0o700)?;
        let mut store = Store::new(Path::new(FOLDER).join("objects")).context("making the object folder")?;
        for object in initial_objects(&start)? {
            store.apply(object).context("storing an object")?;
        }
        let issuer = Issuer::generate()?;
        let key_set = issuer.key_set();
        std::fs::write(control_plane::TOKEN_KEYS, key_set).context("writing the token keys")?;
        let mesh = Rc::new(Self {
            listeners,
            parent,
            reaper,
            network: Network::create().await?,
            issuer,
            store: RefCell::new(store),
            pods: RefCell::default(),
            changed: Notify::new(),
            applications_allowed: Cell::new(false),
            control_root: RefCell::default(),
            control_log: RefCell::default(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            next_pod: Cell::new(0),
            next_id: Cell::new(0),
            start,
        });
        Ok(mesh)
    }

    /// Tells the parent, if it still listens.
    pub(super) async fn tell(&self, event: Event) {
        let _ = self.parent.send(&ToParent::Tell(event)).await;
    }

    /// A socket on which connections to the outside can be asked for; the parent answers.
    pub(super) async fn way_out(&self) -> anyhow::Result<OwnedFd> {
        let (asker, answerer) = Broker::pair().context("making a socket pair")?;
        self.parent
            .send_with(&ToParent::Outside, &[answerer.as_fd()])
            .await
            .context("asking for a way out")?;
        Ok(asker)
    }

    /// Adds or changes objects; pods follow.
    pub(super) fn apply(&self, objects: Vec<Object>) -> anyhow::Result<Vec<Change>> {
        // All are checked before the first is stored.
        controllers::desired(objects.iter())?;
        let mut changes = Vec::new();
        for object in objects {
            let key = object.key();
            let change = self.store.borrow_mut().apply(object).with_context(|| format!("storing {key}"))?;
            changes.push(Change { object: key, change: format!("{change:?}").to_lowercase() });
        }
        self.changed.notify_waiters();
        Ok(changes)
    }

    /// An address that no pod has, and its number.
    pub(super) fn new_address(&self) -> (u16, Ipv4Addr) {
        loop {
            // 10.244.0.0/24 is for the bridge; numbers start over when 65,000 pods have been.
            let number = self.next_pod.get().checked_add(1).filter(|number| *number < 0xfe00).unwrap_or(1);
            self.next_pod.set(number);
            let [high, low] = (number + 0xff).to_be_bytes();
            let address = Ipv4Addr::new(10, 244, high, low);
            let taken = self.pods.borrow().values().any(|pod| pod.place.address == address);
            if !taken && low != 0 && low != 255 {
                return (number, address);
            }
        }
    }

    /// A number for a question to a pod.
    pub(super) fn new_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// The pod a command means: by its name, or by its workload's, its app label or its service account; a ready one
    /// comes first.
    pub(super) fn find_pod(&self, target: &Target) -> Option<Rc<Pod>> {
        let wanted = target.workload.rsplit('/').next().unwrap_or_default();
        let pods = self.pods.borrow();
        let mut found: Vec<&Rc<Pod>> = pods
            .values()
            .filter(|pod| pod.place.namespace == target.namespace && pod.answers_to(wanted))
            .collect();
        found.sort_by_key(|pod| (pod.place.name != wanted, !pod.is_ready(), pod.place.name.clone()));
        found.first().map(|pod| Rc::clone(pod))
    }

    pub(super) async fn status(&self) -> Status {
        let control = control_plane::judged().await;
        let services = self.store.borrow().iter().filter_map(service_status).collect();
        Status {
            version: 1,
            name: self.start.name.clone(),
            ingress: self.start.ingress_addresses.clone(),
            pods: self.pods.borrow().values().map(|pod| pod.status()).collect(),
            services,
            control,
        }
    }

    /// Ends all pods, within a deadline.
    pub(super) async fn stop_everything(&self) {
        self.stopping.cancel();
        let pods: Vec<Rc<Pod>> = self.pods.borrow().values().cloned().collect();
        pods.iter().for_each(|pod| pod.stop());
        let all_gone = async {
            while !self.pods.borrow().is_empty() {
                reconcile::next_change(self).await;
            }
        };
        let _ = tokio::time::timeout(STOP_DEADLINE, all_gone).await;
    }

    /// Ends the supervisor; whoever still runs is killed when process 1 leaves.
    pub(super) fn end(&self) {
        self.stopped.cancel();
    }

    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

/// The system's objects unless the user brings their own, then the user's.
fn initial_objects(start: &Start) -> anyhow::Result<Vec<Object>> {
    let system = manifest::parse("(built in)", include_str!("../system.yaml"))?;
    let replaced = |object: &Object| start.objects.iter().any(|own| own.key() == object.key());
    Ok(system.into_iter().filter(|object| !replaced(object)).chain(start.objects.iter().cloned()).collect())
}

fn service_status(object: &Object) -> Option<ServiceStatus> {
    let key = object.key();
    if key.kind != "Service" || !key.group.is_empty() {
        return None;
    }
    let ports = object.value.pointer("/spec/ports")?.as_array()?;
    let port = |port: &serde_json::Value| port.get("port")?.as_u64()?.try_into().ok();
    Some(ServiceStatus {
        namespace: key.namespace,
        name: key.name,
        ports: ports.iter().filter_map(port).collect(),
    })
}
