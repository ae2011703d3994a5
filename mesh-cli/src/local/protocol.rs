//! What the processes of the runner say to each other. All of them are the same build, so there are no versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::{Object, ObjectKey};
use super::plan::PodPlan;

/// From `mesh up` to the supervisor, once. Descriptors: the control socket, then one listener per entry of `ingress_ports`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) name: String,
    /// Where `mesh-control`, `mesh-proxy` and the other binaries lie.
    pub(crate) binaries: PathBuf,
    /// PATH and HOME of the containers.
    pub(crate) search_path: String,
    pub(crate) home: String,
    /// The trust anchors that `SSL_CERT_FILE` names, for proxies that originate TLS.
    pub(crate) certificates: Option<String>,
    /// Port of the ingress gateway that each inherited listener stands for.
    pub(crate) ingress_ports: Vec<u16>,
    /// Where those listeners are on the host, for display.
    pub(crate) ingress_addresses: Vec<String>,
    /// Whether uids up to 65535 exist inside.
    pub(crate) identity: IdentityMap,
    pub(crate) objects: Vec<Object>,
}

/// What the user namespace maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdentityMap {
    /// Uids and gids 0 to 65535: the proxy has a uid of its own.
    Full,
    /// The one user who called: everything runs as uid 0 of the namespace.
    Single,
}

/// From the supervisor to `mesh up`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToParent {
    Tell(Event),
    /// Somebody who may ask for connections to the outside. Descriptor: where the questions come.
    Outside,
}

/// Progress, from the supervisor to whoever waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub(crate) enum Event {
    /// A step of the start was begun.
    Starting { subject: String },
    /// Something became ready.
    Ready { subject: String, after: Duration },
    /// Something is still not ready; with its last log lines.
    Waiting { subject: String, reason: String, log: Vec<String> },
    /// The start is over.
    Up { status: Status },
    /// The mesh cannot go on.
    Failed { message: String },
}

/// From a command to the supervisor; each connection carries one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status,
    /// All objects as the control plane reads them, pods included.
    Objects,
    /// Adds or changes objects; waits for the pods they concern up to `wait`.
    Apply {
        objects: Vec<Object>,
        wait: Option<Duration>,
    },
    Delete {
        selection: Selection,
        wait: Option<Duration>,
    },
    /// Descriptors: standard input, output and error of the command.
    Exec {
        target: Target,
        command: Vec<String>,
    },
    Logs {
        target: Target,
        follow: bool,
        tail: usize,
    },
    /// An HTTP GET on the admin port of a pod's proxy.
    ProxyAdmin {
        target: Target,
        path: String,
    },
    Down,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Selection {
    Keys(Vec<ObjectKey>),
    Named { kind: String, namespace: String, name: String },
}

/// A pod by its name, or by the name of its workload, its app label or its service account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) container: Option<String>,
}

/// From the supervisor to a command; the last one closes the exchange.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Progress(Event),
    Lines(Vec<String>),
    /// The exec'd command ended.
    Exit(i32),
    Changes(Vec<Change>),
    Status(Status),
    Body {
        status: u16,
        body: String,
    },
    Done,
    Failed {
        kind: FailureKind,
        message: String,
    },
}

/// Why a request was not served; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// It asked for something that is not there or not right (exit code 1).
    Finding,
    /// Something it needs cannot be reached (exit code 3).
    Unreachable,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) object: ObjectKey,
    pub(crate) change: String,
}

/// The state of the whole mesh; its JSON is the output of `mesh status --output json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Of this JSON.
    pub(crate) version: u8,
    pub(crate) name: String,
    pub(crate) ingress: Vec<String>,
    pub(crate) pods: Vec<PodStatus>,
    pub(crate) services: Vec<ServiceStatus>,
    /// What the control plane says of itself: proxies with their sync state, problems of objects.
    pub(crate) control: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty until it has one.
    pub(crate) address: String,
    pub(crate) phase: Phase,
    pub(crate) ready: bool,
    pub(crate) sidecar: bool,
    pub(crate) restarts: u32,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ports: Vec<u16>,
}

/// A pod's phase, as Kubernetes names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// From the supervisor to a pod.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToPod {
    /// Descriptors: one log pipe per container of the plan, then, if there is a proxy, its listeners and the socket on
    /// which it asks for connections to the outside.
    Start(Box<PodPlan>),
    Token(String),
    /// Descriptors: standard input, output and error.
    Exec {
        id: u64,
        container: Option<String>,
        command: Vec<String>,
    },
    /// The one who asked has gone.
    EndExec {
        id: u64,
    },
    ProxyAdmin {
        id: u64,
        path: String,
    },
    /// Ends the containers, then the proxy.
    Stop {
        grace: Duration,
    },
}

/// From a pod to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromPod {
    /// The namespaces exist: the network may be attached.
    Unshared,
    State(PodState),
    ExecDone {
        id: u64,
        code: i32,
    },
    AdminDone {
        id: u64,
        status: u16,
        body: String,
    },
    /// The pod cannot be set up.
    Failed {
        message: String,
    },
}

/// What a pod's first process knows of its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodState {
    pub(crate) containers: BTreeMap<String, ContainerState>,
    /// Set when no container will run again: whether all succeeded.
    pub(crate) finished: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    /// Why it is not running, or empty.
    pub(crate) message: String,
}
