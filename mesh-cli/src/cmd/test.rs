//! `mesh test`: what must become of requests, checked offline by the code that the proxies run.
//!
//! Each request is led along every way that chance leaves it: once to each destination that has a weight, with partial faults
//! spared or injected as the test says. All of them must be as expected, so a test passes always or never.

mod coverage;
mod file;
mod judge;
mod junit;
mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use mesh_control::source::Strict;
use mesh_control::view::View;

use super::explain::call::Call;
use super::explain::chance::Chance;
use super::explain::facts::Facts;
use super::explain::{journey, report as explained, view};
use super::{Failure, offline};
use crate::cli::Test;
use crate::output::Output;
use file::{Case, Faults, File};
use judge::{Difference, Found};
use report::{CaseReport, Report};

/// Runs the command; exit code 1 if a test fails.
pub(crate) fn run(flags: &Test, output: &Output) -> anyhow::Result<ExitCode> {
    let report = report(&flags.tests, &flags.files, flags.coverage)?;
    if let Some(path) = &flags.junit {
        std::fs::write(path, junit::document(&report)).with_context(|| path.display().to_string())?;
    }
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.show(output);
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all tests of all files; each file on its own manifests, with those that are given for all.
fn report(tests: &[PathBuf], manifests: &[PathBuf], coverage: bool) -> anyhow::Result<Report> {
    let (mut cases, mut all, mut reached) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for path in tests {
        let file = file::read(path)?;
        let mut paths = manifests.to_vec();
        paths.extend(file.value.manifests_from(path));
        if paths.is_empty() {
            let message =
                format!("{}: names no manifests; add `manifests: [FILE]`, or give -f", path.display());
            return Err(Failure::Usage(message).into());
        }
        let view = view(offline::read(&paths)?);
        for at in 0..file.value.tests.len() {
            cases.push(run_case(&view, path, &file, at, &mut reached)?);
        }
        all.extend(coverage::all(view.world()));
    }
    let failed = cases.iter().filter(|case| !case.passed).count();
    let unreached = coverage.then(|| all.difference(&reached).cloned().collect());
    Ok(Report { version: 1, passed: cases.len() - failed, failed, cases, unreached })
}

fn run_case(
    view: &View,
    path: &Path,
    file: &Strict<File>,
    at: usize,
    reached: &mut BTreeSet<String>,
) -> anyhow::Result<CaseReport> {
    let case = &file.value.tests[at];
    let line = file.origin.line_of(&format!("tests[{at}]")).unwrap_or(1);
    let place = || format!("{}:{line}", path.display());
    let name = if case.name.is_empty() { format!("tests[{at}]") } else { case.name.clone() };
    let (differences, because) = judge_case(view, case, reached).with_context(place)?;
    let passed = differences.is_empty();
    Ok(CaseReport { file: path.display().to_string(), line, name, passed, differences, because })
}

/// What is not as expected on the first way that is not, and why it came so.
fn judge_case(
    view: &View,
    case: &Case,
    reached: &mut BTreeSet<String>,
) -> anyhow::Result<(Vec<Difference>, Vec<String>)> {
    let call = call(case)?;
    let faults = Some(case.replies.faults == Faults::Injected);
    let from = case.from.as_deref();
    let namespace = from.and_then(|from| from.split_once('/')).map_or("default", |(namespace, _)| namespace);
    let rolled = journey::examine(view, from, call.clone(), Chance::default())?.1;
    for backend in backends(&rolled) {
        let (report, mut facts) = journey::examine(view, from, call.clone(), Chance { backend, faults })?;
        reached.extend(report.steps.iter().filter_map(reach));
        // As users wrote them, before chance was settled.
        facts.shares.clone_from(&rolled.shares);
        facts.fault.clone_from(&rolled.fault);
        let found = Found { facts: &facts, outcome: &report.outcome, namespace };
        let differences = judge::differences(&case.expect, &found);
        if !differences.is_empty() {
            return Ok((differences, report.trail()));
        }
    }
    Ok((Vec::new(), Vec::new()))
}

/// The destinations to try one by one, where there are several.
fn backends(facts: &Facts) -> Vec<Option<usize>> {
    let weighted = facts.shares.iter().enumerate().filter(|(_, (_, weight, _))| *weight > 0);
    let weighted: Vec<_> = weighted.map(|(at, _)| Some(at)).collect();
    if weighted.len() < 2 { vec![None] } else { weighted }
}

fn reach(step: &explained::Step) -> Option<String> {
    let passed_over = step.topic == explained::Topic::Skipped;
    step.origin.as_ref().filter(|_| !passed_over).map(coverage::name)
}

fn call(case: &Case) -> Result<Call, Failure> {
    let request = &case.request;
    let headers: Vec<String> =
        request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut call = Call::parse(&request.method, &request.url, &headers)?;
    call.client = request.client_address;
    Ok(call)
}

#[cfg(test)]
mod tests;
