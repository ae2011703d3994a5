//! `mesh check`: whether a cluster can have the mesh, or whether the one that it has works.

use std::process::ExitCode;

use mesh_control::cluster::remote::Remote;
use mesh_control::cluster::remote::check::{Check, Level};
use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::{connector, install};
use crate::cli::Check as Flags;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// What was found; its JSON is the output of `mesh check --output json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Of this JSON.
    version: u8,
    errors: usize,
    warnings: usize,
    checks: Vec<Check>,
}

/// Runs the command; exit code 1 if something does not work.
pub(crate) fn run(flags: &Flags, output: &Output) -> anyhow::Result<ExitCode> {
    let checks = run_local(async {
        let remote = Remote::connect(&flags.cluster.reach()).await.map_err(connector::failed)?;
        let checks = if flags.before {
            remote.check_before(&install::everything()?).await
        } else {
            remote.check(env!("CARGO_PKG_VERSION")).await
        };
        checks.map_err(connector::failed)
    })?;
    let report = Report::of(checks);
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.checks.iter().for_each(|check| output.line(line(check)));
        output.note(report.summary(flags.before));
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let count = |level: Level| checks.iter().filter(|check| check.level == level).count();
        Self { version: 1, errors: count(Level::Error), warnings: count(Level::Warning), checks }
    }

    fn summary(&self, before: bool) -> String {
        match (self.errors, self.warnings) {
            (0, 0) if before => "the mesh can be installed: mesh install --apply --wait".to_owned(),
            (0, 0) => "everything is as it should be".to_owned(),
            (errors, warnings) => format!("{errors} errors, {warnings} warnings"),
        }
    }
}

fn line(check: &Check) -> String {
    let mark = match check.level {
        Level::Ok => "✔".green().to_string(),
        Level::Warning => "!".yellow().bold().to_string(),
        Level::Error => "✘".red().bold().to_string(),
    };
    let fix = check.fix.as_ref().map_or_else(String::new, |fix| format!(" (fix: {fix})"));
    format!("{mark} {}: {}{fix}", check.subject, check.message)
}
