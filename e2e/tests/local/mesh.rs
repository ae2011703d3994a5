//! One running mesh, driven as a user would: through `mesh` and the addresses it prints.
//!
//! What a scenario observes is returned; a broken harness (a command that cannot run, output that cannot be read)
//! panics, so that it can never be taken for the failure that a scenario without its key resource must show.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::answers::Summary;
use crate::binaries::binary;
use crate::change::Pace;
use crate::fixture::manifest;
use crate::footprint::{Footprint, descendants, find, find_program};
use crate::process::{Output, Running, run};
use crate::wait::within;

const START_DEADLINE: Duration = Duration::from_secs(180);
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
const END_DEADLINE: Duration = Duration::from_secs(10);
/// How long a change may take to show where it should.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where it must not show: each such scenario waits for it in full.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// What this machine bears beside a whole mesh.
pub(crate) const PACE: Pace = Pace {
    inside: ["500", "64"],
    outside: ["100", "16"],
    duration: "8s",
    before: Duration::from_secs(3),
    propagation: Duration::from_secs(1),
};

/// Two cores carry one mesh at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A running mesh; it ends when dropped, and must then have left nothing.
pub(crate) struct Mesh {
    name: String,
    process: Running,
    http: String,
    https: String,
    before: Footprint,
    patience: Cell<Duration>,
    /// Proxies read it when they need it.
    _trusted: Option<NamedTempFile>,
    _turn: MutexGuard<'static, ()>,
}

impl Mesh {
    /// Starts a mesh from manifests; none if this machine cannot have one and need not.
    pub(crate) fn up(manifests: &[&str]) -> Option<Self> {
        Self::start(&[], manifests, None)
    }

    /// The same with further flags.
    pub(crate) fn up_with(flags: &[&str], manifests: &[&str]) -> Option<Self> {
        Self::start(flags, manifests, None)
    }

