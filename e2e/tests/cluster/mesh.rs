//! A mesh that is installed in a cluster, driven with `kubectl`. It has the face of the mesh on one machine
//! (`e2e/tests/local/mesh.rs`), so that the same scenarios run on both.
//!
//! Needs a cluster of its own: it uses namespace `default` and the mesh-wide settings, and leaves both as it found them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::answers::Summary;
use crate::binaries::binary;
use crate::change::Pace;
use crate::fixture::manifest;
use crate::kubectl::{self, kubectl};
use crate::process::{Output, Running, run};
use crate::wait::within;

const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// How long a change may take to show where it should: the kubelet and two caches are on the way.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where it must not show: each such scenario waits for it in full.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// What a cluster of any size bears, with `kubectl` in the way of each edit. Times are reported, and say something where
/// nothing else runs.
pub(crate) const PACE: Pace = Pace {
    inside: ["50", "16"],
    outside: ["20", "8"],
    duration: "40s",
    before: Duration::from_secs(12),
    propagation: Duration::from_secs(10),
};
const SYSTEM: &str = "mesh-system";
const ROOT: &str = "istio-system";
const CONTROL: [&str; 3] = ["-n", SYSTEM, "deployment/mesh-control"];

static TURN: Mutex<()> = Mutex::new(());

/// The installed mesh with the workloads of one test. Whatever was applied goes when it is dropped.
pub(crate) struct Mesh {
    http: String,
    https: String,
    applied: RefCell<BTreeSet<String>>,
    /// Namespaces that were made for what was applied.
    namespaces: RefCell<BTreeSet<String>>,
    patience: Cell<Duration>,
    _turn: MutexGuard<'static, ()>,
}

