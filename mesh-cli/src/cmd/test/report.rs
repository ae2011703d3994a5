//! What came of the tests.

use std::collections::BTreeSet;

use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::judge::Difference;
use crate::output::Output;

/// Its JSON is the output of `mesh test --output json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of this JSON.
    pub(super) version: u8,
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) cases: Vec<CaseReport>,
    /// Rules and policies that no test came by, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unreached: Option<BTreeSet<String>>,
}

/// One test.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CaseReport {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) name: String,
    pub(super) passed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differences: Vec<Difference>,
    /// Why it came so, if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) because: Vec<String>,
}

impl CaseReport {
    /// Expected and found one below the other, then the reasons.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Difference { field, expected, found } in &self.differences {
            lines.push(field.clone());
            lines.push(format!("  - expected {expected}"));
            lines.push(format!("  + found    {found}"));
        }
        lines.push("because".to_owned());
        lines.extend(self.because.iter().map(|line| format!("  {line}")));
        lines
    }

    fn show(&self, output: &Output) {
        let Self { file, line, name, .. } = self;
        let mark = if self.passed { "✔".green().to_string() } else { "✘".red().to_string() };
        output.line(format!("{mark} {name} {}", format!("{file}:{line}").dimmed()));
        if self.passed {
            return;
        }
        for line in self.lines() {
            match line.trim_start().as_bytes().first() {
                Some(b'-') => output.line(format!("    {}", line.green())),
                Some(b'+') => output.line(format!("    {}", line.red())),
                _ => output.line(format!("    {line}")),
            }
        }
    }
}

impl Report {
    /// Prints all for people.
    pub(super) fn show(&self, output: &Output) {
        self.cases.iter().for_each(|case| case.show(output));
        for name in self.unreached.iter().flatten() {
            output.line(format!("{} no test reaches {name}", "!".yellow()));
        }
        output.note(format!("{} passed, {} failed", self.passed, self.failed));
    }
}
