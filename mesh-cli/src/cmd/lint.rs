//! `mesh lint`: everything the control plane would say of these files, without a running mesh; or of the objects of one that runs.
//!
//! Standard output has one problem a line and nothing else; the summary goes to standard error.

mod fix;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use mesh_control::problem::{Problem, Severity};
use mesh_control::source::Change;
use mesh_control::view::View;
use mesh_control::world::World;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::connector::Connector;
use super::offline;
use crate::cli::Lint;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// What was found; its JSON is the output of `mesh lint --output json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Of this JSON.
    version: u8,
    errors: usize,
    warnings: usize,
    infos: usize,
    /// In order of files and lines.
    problems: Vec<Problem>,
}

/// Runs the command; exit code 1 if anything is worse than worth knowing.
pub(crate) fn run(flags: &Lint, output: &Output) -> anyhow::Result<ExitCode> {
    if flags.files.is_empty() {
        let world = run_local(async { Connector::open(&flags.place).await?.world(output).await })?;
        return show(Report::of(world, flags.namespace.as_deref()), output);
    }
    let change = offline::read(&flags.files)?;
    if flags.diff {
        return mend(&change, |file, _, patches| {
            output.line(format!("--- {0}\n+++ {0}", file.display()));
            patches.iter().for_each(|patch| show_patch(patch, output));
            Ok(())
        });
    }
    let change = if flags.fix {
        mend(&change, |file, text, patches| {
            fix::write(file, text, &fix::patched(text, patches))?;
            output.note(format!("{}: {} lines mended", file.display(), patches.len()));
            Ok(())
        })?;
        offline::read(&flags.files)?
    } else {
        change
    };
    show(Report::of(super::world(change), flags.namespace.as_deref()), output)
}

fn show(report: Report, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.problems.iter().for_each(|problem| output.line(line(problem)));
        output.note(report.summary());
    }
    Ok(if report.errors + report.warnings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does something with every file in which something can be mended.
fn mend(
    change: &Change,
    each: impl Fn(&Path, &str, &[fix::Patch]) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let ports = fix::OnlyPorts::of(change);
    let files: BTreeSet<_> = change.upserted.iter().filter_map(|object| object.origin.file.clone()).collect();
    // What is built in and what came from standard input is no file.
    for file in files.iter().filter(|file| file.is_file() && !file.starts_with("/dev")) {
        let text = std::fs::read_to_string(&***file).with_context(|| file.display().to_string())?;
        let patches = fix::patches(file, &text, &ports);
        if !patches.is_empty() {
            each(file, &text, &patches)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_patch(patch: &fix::Patch, output: &Output) {
    output.line(format!("@@ line {} @@\n-{}", patch.line, patch.old));
    patch.new.iter().for_each(|line| output.line(format!("+{line}")));
}

impl Report {
    /// All problems, or those of a namespace's objects.
    fn of(world: World, namespace: Option<&str>) -> Self {
        let mut problems: Vec<Problem> = View::new(world, 1).problems().to_vec();
        problems.retain(|problem| {
            let of = problem.object.as_ref().map_or("", |object| &object.namespace);
            namespace.is_none_or(|namespace| namespace == of)
        });
        problems.sort_by(|a, b| (&a.file, a.line, a.severity).cmp(&(&b.file, b.line, b.severity)));
        problems.dedup();
        let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
        let (errors, warnings, infos) =
            (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
        Self { version: 1, errors, warnings, infos, problems }
    }

    fn summary(&self) -> String {
        let counted = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {one}s")),
        };
        let parts =
            [counted(self.errors, "error"), counted(self.warnings, "warning"), counted(self.infos, "note")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no problems".to_owned() } else { parts.join(", ") }
    }
}

/// One problem on one line.
pub(super) fn line(problem: &Problem) -> String {
    match problem.severity {
        Severity::Error => format!("{} {problem}", "error:".red().bold()),
        Severity::Warning => format!("{} {problem}", "warning:".yellow().bold()),
        Severity::Info => format!("{} {problem}", "info:".cyan()),
    }
}

#[cfg(test)]
mod tests;
