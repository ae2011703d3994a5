//! `mesh install`: the manifests of a whole mesh, for `kubectl apply -f -`, or applied at once.
//!
//! They come from the Helm chart in `deploy/charts/mesh`, which is built in: what Helm would make of it with the same values is
//! what is printed, and a test with a real Helm says so. Definitions of foreign kinds are printed on request only, for
//! `kubectl create`, which leaves those that exist alone: they may be another mesh's.

mod chart;
mod cluster;
mod render;
mod values;

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

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
    let texts = rendered(&read_values(flags)?)?;
    if flags.apply {
        return cluster::apply(objects(&texts)?, flags, output);
    }
    for (file, text) in texts {
        output.line(format!("---\n# {file}\n{}", text.trim()));
    }
    Ok(ExitCode::SUCCESS)
}

/// All that an installation may have put into a cluster, whatever its settings were.
pub(super) fn everything() -> anyhow::Result<Vec<Value>> {
    let mut values = Values::defaults();
    values.set("monitors=true")?;
    objects(&rendered(&values)?)
}

/// Templates that say something with these values.
fn rendered(values: &Values) -> anyhow::Result<Vec<(&'static str, String)>> {
    let render = |(file, template): &(&'static str, &str)| {
        let text = render::render(template, values).with_context(|| format!("template {file}"))?;
        Ok((*file, text))
    };
    let mut texts: Vec<_> = chart::TEMPLATES.iter().map(render).collect::<anyhow::Result<_>>()?;
    texts.retain(|(_, text)| !text.trim().is_empty());
    Ok(texts)
}

/// The objects of rendered templates, with the definitions of foreign kinds.
fn objects(texts: &[(&str, String)]) -> anyhow::Result<Vec<Value>> {
    let mut objects = mesh_control::crd::definitions()?;
    objects.retain(|definition| !mesh_control::crd::is_own(definition));
    for (file, text) in texts {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).with_context(|| format!("template {file}"))?;
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    Ok(objects)
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
