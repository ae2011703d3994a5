//! `mesh migrate istio`: what of an Istio's objects would behave differently here, object by object.
//!
//! What is said of kinds that are read is what `mesh lint` says of them; the rest is [`mesh_control::migrate`].

use std::collections::BTreeMap;
use std::process::ExitCode;

use mesh_control::api::Kind;
use mesh_control::cluster::remote::Remote;
use mesh_control::migrate::differences;
use mesh_control::problem::{ObjectRef, Problem, Severity};
use mesh_control::view::View;
use mesh_control::world::World;
use serde::Serialize;
use serde_json::Value;

use super::{connector, lint, offline};
use crate::cli::Migrate;
use crate::local::manifest;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// What was found; its JSON is the output of `mesh migrate istio --output json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Of this JSON.
    version: u8,
    /// Objects that were looked at.
    objects: usize,
    /// By object.
    differences: Vec<Problem>,
}

/// Runs the command; exit code 1 if anything would behave differently.
pub(crate) fn run(flags: &Migrate, output: &Output) -> anyhow::Result<ExitCode> {
    let (world, documents) = if flags.files.is_empty() {
        run_local(from_cluster(flags))?
    } else {
        let documents = manifest::read(&flags.files)?.into_iter().map(|object| object.value).collect();
        (super::world(offline::read(&flags.files)?), documents)
    };
    let report = Report::of(world, &documents, flags.namespace.as_deref());
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.show(output);
    }
    let differs = report.differences.iter().any(|problem| problem.severity <= Severity::Warning);
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn from_cluster(flags: &Migrate) -> anyhow::Result<(World, Vec<Value>)> {
    let remote = Remote::connect(&flags.cluster.reach()).await.map_err(connector::failed)?;
    let world = connector::cluster_world(&remote).await?;
    let documents = remote.to_migrate().await.map_err(connector::failed)?;
    Ok((world, documents))
}

impl Report {
    fn of(world: World, documents: &[Value], namespace: Option<&str>) -> Self {
        let is_read = |problem: &Problem| {
            let kind = problem.object.as_ref().map_or("", |object| &object.kind);
            problem.severity <= Severity::Warning && Kind::all().any(|known| known.as_str() == kind)
        };
        let view = View::new(world, 1);
        let objects = view.world().objects().count().max(documents.len());
        let mut found: Vec<Problem> = view.problems().iter().filter(|one| is_read(one)).cloned().collect();
        found.extend(differences(documents));
        found.retain(|problem| {
            let object = problem.object.as_deref();
            let home = |object: &ObjectRef| match object.kind.as_str() {
                "Namespace" => object.name.clone(),
                _ => object.namespace.clone(),
            };
            namespace.is_none_or(|wanted| object.is_some_and(|object| home(object) == wanted))
        });
        found.sort_by(|a, b| (&a.object, a.severity, &a.field).cmp(&(&b.object, b.severity, &b.field)));
        found.dedup();
        Self { version: 1, objects, differences: found }
    }

    fn show(&self, output: &Output) {
        let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
        for problem in &self.differences {
            *counts.entry(problem.severity).or_default() += 1;
            output.line(lint::line(problem));
        }
        let count = |severity| counts.get(&severity).copied().unwrap_or_default();
        output.note(match self.differences.len() {
            0 => format!("{} objects behave as with Istio, as far as is known", self.objects),
            _ => format!(
                "of {} objects: {} parts without effect, {} that may act differently, {} worth knowing",
                self.objects,
                count(Severity::Error),
                count(Severity::Warning),
                count(Severity::Info)
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lint_says_and_what_only_a_move_shows_come_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("istio.yaml");
        std::fs::write(
            &file,
            "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: f, namespace: shop}}\n---\n\
             {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: audit, namespace: shop}, \
             spec: {action: AUDIT, rules: [{}]}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {name: web, namespace: other}, spec: {ports: [{port: 80}]}}\n",
        )
        .unwrap();
        let report = |namespace: Option<&str>| {
            let documents: Vec<Value> = manifest::read(std::slice::from_ref(&file))
                .unwrap()
                .into_iter()
                .map(|one| one.value)
                .collect();
            let world = crate::cmd::world(offline::read(std::slice::from_ref(&file)).unwrap());
            Report::of(world, &documents, namespace)
        };
        let kinds: Vec<String> = report(None)
            .differences
            .iter()
            .map(|problem| problem.object.as_ref().unwrap().kind.clone())
            .collect();
        assert_eq!(kinds, ["AuthorizationPolicy", "EnvoyFilter"]);
        assert!(report(Some("other")).differences.is_empty());
    }
}
