//! The way out of the mesh: through a proxy, by connections that `mesh up` opens on the host.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::binaries::binary;
use crate::mesh::Mesh;
use crate::process::{Output, Running};
use crate::scenario::{Given, Key, Scenario};
use crate::wait::within;

/// Under this name, pods know the machine that they run on.
const HOST: &str = "host.mesh.internal";
const ALLOW_ANY: &str = "outside/allow-any.yaml";
const REGISTRY_ONLY: &str = "outside/registry-only.yaml";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S33 undeclared destinations pass under ALLOW_ANY",
        given: &[],
        key: Key::Instead { with: ALLOW_ANY, without: REGISTRY_ONLY },
        then: undeclared_passes,
    },
    Scenario {
        name: "S33 undeclared destinations are blocked under REGISTRY_ONLY",
        given: &[],
        key: Key::Instead { with: REGISTRY_ONLY, without: ALLOW_ANY },
        then: undeclared_blocked,
    },
];

/// Goes on from run to run, because the log does.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

/// An application on the host's loopback, outside of the mesh.
struct Outside {
    _process: Running,
    http: u16,
    tcp: u16,
}

impl Outside {
    fn start() -> anyhow::Result<Self> {
        let (http, tcp) = (free_port(), free_port());
        let mut command = Command::new(binary("mesh-echo"));
        command.args(["--bind", "127.0.0.1", "--name", "outside", "--listen", &format!("{http},{tcp}:tcp")]);
        let process = Running::start(&mut command);
        within(Duration::from_secs(5), || {
            let connect = |port| std::net::TcpStream::connect(("127.0.0.1", port));
            connect(http).and_then(|_| connect(tcp)).context("the application outside does not listen")
        })?;
        Ok(Self { _process: process, http, tcp })
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

fn tcp(mesh: &Mesh, workload: &str, port: u16) -> Output {
    let target = format!("{HOST}:{port}");
    let client = mesh.start_in(workload, &["tcp", "--timeout", "3s", &target, "whoami"]);
    client.finish(Duration::from_secs(20)).expect("the client has a deadline")
}

fn undeclared_passes(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, outside) = (given.mesh, Outside::start()?);
    let path = format!("/outside/{}/", ATTEMPT.fetch_add(1, Ordering::Relaxed));
    let url = format!("http://{HOST}:{}{path}", outside.http);
    mesh.eventually(|| mesh.get("frontend", &[&url]).answered_by("outside"))?;
    let said = tcp(mesh, "frontend", outside.tcp);
    ensure!(said.stdout.trim() == "outside", "over TCP: {said:?}");

    let record: Value = serde_json::from_str(&mesh.eventually_in_log("frontend", &path)?)?;
    ensure!(record["source"] == "frontend.default.svc", "who called is not on record: {record}");
    ensure!(record["route_name"] == "allow_any", "how it passed is not on record: {record}");

    // Only a proxy may ask, and the mesh, loopback and metadata services are not outside.
    ensure!(
        mesh.get("plain", &[&url, "--timeout", "2s"]).answer().status == 0,
        "a pod without sidecar got out"
    );
    mesh.get("frontend", &["http://169.254.169.254/"]).status(503)?;
    Ok(())
}

fn undeclared_blocked(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, outside) = (given.mesh, Outside::start()?);
    let path = format!("/outside/{}/", ATTEMPT.fetch_add(1, Ordering::Relaxed));
    let url = format!("http://{HOST}:{}{path}", outside.http);
    mesh.eventually(|| mesh.get("frontend", &[&url]).status(502))?;
    let cut = tcp(mesh, "frontend", outside.tcp);
    ensure!(cut.stdout.trim().is_empty(), "TCP passed: {cut:?}");

    let record: Value = serde_json::from_str(&mesh.eventually_in_log("frontend", &path)?)?;
    ensure!(record["source"] == "frontend.default.svc", "who called is not on record: {record}");
    ensure!(
        record["upstream_cluster"] == "BlackHoleCluster",
        "that it was blocked is not on record: {record}"
    );
    Ok(())
}

/// Without `--allow-host`, nothing of this machine is reached: not by its name, not by an address of its own.
pub(crate) fn host_is_closed(mesh: &Mesh) {
    let outside = Outside::start().unwrap_or_else(|error| panic!("{error:#}"));
    for host in [HOST, "240.0.0.1", "10.244.0.1"] {
        let url = format!("http://{host}:{}/", outside.http);
        let answer = mesh.get("frontend", &[&url, "--timeout", "3s"]).answer();
        assert_ne!(answer.status, 200, "{url}: {}", answer.body);
    }
}
