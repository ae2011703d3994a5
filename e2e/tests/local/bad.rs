//! Whatever is applied, nobody else notices: every bad manifest of `fixtures/bad` on a mesh under load, one after another,
//! and then one that is huge.
//!
//! What `mesh apply` refuses it says, and exits with 1; what it accepts in spite of a problem is told there or by `mesh
//! status`. The messages themselves are goldens of `mesh lint`, which says the same.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::fixture::manifest;
use crate::mesh::{Mesh, summary};
use crate::process::Running;

/// From a pod, and from outside through the gateway: 50 requests per second together.
const RATE: &str = "25";
/// One load's length; the next begins when it ends.
const LOAD: Duration = Duration::from_secs(5);
/// How long an edit may take beside something huge, which itself takes longer to be read.
const EDIT: Duration = Duration::from_secs(3);
const RULES: usize = 10_000;

/// Applies and deletes every bad manifest under load.
pub(crate) fn every_manifest(mesh: &Mesh) -> anyhow::Result<()> {
    let mut load = Load::start(mesh)?;
    let mut wrong = Vec::new();
    for kind in entries(&fixtures()).iter().filter(|path| path.is_dir()) {
        let mut accepted = Vec::new();
        for file in entries(kind).into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        {
            let output = mesh.try_apply(&file);
            let is_told =
                output.stderr.lines().any(|line| line.starts_with(['✘', '!']) || line.starts_with("error"));
            match output.code {
                Some(1) if is_told => {}
                Some(0) => {}
                _ => wrong.push(format!("{}: {output:?}", file.display())),
            }
            let is_applied = [" created", " changed"].iter().any(|word| output.stdout.contains(word));
            if is_applied || !is_told {
                accepted.push((file, is_told));
            }
            load.keep_up(mesh)?;
        }
        let silent = mesh.eventually(|| untold(mesh, &accepted));
        wrong.extend(silent.err().map(|error| format!("{}: {error:#}", kind.display())));
        accepted.iter().for_each(|(file, _)| mesh.delete_file(file));
        load.keep_up(mesh)?;
    }
    load.finish()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// An edit is in effect in time while something huge elsewhere is being read, and once it is in effect too.
pub(crate) fn something_huge(mesh: &Mesh) -> anyhow::Result<()> {
    let mut load = Load::start(mesh)?;
    mesh.apply_text(&manifest("mesh/backend-header-a.yaml"));
    mesh.eventually(|| seen(mesh, "first"))?;
    let huge = huge();
    mesh.apply_at_once(&huge);
    let edits = [("mesh/backend-header-b.yaml", "second"), ("mesh/backend-header-a.yaml", "first")];
    for (reference, policy) in edits {
        let edited = Instant::now();
        mesh.apply_at_once(&manifest(reference));
        mesh.eventually(|| seen(mesh, policy))?;
        let elapsed = edited.elapsed();
        ensure!(elapsed < EDIT, "the edit took {elapsed:?} beside something huge");
        load.keep_up(mesh)?;
        mesh.apply_text(&huge);
    }
    mesh.delete_text(&huge);
    mesh.delete_text(&manifest("mesh/backend-header-a.yaml"));
    load.finish()
}

fn seen(mesh: &Mesh, policy: &str) -> anyhow::Result<()> {
    let answer = mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend")?;
    let seen = answer.seen_header("x-policy");
    ensure!(seen.as_deref() == Some(policy), "{seen:?} instead of {policy}");
    Ok(())
}

fn huge() -> String {
    let rule = |at| {
        format!(
            "  - match: [{{uri: {{prefix: /path-{at}}}}}]\n    route: [{{destination: {{host: nobody-{at}}}}}]\n"
        )
    };
    let rules: String = (0..RULES).map(rule).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: huge\n  namespace: other\n\
         spec:\n  hosts: [huge]\n  http:\n{rules}"
    )
}

/// Fails when something was accepted and is told nowhere.
fn untold(mesh: &Mesh, accepted: &[(PathBuf, bool)]) -> anyhow::Result<()> {
    let problems =
        mesh.status()["control"]["problems"].as_array().cloned().context("no problems are told")?;
    let told = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let names = |name: &str| text.contains(&format!("name: {name}"));
        problems.iter().filter_map(|problem| problem["object"]["name"].as_str()).any(names)
    };
    let silent: Vec<_> =
        accepted.iter().filter(|(file, is_told)| !is_told && !told(file)).map(|(file, _)| file).collect();
    ensure!(silent.is_empty(), "accepted in silence: {silent:?}");
    Ok(())
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<_> = listing.map(|entry| entry.expect("a readable folder").path()).collect();
    found.sort();
    found
}

/// Requests all the time, none of which may fail.
struct Load {
    processes: Vec<Running>,
    started: Instant,
}

impl Load {
    fn start(mesh: &Mesh) -> anyhow::Result<Self> {
        let seconds = format!("{}s", LOAD.as_secs());
        let flags = ["--rate", RATE, "--connections", "4", "--duration", &seconds];
        let inside = mesh.start_in("frontend", &[&["load", "http://app:8080/"], &flags[..]].concat());
        let outside = mesh.start_outside(&[&["load", "http://app.example.com/"], &flags[..]].concat());
        let mut processes = vec![inside, outside];
        for process in &mut processes {
            ensure!(process.line(Duration::from_secs(10))?.is_some(), "the load does not start");
        }
        Ok(Self { processes, started: Instant::now() })
    }

    /// Goes on with a new one if this one is over.
    fn keep_up(&mut self, mesh: &Mesh) -> anyhow::Result<()> {
        if self.started.elapsed() < LOAD {
            return Ok(());
        }
        let next = Self::start(mesh)?;
        std::mem::replace(self, next).finish()
    }

    fn finish(self) -> anyhow::Result<()> {
        for process in self.processes {
            summary(&process.finish(LOAD + Duration::from_secs(20))?).none_failed()?;
        }
        Ok(())
    }
}