    /// The same on a machine that trusts this CA (PEM).
    pub(crate) fn up_trusting(manifests: &[&str], authority: &str) -> Option<Self> {
        let file = to_file(authority);
        // Proxies have users of their own.
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).expect("our own file");
        Self::start(&[], manifests, Some(file))
    }

    fn start(flags: &[&str], manifests: &[&str], trusted: Option<NamedTempFile>) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = unique_name();
        let before = Footprint::take(&name);
        let files: Vec<_> = manifests.iter().map(|reference| to_file(&manifest(reference))).collect();
        let mut command = Command::new(binary("mesh"));
        command.args(["up", "--name", &name, "--http-port", "0", "--https-port", "0", "--output", "json"]);
        command.args(flags);
        command.env("PATH", path_with_binaries());
        if let Some(trusted) = &trusted {
            command.env("SSL_CERT_FILE", trusted.path());
        }
        for file in &files {
            command.arg("-f").arg(file.path());
        }
        let mut process = Running::start(&mut command);
        match ready_line(&mut process) {
            Ok(line) => {
                let (http, https) =
                    addresses(&line).unwrap_or_else(|| panic!("no ingress addresses in {line}"));
                let patience = Cell::new(PATIENCE);
                Some(Self { name, process, http, https, before, patience, _trusted: trusted, _turn: turn })
            }
            Err(error) => {
                process.terminate();
                let output = process.finish(END_DEADLINE).expect("it was ended");
                skip_or_panic(&output, &error);
                None
            }
        }
    }

    /// Adds or changes objects and waits until the proxies concerned have them.
    pub(crate) fn apply_text(&self, yaml: &str) {
        let file = to_file(yaml);
        self.expect(&["apply", "--wait", "-f", &file.path().to_string_lossy()]);
    }

    /// Adds or changes objects as far as they are accepted, and waits for nothing.
    pub(crate) fn try_apply(&self, file: &std::path::Path) -> Output {
        run(&mut self.command(&["apply", "-f", &file.to_string_lossy()]), COMMAND_DEADLINE)
    }

    /// Adds or changes objects of which something is to be said, and returns that.
    pub(crate) fn apply_dubious(&self, yaml: &str) -> String {
        let output = self.try_apply(to_file(yaml).path());
        output.stdout + &output.stderr
    }

    /// Adds or changes objects and waits for nothing.
    pub(crate) fn apply_at_once(&self, yaml: &str) {
        let file = to_file(yaml);
        self.expect(&["apply", "-f", &file.path().to_string_lossy()]);
    }

    /// Removes the objects of a file, and waits for nothing.
    pub(crate) fn delete_file(&self, file: &std::path::Path) {
        self.expect(&["delete", "-f", &file.to_string_lossy()]);
    }

    /// Removes objects.
    pub(crate) fn delete_text(&self, yaml: &str) {
        let file = to_file(yaml);
        self.expect(&["delete", "--wait", "-f", &file.path().to_string_lossy()]);
    }

    /// The output of `mesh status`.
    pub(crate) fn status(&self) -> Value {
        // Its exit code says whether all is well; here the text matters.
        let output = run(&mut self.command(&["status", "--output", "json"]), COMMAND_DEADLINE);
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("mesh status: {error}: {output:?}"))
    }

    /// Names of the ready pods whose name starts with that of a workload.
    pub(crate) fn ready_pods(&self, workload: &str) -> Vec<String> {
        let status = self.status();
        let pods = status["pods"].as_array().cloned().unwrap_or_default();
        let ready = pods.iter().filter(|pod| pod["ready"] == true).filter_map(|pod| pod["name"].as_str());
        ready.filter(|name| name.starts_with(&format!("{workload}-"))).map(str::to_owned).collect()
    }

    /// What a pod's proxy has written.
    pub(crate) fn proxy_log(&self, workload: &str) -> String {
        self.expect(&["logs", "-n", "default", workload, "-c", "istio-proxy"]).stdout
    }

    /// The line of an application's log that mentions a text. The container has the workload's name.
    pub(crate) fn eventually_logged(&self, workload: &str, text: &str) -> anyhow::Result<String> {
        within(SHORT_PATIENCE, || {
            let log = self.expect(&["logs", "-n", "default", workload, "-c", workload]).stdout;
            log.lines().rfind(|line| line.contains(text)).map(str::to_owned).context("no such line")
        })
    }

    /// The line of a proxy's log that mentions a text; records are written behind the answer.
    pub(crate) fn eventually_in_log(&self, workload: &str, text: &str) -> anyhow::Result<String> {
        within(SHORT_PATIENCE, || {
            let log = self.proxy_log(workload);
            log.lines().rfind(|line| line.contains(text)).map(str::to_owned).context("no such record")
        })
    }

    /// What the egress gateway has written, as far as it mentions a text.
    pub(crate) fn egress_log(&self, text: &str) -> anyhow::Result<String> {
        within(SHORT_PATIENCE, || {
            let log =
                self.expect(&["logs", "-n", "istio-system", "istio-egressgateway", "-c", "istio-proxy"]);
            log.stdout.lines().rfind(|line| line.contains(text)).map(str::to_owned).context("no such record")
        })
    }

    /// Lines of the ingress gateway's log that mention a text; at least one, as records are written behind the answer.
    pub(crate) fn ingress_log(&self, text: &str) -> anyhow::Result<Vec<String>> {
        within(SHORT_PATIENCE, || {
            let log =
                self.expect(&["logs", "-n", "istio-system", "istio-ingressgateway", "-c", "istio-proxy"]);
            let lines: Vec<_> =
                log.stdout.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
            if lines.is_empty() { Err(anyhow::anyhow!("no such record")) } else { Ok(lines) }
        })
    }

    /// What a pod's proxy holds, as `mesh config` shows it.
    pub(crate) fn config(&self, workload: &str) -> String {
        self.expect(&["config", "-n", "default", workload]).stdout
    }

    /// The metrics of the ingress gateway, read from a pod without a proxy.
    pub(crate) fn ingress_metrics(&self, reader: &str) -> String {
        let gateway = self.addresses("istio-ingressgateway").pop().unwrap_or_default();
        let summary = self.get(reader, &[&format!("http://{gateway}:15090/stats/prometheus")]);
        summary.answer().body.as_str().unwrap_or_default().to_owned()
    }

    /// The metrics of the egress gateway, read from a pod without a proxy.
    pub(crate) fn egress_metrics(&self, reader: &str) -> String {
        let gateway = self.addresses("istio-egressgateway").pop().unwrap_or_default();
        let summary = self.get(reader, &[&format!("http://{gateway}:15090/stats/prometheus")]);
        summary.answer().body.as_str().unwrap_or_default().to_owned()
    }

    /// The addresses of the pods of a workload.
    pub(crate) fn addresses(&self, workload: &str) -> Vec<String> {
        let status = self.status();
        let pods = status["pods"].as_array().cloned().unwrap_or_default();
        let of = pods
            .iter()
            .filter(|pod| pod["name"].as_str().is_some_and(|name| name.starts_with(&format!("{workload}-"))));
        of.filter_map(|pod| pod["address"].as_str()).map(str::to_owned).collect()
    }

    /// The metrics of a pod's proxy, as Prometheus would read them.
    pub(crate) fn metrics(&self, workload: &str) -> String {
        let summary = self.get(workload, &["http://127.0.0.1:15090/stats/prometheus"]);
        summary.answer().body.as_str().unwrap_or_default().to_owned()
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

    /// A gRPC call from outside to a host of the ingress gateway, in the clear.
    pub(crate) fn ingress_grpc(&self, url: &str) -> Value {
        let output = run(&mut echo(&["grpc", url, "--connect", &self.http]), COMMAND_DEADLINE);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no outcome: {error}: {output:?}"))
    }

    /// The same over TLS, trusting one CA (PEM).
    pub(crate) fn ingress_tls(&self, url: &str, authority: &str, arguments: &[&str]) -> Summary {
        let file = to_file(authority);
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

    /// Kills the application of one pod, as the kernel would when memory runs out.
    pub(crate) fn kill_application(&self, pod: &str) {
        let found = find(self.process.id(), "mesh-echo", &format!("POD_NAME={pod}"));
        assert!(!found.is_empty(), "no application runs in pod {pod}");
        found.iter().for_each(|id| kill(*id));
    }

    /// Kills the proxy of one pod without warning.
    pub(crate) fn kill_proxy(&self, pod: &str) {
        let found = find(self.process.id(), "mesh-proxy", &format!("POD_NAME={pod}"));
        assert!(!found.is_empty(), "no proxy runs in pod {pod}");
        found.iter().for_each(|id| kill(*id));
    }

    /// Kills the ingress gateway's process without warning.
    pub(crate) fn kill_ingress_gateway(&self) {
        let found = find_program(self.process.id(), "mesh-ingress");
        assert!(!found.is_empty(), "no ingress gateway is running");
        found.iter().for_each(|id| kill(*id));
    }

    /// Stops the control plane in its tracks: its connections stay, nothing is answered.
    pub(crate) fn pause_control_plane(&self) {
        signal(self.control_plane(), Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume_control_plane(&self) {
        signal(self.control_plane(), Signal::CONT);
    }

    /// Kills it without warning; `mesh up` starts it again.
    pub(crate) fn kill_control_plane(&self) {
        kill(self.control_plane());
    }

    fn control_plane(&self) -> u32 {
        let found = find_program(self.process.id(), "mesh-control");
        assert_eq!(found.len(), 1, "one control plane should be running");
        found[0]
    }

    fn expect(&self, arguments: &[&str]) -> Output {
        let output = run(&mut self.command(arguments), COMMAND_DEADLINE);
        assert_eq!(output.code, Some(0), "mesh {arguments:?}: {}{}", output.stdout, output.stderr);
        output
    }

    fn in_pod(&self, workload: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&["exec", "-n", "default", workload, "--", "mesh-echo"]);
        command.args(arguments);
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (subcommand, rest) = arguments.split_first().expect("a subcommand");
        let mut command = Command::new(binary("mesh"));
        command.args([*subcommand, "--name", &self.name]).args(rest);
        command
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let processes = descendants(self.process.id());
        self.process.kill();
        let clean = within(END_DEADLINE, || self.before.nothing_since(&self.name, &processes));
        if let Err(error) = clean
            && !std::thread::panicking()
        {
            panic!("after SIGKILL: {error:#}");
        }
    }
}

fn ready_line(process: &mut Running) -> anyhow::Result<Value> {
    let end = Instant::now() + START_DEADLINE;
    while let Some(line) = process.line(end.saturating_duration_since(Instant::now()))? {
        let value: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        if value["ready"] == true || value.get("pods").is_some() {
            return Ok(value);
        }
    }
    bail!("mesh up ended before it was ready")
}

/// The ports for http and https, as `HOST:PORT`.
fn addresses(ready: &Value) -> Option<(String, String)> {
    let ingress = &ready["ingress"];
    let [http, https] =
        [("http", 0), ("https", 1)].map(|(name, at)| ingress.get(name).or_else(|| ingress.get(at)));
    let bare = |value: &Value| Some(value.as_str()?.rsplit('/').find(|part| !part.is_empty())?.to_owned());
    Some((bare(http?)?, bare(https?)?))
}

/// A machine without namespaces skips these tests, loudly, unless it is said to have them.
fn skip_or_panic(output: &Output, error: &anyhow::Error) {
    let required = std::env::var("MESH_REQUIRE").unwrap_or_default().split(',').any(|need| need == "netns");
    let lacks_namespaces = output.code == Some(3) && output.stderr.contains("namespace");
    assert!(lacks_namespaces && !required, "mesh up: {error:#}\n{}\n{}", output.stdout, output.stderr);
    let notice = format!("\n*** SKIPPED: this machine offers no namespaces ***\n{}\n", output.stderr);
    // Written past the test harness, which hides the output of tests that pass.
    let _ = std::io::stderr().write_all(notice.as_bytes());
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn to_file(text: &str) -> NamedTempFile {
    let mut file =
        tempfile::Builder::new().prefix("e2e-").suffix(".yaml").tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a temporary file can be written");
    file
}

/// Containers name `mesh-echo`, which lies beside the other binaries.
fn path_with_binaries() -> std::ffi::OsString {
    let own: PathBuf = binary("mesh").parent().expect("a file lies in a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path)))
        .expect("no colon in a folder's name")
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

fn kill(id: u32) {
    signal(id, Signal::KILL);
}

fn signal(id: u32, signal: Signal) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
    // An error means that it is gone already.
    let _ = kill_process(id, signal);
}
