//! `mesh-bench pods`: a whole mesh of small applications on this machine, and what everything together takes.
//!
//! It is `mesh up` as a user would start it: control plane, gateways, and one real sidecar per pod. The figures are
//! the kernel's, summed by program: memory with shared pages by share (PSS), and time on a processor while nobody
//! calls anybody and under a fixed load that one more pod sends to all of them in turn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::process::{Running, binary, memory, processor_time, program};

/// What one ingress controller is commonly given, in bytes: for that a user gets the whole mesh.
const INGRESS_CONTROLLER: f64 = 600e6;
/// After the start, for what only starting needs to be given back.
const SETTLE: Duration = Duration::from_secs(10);

/// How large a mesh, and how it is loaded.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// Application pods, each with its sidecar
    #[arg(long, default_value_t = 50)]
    count: usize,
    /// Requests per second over all pods
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds of idleness, and of load, that are measured
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// `text` or `json`
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    pods: usize,
    ready_seconds: f64,
    rate: u32,
    requests: u64,
    failed: u64,
    programs: BTreeMap<String, Program>,
}

/// All processes of one program.
#[derive(Default, Serialize)]
struct Program {
    processes: usize,
    memory_bytes: u64,
    /// Share of one processor.
    idle: f64,
    loaded: f64,
}

/// Starts the mesh, measures it, prints what came of it and ends the mesh.
pub(crate) fn measure(size: &Size) -> anyhow::Result<()> {
    let name = format!("bench-{}", std::process::id());
    eprintln!("starting {} pods", size.count);
    let (mesh, ready) = start(&name, size.count)?;
    eprintln!("all ready after {:.1} s; settling", ready.as_secs_f64());
    std::thread::sleep(SETTLE);

    let interval = Duration::from_secs(size.seconds);
    eprintln!("idle for {} s", size.seconds);
    let before = times(&mesh);
    std::thread::sleep(interval);
    let mut programs = shares(&mesh, &before, interval, |program, share| program.idle = share);

    eprintln!("{} requests/s for {} s", size.rate, size.seconds);
    let before = times(&mesh);
    let started = Instant::now();
    let (requests, failed) = load(&name, size)?;
    let loaded = shares(&mesh, &before, started.elapsed(), |program, share| program.loaded = share);
    for (name, program) in loaded {
        programs.entry(name).or_default().loaded = program.loaded;
    }
    let ready_seconds = ready.as_secs_f64();
    let figures = Figures { pods: size.count, ready_seconds, rate: size.rate, requests, failed, programs };
    let text = match size.output.as_str() {
        "json" => serde_json::to_string_pretty(&figures)? + "\n",
        _ => figures.text(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// `mesh up`, until everything is ready.
fn start(name: &str, count: usize) -> anyhow::Result<(Running, Duration)> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("pods.yaml");
    std::fs::write(&manifests, applications(count))?;
    let mesh = binary("mesh")?;
    let own = mesh.parent().context("a program lies in a folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(own.to_owned()).chain(std::env::split_paths(&path)))?;
    let started = Instant::now();
    let mut child = Command::new(&mesh)
        .args(["up", "--name", name, "--http-port", "0", "--https-port", "0", "--output", "json", "-f"])
        .arg(&manifests)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting mesh up")?;
    let output = child.stdout.take().context("mesh up has no output")?;
    let running = Running::of(child);
    let is_ready = |line: &String| {
        serde_json::from_str(line).is_ok_and(|value: serde_json::Value| value.get("pods").is_some())
    };
    BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find(is_ready)
        .context("mesh up ended before it was ready; what it said stands above")?;
    Ok((running, started.elapsed()))
}

/// One Deployment of `count` instances behind a Service, and the pod that calls them.
fn applications(count: usize) -> String {
    let deployment = |name: &str, replicas: usize, arguments: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers: [{{name: {name}, image: mesh-echo, command: [mesh-echo], args: [{arguments}]}}]
"
        )
    };
    let service = "apiVersion: v1
kind: Service
metadata: {name: crowd}
spec: {selector: {app: crowd}, ports: [{name: http, port: 8080}]}
";
    let crowd = deployment("crowd", count, "'--listen=8080', '--name=crowd'");
    format!("{service}{crowd}{}", deployment("caller", 1, "'--listen=8080', '--name=caller'"))
}

/// Requests sent from the caller's pod, and how many of them failed.
fn load(name: &str, size: &Size) -> anyhow::Result<(u64, u64)> {
    let output = Command::new(binary("mesh")?)
        .args(["exec", "--name", name, "caller", "--"])
        .arg(binary("mesh-echo")?)
        .args(["load", "http://crowd:8080/", "--connections", "16"])
        .args(["--rate", &size.rate.to_string(), "--duration", &format!("{}s", size.seconds)])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_str(last)
        .with_context(|| format!("the load ended with {}: {last}", output.status))?;
    let count = |field: &str| summary[field].as_u64().with_context(|| format!("no {field} in {summary}"));
    let (requests, good) = (count("sent")?, count("ok")?);
    ensure!(requests > 0, "no request was sent");
    Ok((requests, requests.saturating_sub(good)))
}

/// Time on a processor by process.
fn times(mesh: &Running) -> BTreeMap<u32, Duration> {
    mesh.family().into_iter().map(|id| (id, processor_time(id))).collect()
}

/// What each program has now, and which share of a processor it used since.
fn shares(
    mesh: &Running,
    before: &BTreeMap<u32, Duration>,
    interval: Duration,
    set: impl Fn(&mut Program, f64),
) -> BTreeMap<String, Program> {
    let mut programs: BTreeMap<String, (Program, Duration)> = BTreeMap::new();
    for id in mesh.family() {
        let (program, used) = programs.entry(program(id)).or_default();
        program.processes += 1;
        program.memory_bytes += memory(id);
        *used += processor_time(id).saturating_sub(before.get(&id).copied().unwrap_or_default());
    }
    let share = |(name, (mut program, used)): (String, (Program, Duration))| {
        set(&mut program, used.as_secs_f64() / interval.as_secs_f64());
        (name, program)
    };
    programs.into_iter().map(share).collect()
}

impl Figures {
    fn text(&self) -> String {
        let mut text = format!(
            "{} pods ready after {:.1} s; {} requests at {}/s, {} failed\n\n",
            self.pods, self.ready_seconds, self.requests, self.rate, self.failed
        );
        let heading = ["program", "processes", "PSS MiB", "idle mCPU", "loaded mCPU"];
        let _ = writeln!(
            text,
            "{:<14}{:>10}{:>10}{:>11}{:>13}",
            heading[0], heading[1], heading[2], heading[3], heading[4]
        );
        let mut all = Program::default();
        for (name, program) in &self.programs {
            text.push_str(&row(name, program));
            all.processes += program.processes;
            all.memory_bytes += program.memory_bytes;
            all.idle += program.idle;
            all.loaded += program.loaded;
        }
        text.push_str(&row("all", &all));
        let _ = writeln!(
            text,
            "\nApplications included, that is {:.0} % of the 600 MB that an ingress controller is commonly given.",
            bytes(all.memory_bytes) / INGRESS_CONTROLLER * 100.0
        );
        text
    }
}

fn row(name: &str, program: &Program) -> String {
    let mebibytes = bytes(program.memory_bytes) / f64::from(1 << 20);
    let (idle, loaded) = (program.idle * 1000.0, program.loaded * 1000.0);
    format!("{name:<14}{:>10}{mebibytes:>10.1}{idle:>11.1}{loaded:>13.1}\n", program.processes)
}

#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
const fn bytes(count: u64) -> f64 {
    count as f64
}
