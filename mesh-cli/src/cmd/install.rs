//! `mesh install`: the manifests of a whole mesh, for `kubectl apply -f -`.
//!
//! They come from the Helm chart in `deploy/charts/mesh`, which is built in: what Helm would make of it with the same values is
//! what is printed, and a test with a real Helm says so. Definitions of foreign kinds are printed on request only, for
//! `kubectl create`, which leaves those that exist alone: they may be another mesh's.

mod chart;
mod render;
mod values;

use std::process::ExitCode;

use anyhow::Context as _;

use super::Failure;
use crate::cli::Install;
use crate::output::Output;
use values::Values;

/// Runs the command.
pub(crate) fn run(flags: &Install, output: &Output) -> anyhow::Result<ExitCode> {
    if flags.crds {
        for definition in
            mesh_control::crd::definitions()?.iter().filter(|one| !mesh_control::crd::is_own(one))
        {
            output.line(format!("---\n{}", serde_saphyr::to_string(definition)?.trim_end()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let values = read_values(flags)?;
    for (file, template) in chart::TEMPLATES {
        let text = render::render(template, &values).with_context(|| format!("template {file}"))?;
        if !text.trim().is_empty() {
            output.line(format!("---\n# {file}\n{}", text.trim()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_values(flags: &Install) -> anyhow::Result<Values> {
    let usage = |error: values::Error| Failure::Usage(error.to_string());
    let mut values = Values::defaults();
    for file in &flags.values {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
        values.merge_text(&text).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    }
    for setting in &flags.set {
        values.set(setting).map_err(usage)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
