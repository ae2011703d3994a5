//! Bad, huge and hostile objects: traffic goes on, and what other namespaces' proxies hold does not change.
//!
//! No scenarios: nothing here has a key resource, the point is that nothing happens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::fixture::manifest;
use crate::mesh::{Mesh, summary};

/// Runs until the last of some 280 manifests is in and out again, at most.
const LOAD: [&str; 6] = ["--rate", "50", "--connections", "8", "--duration", "40s"];
/// How long an edit may take to be in effect.
const PROPAGATION: Duration = Duration::from_secs(1);

/// Every bad manifest, one after the other, under load; those with mistakes that no mesh can work with are refused.
pub(crate) fn manifests_harm_nothing(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.eventually(|| mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend"))?;
    let mut load = mesh.start_in("frontend", &[&["load", "http://backend:8080/"], &LOAD[..]].concat());
    ensure!(load.line(Duration::from_secs(10))?.is_some(), "the load does not start");
    let begun = Instant::now();
    let mut refused = 0;
    for folder in folders() {
        let kind = folder.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
        if kind == "ConfigMap" {
            continue;
        }
        for file in files(&folder) {
            // Everything in a namespace of its own but the bad part itself.
            refused += usize::from(mesh.try_apply(&file).code != Some(0));
            mesh.try_delete(&file);
        }
    }
    let elapsed = begun.elapsed();
    eprintln!("  {refused} were refused; all took {elapsed:?}");
    ensure!(refused > 0, "nothing was refused");
    summary(&load.finish(Duration::from_secs(60))?).none_failed()
}

/// What is refused says so on standard error, with the file, and changes nothing.
pub(crate) fn refusals_are_reported(mesh: &Mesh) -> anyhow::Result<()> {
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad");
    for file in [
        "VirtualService/syntax-tab.yaml",
        "VirtualService/type-timeout-number.yaml",
        "Service/type-port.yaml",
    ] {
        let output = mesh.try_apply(&bad.join(file));
        ensure!(output.code == Some(1), "{file}: exit code {:?}: {}", output.code, output.stderr);
        ensure!(output.stderr.contains(file), "{file} is not named: {}", output.stderr);
        mesh.try_delete(&bad.join(file));
    }
    mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend")?;
    Ok(())
}

/// Objects of the namespace `other` that are too many, too large or too deep.
pub(crate) fn other_namespaces_do_not_matter(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.apply_text(&manifest("mesh/backend-header-a.yaml"));
    let before = mesh.config("frontend")?;
    for (what, text) in hostile() {
        let file = mesh.file(&text);
        let begun = Instant::now();
        let code = mesh.try_apply(file.path()).code;
        eprintln!("  {what}: exit code {code:?} after {:?}", begun.elapsed());
        let edits = ["mesh/backend-header-b.yaml", "mesh/backend-header-a.yaml"];
        for edit in edits {
            let edited = Instant::now();
            mesh.apply_text(&manifest(edit));
            let elapsed = edited.elapsed();
            ensure!(elapsed < PROPAGATION, "{what}: an edit in another namespace took {elapsed:?}");
        }
        ensure!(
            mesh.config("frontend")? == before,
            "{what}: the proxy of another namespace holds something else"
        );
        mesh.try_delete(file.path());
    }
    mesh.delete_text(&manifest("mesh/backend-header-a.yaml"));
    Ok(())
}

fn hostile() -> Vec<(&'static str, String)> {
    let rule = |n: usize| {
        format!(
            "  - match: [{{uri: {{prefix: /a-rather-long-path-to-fill-the-object/{n:05}}}, headers: {{x-number: {{exact: \"{n}\"}}}}}}]\n    \
             route: [{{destination: {{host: nowhere-{n:05}.other.svc.cluster.local}}}}]\n"
        )
    };
    let rules: String = (0..5_000).map(rule).collect();
    let small = |n: usize| object(&format!("small-{n}"), &format!("[small-{n}]"), &rule(n));
    let small: String = (0..2_000).map(small).collect();
    let bomb: String = (1..12)
        .map(|n| format!("{}: &{} [{}]\n", name(n), name(n), vec![format!("*{}", name(n - 1)); 12].join(",")))
        .collect();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let regex = format!(
        "  - match: [{{uri: {{regex: \"{}\"}}}}]\n    route: [{{destination: {{host: huge}}}}]\n",
        "(a{1,100}){1,100}".repeat(20)
    );
    vec![
        ("5,000 rules", object("huge", "[huge]", &rules)),
        ("2,000 objects", small),
        ("aliases of aliases", format!("a0: &a0 [x]\n{bomb}{}", object("bomb", "[bomb]", ""))),
        ("5,000 lists in each other", format!("{}  deep: {deep}\n", object("deep", "[deep]", "  - {}\n"))),
        ("a heavy regex", object("regex", "[huge]", &regex)),
    ]
}

fn name(n: usize) -> String {
    format!("a{n}")
}

fn object(name: &str, hosts: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: other}}\nspec:\n  \
         hosts: {hosts}\n  http:\n{rules}"
    )
}

fn folders() -> Vec<PathBuf> {
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad");
    entries(&bad).into_iter().filter(|path| path.is_dir()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).expect("a folder of fixtures");
    let mut entries: Vec<_> = read.map(|entry| entry.expect("a fixture").path()).collect();
    entries.sort();
    entries
}