impl Mesh {
    /// The mesh with these workloads in namespace `default`; none without a cluster.
    pub(crate) fn up(manifests: &[&str]) -> Option<Self> {
        if !is_given() {
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = kubectl::read(&["get", "service", "-n", ROOT, "istio-ingressgateway"]);
        let node = node_address();
        let (http, https) = (entrance(&gateway, &node, 80), entrance(&gateway, &node, 443));
        let others = kubectl::list(&["get", "deployments", "-n", "default"]);
        assert!(
            others.is_empty(),
            "namespace default is in use: these scenarios want a cluster of their own"
        );
        kubectl::expect(&["label", "namespace", "default", "istio-injection=enabled", "--overwrite"]);
        let workloads: Vec<_> = manifests.iter().map(|reference| manifest(reference)).collect();
        let (applied, namespaces) = Default::default();
        let mesh = Self { http, https, applied, namespaces, patience: Cell::new(PATIENCE), _turn: turn };
        mesh.apply_text(&workloads.join("\n---\n"));
        Some(mesh)
    }

    /// Adds or changes objects and waits until the proxies have what the control plane knows.
    pub(crate) fn apply_text(&self, yaml: &str) {
        self.make_namespaces(yaml);
        self.applied.borrow_mut().insert(yaml.to_owned());
        kubectl::apply(yaml);
        self.settle();
    }

    /// Removes objects.
    pub(crate) fn delete_text(&self, yaml: &str) {
        kubectl::delete(yaml);
        self.settle();
    }

    /// Those that a mesh on one machine has without being told: with a proxy for every pod.
    fn make_namespaces(&self, yaml: &str) {
        let named = yaml.lines().filter_map(|line| line.split_once("namespace: "));
        let names: BTreeSet<_> = named
            .filter_map(|(_, rest)| rest.split(['"', ',', '}', ' ']).find(|name| !name.is_empty()))
            .collect();
        for name in names {
            let made = kubectl::attempt(&["create", "namespace", name]).code == Some(0);
            if made {
                kubectl::expect(&["label", "namespace", name, "istio-injection=enabled"]);
                self.namespaces.borrow_mut().insert(name.to_owned());
            }
        }
    }

    /// Two looks, because the first may be too early for the control plane to have heard of a change.
    fn settle(&self) {
        for _ in 0..2 {
            within(PATIENCE, || {
                let status = control();
                let proxies = status.iter().flat_map(|one| one["proxies"].as_array().into_iter().flatten());
                let behind = proxies.filter(|proxy| proxy["in_sync"] != true).count();
                ensure!(behind == 0, "{behind} proxies are behind");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    /// Pods, and what each replica of the control plane says.
    pub(crate) fn status(&self) -> Value {
        let pods: Vec<_> = all_pods().iter().map(seen).collect();
        json!({"pods": pods, "control": control()})
    }

    /// Names of the ready pods whose name starts with that of a workload.
    pub(crate) fn ready_pods(&self, workload: &str) -> Vec<String> {
        let pods = kubectl::list(&["get", "pods", "-n", "default"]);
        let ready = pods.iter().map(seen).filter(|pod| pod["ready"] == true);
        ready.filter_map(|pod| name_of(&pod, workload)).collect()
    }

    /// The addresses of the pods of a workload.
    pub(crate) fn addresses(&self, workload: &str) -> Vec<String> {
        let pods = all_pods();
        let of = pods.iter().map(seen).filter(|pod| name_of(pod, workload).is_some());
        of.filter_map(|pod| pod["address"].as_str().map(str::to_owned)).collect()
    }

    /// What a pod's proxy has written.
    pub(crate) fn proxy_log(&self, workload: &str) -> String {
        kubectl::expect(&["logs", "-n", "default", &self.pod(workload), "-c", "istio-proxy", "--tail=-1"])
    }

    /// The line of a proxy's log that mentions a text; records are written behind the answer.
    pub(crate) fn eventually_in_log(&self, workload: &str, text: &str) -> anyhow::Result<String> {
        within(SHORT_PATIENCE, || {
            let log = self.proxy_log(workload);
            log.lines().rfind(|line| line.contains(text)).map(str::to_owned).context("no such record")
        })
    }

    /// Lines of the ingress gateway's log that mention a text; at least one.
    pub(crate) fn ingress_log(&self, text: &str) -> anyhow::Result<Vec<String>> {
        within(SHORT_PATIENCE, || {
            let log = gateway_log("ingressgateway");
            let lines: Vec<_> = log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
            ensure!(!lines.is_empty(), "no such record");
            Ok(lines)
        })
    }

    /// What the egress gateway has written, as far as it mentions a text.
    pub(crate) fn egress_log(&self, text: &str) -> anyhow::Result<String> {
        within(SHORT_PATIENCE, || {
            let log = gateway_log("egressgateway");
            log.lines().rfind(|line| line.contains(text)).map(str::to_owned).context("no such record")
        })
    }

    /// The metrics of a pod's proxy, as Prometheus would read them.
    pub(crate) fn metrics(&self, workload: &str) -> String {
        let summary = self.get(workload, &["http://127.0.0.1:15090/stats/prometheus"]);
        summary.answer().body.as_str().unwrap_or_default().to_owned()
    }

    /// The metrics of all instances of the ingress gateway, read from a pod without a proxy.
    pub(crate) fn ingress_metrics(&self, reader: &str) -> String {
        self.gateway_metrics("istio-ingressgateway", reader)
    }

    /// The same of the egress gateway.
    pub(crate) fn egress_metrics(&self, reader: &str) -> String {
        self.gateway_metrics("istio-egressgateway", reader)
    }

    fn gateway_metrics(&self, gateway: &str, reader: &str) -> String {
        let read = |address: String| {
            let summary = self.get(reader, &[&format!("http://{address}:15090/stats/prometheus")]);
            summary.answer().body.as_str().unwrap_or_default().to_owned()
        };
        self.addresses(gateway).into_iter().map(read).collect()
    }

    /// What a pod's proxy holds, as `mesh config` shows it.
    pub(crate) fn config(&self, workload: &str) -> String {
        let pod = self.pod(workload);
        let mut command = Command::new(binary("mesh"));
        command.args(["config", "--kubernetes", "-n", "default", &pod]);
        let output = run(&mut command, COMMAND_DEADLINE);
        assert_eq!(output.code, Some(0), "mesh config: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Runs `mesh-echo get` in a pod of namespace `default`.
    pub(crate) fn get(&self, workload: &str, arguments: &[&str]) -> Summary {
        summary(&run(&mut self.in_pod(workload, &get(arguments)), COMMAND_DEADLINE))
    }

    /// Starts any `mesh-echo` client in a pod.
    pub(crate) fn start_in(&self, workload: &str, arguments: &[&str]) -> Running {
        Running::start(&mut self.in_pod(workload, arguments))
    }

    /// Requests from outside to a host of the ingress gateway, in the clear.
    pub(crate) fn ingress(&self, url: &str, arguments: &[&str]) -> Summary {
        let all = [get(&[url, "--connect", &self.http]), arguments.to_vec()].concat();
        summary(&run(&mut echo(&all), COMMAND_DEADLINE))
    }

    /// The same over TLS, trusting one CA (PEM).
    pub(crate) fn ingress_tls(&self, url: &str, authority: &str, arguments: &[&str]) -> Summary {
        let file = kubectl::to_file(authority);
        let trust = ["--connect", &self.https, "--cacert", &file.path().to_string_lossy()];
        let all = [get(&[url]), trust.to_vec(), arguments.to_vec()].concat();
        summary(&run(&mut echo(&all), COMMAND_DEADLINE))
    }

    /// Starts any `mesh-echo` client outside, connected to the ingress gateway's plain port.
    pub(crate) fn start_outside(&self, arguments: &[&str]) -> Running {
        Running::start(&mut echo(&[arguments, &["--connect", &self.http]].concat()))
    }

    /// Starts a `mesh-echo` client outside, connected to the ingress gateway's TLS port.
    pub(crate) fn start_outside_tls(&self, arguments: &[&str]) -> Running {
        Running::start(&mut echo(&[arguments, &["--connect", &self.https]].concat()))
    }

    /// Looks again until a condition holds, as long as this run is patient.
    pub(crate) fn eventually<T>(&self, check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        within(self.patience.get(), check)
    }

    /// Runs `work` with little patience: what it waits for is not going to come.
    pub(crate) fn impatiently<T>(&self, work: impl FnOnce() -> T) -> T {
        self.patience.set(SHORT_PATIENCE);
        let result = work();
        self.patience.set(PATIENCE);
        result
    }

    /// Ends one pod without warning.
    pub(crate) fn kill_application(&self, pod: &str) {
        kubectl::expect(&["delete", "pod", "-n", "default", "--force", "--grace-period=0", pod]);
    }

    /// Takes away every replica of the control plane, and waits until they are gone. It says how many there were.
    pub(crate) fn stop_control_plane(&self) -> u64 {
        let before = kubectl::read(&[&["get"], &CONTROL[..]].concat());
        kubectl::expect(&[&["scale", "--replicas=0"], &CONTROL[..]].concat());
        let gone = within(COMMAND_DEADLINE, || {
            let left = kubectl::list(&["get", "pods", "-n", SYSTEM, "-l", "app=mesh-control"]).len();
            ensure!(left == 0, "{left} replicas are left");
            Ok(())
        });
        gone.unwrap_or_else(|error| panic!("{error:#}"));
        before["spec"]["replicas"].as_u64().expect("a Deployment has replicas")
    }

    /// Starts this many, and waits until they are ready.
    pub(crate) fn start_control_plane(&self, replicas: u64) {
        kubectl::expect(&[&["scale", &format!("--replicas={replicas}")], &CONTROL[..]].concat());
        kubectl::rolled_out(&CONTROL);
    }

    /// A ready pod of a workload.
    fn pod(&self, workload: &str) -> String {
        let found = within(PATIENCE, || self.ready_pods(workload).pop().context("none is ready"));
        found.unwrap_or_else(|error| panic!("no pod of {workload}: {error:#}"))
    }

    fn in_pod(&self, workload: &str, arguments: &[&str]) -> Command {
        let mut command = kubectl(&["exec", "-n", "default", &self.pod(workload), "--", "mesh-echo"]);
        command.args(arguments);
        command
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let applied: Vec<_> = self.applied.take().into_iter().collect();
        kubectl::delete(&applied.join("\n---\n"));
        for namespace in self.namespaces.take() {
            kubectl::expect(&["delete", "namespace", &namespace]);
        }
        kubectl::expect(&["label", "namespace", "default", "istio-injection-"]);
    }
}

/// Without a cluster these tests skip, loudly, unless one is said to be there.
pub(crate) fn is_given() -> bool {
    let required = std::env::var("MESH_REQUIRE").unwrap_or_default().split(',').any(|need| need == "cluster");
    let given = std::env::var_os("MESH_CLUSTER").is_some() && std::env::var_os("KUBECONFIG").is_some();
    assert!(
        given || !required,
        "MESH_REQUIRE names cluster, but MESH_CLUSTER and KUBECONFIG are not both set"
    );
    if !given {
        let notice = "\n*** SKIPPED: no cluster; set KUBECONFIG, and MESH_CLUSTER=1 to say that its namespace \
                      default may be used (docs/cluster-run.md) ***\n";
        // Written past the test harness, which hides the output of tests that pass.
        let _ = std::io::stderr().write_all(notice.as_bytes());
    }
    given
}

/// `HOST:PORT` of a port of the ingress gateway: a load balancer's address, else a node's.
fn entrance(gateway: &Value, node: &str, number: u16) -> String {
    let balancer = &gateway["status"]["loadBalancer"]["ingress"][0];
    if let Some(host) = balancer["ip"].as_str().or_else(|| balancer["hostname"].as_str()) {
        return format!("{host}:{number}");
    }
    let ports = gateway["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let port = ports.iter().find(|port| port["port"] == number).map(|port| port["nodePort"].clone());
    let port = port.and_then(|port| port.as_u64()).expect("the ingress gateway's Service has a NodePort");
    format!("{node}:{port}")
}

fn node_address() -> String {
    let nodes = kubectl::list(&["get", "nodes"]);
    let addresses =
        nodes.iter().flat_map(|node| node["status"]["addresses"].as_array().into_iter().flatten());
    let mut internal = addresses.filter(|address| address["type"] == "InternalIP");
    let address = internal.next().and_then(|address| address["address"].as_str());
    address.expect("a node has an address").to_owned()
}

/// The status page of each replica of the control plane.
fn control() -> Vec<Value> {
    let pods = kubectl::list(&["get", "pods", "-n", SYSTEM, "-l", "app=mesh-control"]);
    let ready = pods.iter().map(seen).filter(|pod| pod["ready"] == true);
    let page = |pod: Value| {
        let name = pod["name"].as_str()?.to_owned();
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:15014/proxy/status");
        serde_json::from_str(&kubectl::attempt(&["get", "--raw", &path]).stdout).ok()
    };
    ready.filter_map(page).collect()
}

fn all_pods() -> Vec<Value> {
    kubectl::list(&["get", "pods", "-A"])
}

/// Of a pod what scenarios look at. One that is being deleted is not ready, whatever it says.
fn seen(pod: &Value) -> Value {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready =
        conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    json!({
        "name": pod["metadata"]["name"],
        "ready": is_ready && pod["metadata"]["deletionTimestamp"].is_null(),
        "address": pod["status"]["podIP"],
    })
}

/// The name of a pod that is this one, or one of a workload of this name.
fn name_of(pod: &Value, workload: &str) -> Option<String> {
    let name = pod["name"].as_str()?;
    (name == workload || name.starts_with(&format!("{workload}-"))).then(|| name.to_owned())
}

fn gateway_log(gateway: &str) -> String {
    let selector = format!("istio={gateway}");
    kubectl::expect(&["logs", "-n", ROOT, "-l", &selector, "-c", "istio-proxy", "--tail=-1"])
}

fn get<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["get", "--output", "json"], arguments].concat()
}

fn echo(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("mesh-echo"));
    command.args(arguments);
    command
}

/// Reads what `get` or `load` printed last.
pub(crate) fn summary(output: &Output) -> Summary {
    serde_json::from_str(output.stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("no summary: {error}: {output:?}"))
}
