//! `mesh lint`: everything the control plane would say of these files, without a running mesh.
//!
//! Standard output has one problem a line and nothing else; the summary goes to standard error.

use std::process::ExitCode;

use mesh_control::problem::{Problem, Severity};
use mesh_control::source::Change;
use mesh_control::view::View;
use mesh_control::world::World;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::offline;
use crate::cli::Lint;
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
    let report = Report::of(offline::read(&flags.files)?);
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.problems.iter().for_each(|problem| output.line(line(problem)));
        output.note(report.summary());
    }
    Ok(if report.errors + report.warnings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    fn of(change: Change) -> Self {
        let mut world = World::default();
        world.apply(change);
        let mut problems: Vec<Problem> = View::new(world, 1).problems().to_vec();
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

fn line(problem: &Problem) -> String {
    match problem.severity {
        Severity::Error => format!("{} {problem}", "error:".red().bold()),
        Severity::Warning => format!("{} {problem}", "warning:".yellow().bold()),
        Severity::Info => format!("{} {problem}", "info:".cyan()),
    }
}

#[cfg(test)]
mod tests;
