//! Calls of `kubectl`, as a user would make them.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::binaries::binary;
use crate::process::{Output, run};

const DEADLINE: Duration = Duration::from_secs(180);
/// As manifests name it; with this tag, a kubelet would ask a registry each time.
const IMAGE: &str = "mesh-echo:latest";

/// A call with these arguments.
pub(crate) fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(arguments);
    command
}

/// Runs it to its end, whatever that is.
pub(crate) fn attempt(arguments: &[&str]) -> Output {
    run(&mut kubectl(arguments), DEADLINE)
}

/// Runs what must succeed; its output.
pub(crate) fn expect(arguments: &[&str]) -> String {
    let output = attempt(arguments);
    assert_eq!(output.code, Some(0), "kubectl {arguments:?}: {}{}", output.stdout, output.stderr);
    output.stdout
}

/// Reads objects.
pub(crate) fn read(arguments: &[&str]) -> Value {
    let text = expect(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}: {text}"))
}

/// Reads a list of objects.
pub(crate) fn list(arguments: &[&str]) -> Vec<Value> {
    read(arguments)["items"].as_array().cloned().unwrap_or_default()
}

/// Creates or changes objects, and waits until their Deployments run. `MESH_ECHO_IMAGE` is the application's image (default
/// `mesh-echo:e2e`). An API server whose schemas cannot be read is no reason
/// to stop (`MESH_KUBECTL_APPLY` has further flags for it, such as `--validate=false`).
pub(crate) fn apply(text: &str) {
    let image = std::env::var("MESH_ECHO_IMAGE").unwrap_or_else(|_| "mesh-echo:e2e".to_owned());
    let file = to_file(&text.replace(IMAGE, &image));
    let path = file.path().to_string_lossy().into_owned();
    let flags = std::env::var("MESH_KUBECTL_APPLY").unwrap_or_default();
    let flags: Vec<_> = flags.split_whitespace().collect();
    let apply = [&["apply", "-f", &path], &flags[..]].concat();
    mend_if_refused(&attempt(&apply), &path);
    let applied = read(&apply);
    let objects = applied["items"].as_array().cloned().unwrap_or_else(|| vec![applied]);
    for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
        let of = |field: &str| deployment["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (name, namespace) = (format!("deployment/{}", of("name")), of("namespace"));
        rolled_out(&["-n", &namespace, &name]);
    }
}

/// Waits until all pods of a Deployment are new and ready.
pub(crate) fn rolled_out(target: &[&str]) {
    expect(&[&["rollout", "status", "--timeout=150s"], target].concat());
}

/// Users' files leave out what the API server insists on. It must say so, and `mesh lint --fix` must be enough of an answer; the
/// cluster's Services tell it the ports.
fn mend_if_refused(applied: &Output, path: &str) {
    if applied.code == Some(0) {
        return;
    }
    let missing: Vec<&str> = applied.stderr.lines().filter(|line| line.contains("Required value")).collect();
    let known =
        |line: &&str| line.contains("pathType must be specified") || line.contains("port name or number");
    assert!(!missing.is_empty() && missing.iter().all(known), "{path}: {}", applied.stderr);
    let services: Vec<_> = list(&["get", "services", "-A"]).iter().map(Value::to_string).collect();
    let services = to_file(&services.join("\n---\n"));
    let services = services.path().to_string_lossy().into_owned();
    // It also finds what is left to say, which is no failure here.
    run(Command::new(binary("mesh")).args(["lint", "--fix", "-f", path, &services]), DEADLINE);
}

/// Removes objects and waits until they are gone, with the pods of their Deployments.
pub(crate) fn delete(text: &str) {
    let file = to_file(text);
    let path = file.path().to_string_lossy().into_owned();
    expect(&["delete", "--ignore-not-found", "--cascade=foreground", "-f", &path]);
}

/// A temporary file with this text.
pub(crate) fn to_file(text: &str) -> NamedTempFile {
    let mut file =
        tempfile::Builder::new().prefix("e2e-").suffix(".yaml").tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a temporary file can be written");
    file
}
