//! The mesh's other binaries: beside our own executable, or built there when we were run from a checkout.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::controllers;
use super::manifest::Object;

/// What every mesh runs.
const ALWAYS: [&str; 4] = ["mesh-control", "mesh-proxy", "mesh-ingress", "mesh-egress"];
/// What some workloads run.
const APPLICATION: &str = "mesh-echo";

/// The folder with all binaries that these objects need; builds missing ones in a checkout. `announce` is told before.
pub(crate) fn locate(objects: &[Object], announce: impl FnOnce(&str)) -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("finding our own executable")?;
    let folder = executable.parent().context("our executable has no folder")?;
    let missing: Vec<String> =
        needed(objects)?.into_iter().filter(|name| !folder.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(folder.to_owned());
    }
    let Some(workspace) = checkout(folder) else {
        bail!("{} not found in {}, beside the mesh executable", missing.join(", "), folder.display());
    };
    announce(&format!("building {}", missing.join(", ")));
    build(&missing, folder, &workspace)?;
    Ok(folder.to_owned())
}

fn needed(objects: &[Object]) -> anyhow::Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = ALWAYS.into_iter().map(ToOwned::to_owned).collect();
    for pod in controllers::desired(objects.iter())? {
        let containers = pod.template.spec.containers.into_iter().chain(pod.template.spec.init_containers);
        names.extend(
            containers
                .filter_map(|container| container.command.into_iter().next())
                .filter(|name| name == APPLICATION || ALWAYS.contains(&name.as_str())),
        );
    }
    Ok(names)
}

/// The workspace this executable was built in, if it lies in a cargo target folder and the workspace is still there.
fn checkout(folder: &Path) -> Option<PathBuf> {
    let profile = folder.file_name()?.to_str()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let built_here = matches!(profile, "debug" | "release") && folder.parent()?.join("CACHEDIR.TAG").exists();
    (built_here && workspace.join("Cargo.toml").exists()).then(|| workspace.to_owned())
}

fn build(binaries: &[String], folder: &Path, workspace: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("build").current_dir(workspace);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    // By name and not by package: then features are those of the whole workspace, as in `cargo run --bin mesh`, and what
    // that has compiled is not compiled again.
    for binary in binaries {
        command.arg("--bin").arg(binary);
    }
    // Cargo shows its own progress on standard error.
    let status = command.status().context("running cargo to build the missing binaries")?;
    if !status.success() {
        bail!("cargo could not build {}", binaries.join(", "));
    }
    match binaries.iter().find(|name| !folder.join(name).is_file()) {
        Some(name) => bail!("cargo built no binary called {name}"),
        None => Ok(()),
    }
}
