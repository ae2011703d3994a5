//! What users see: text in colour on a terminal, or JSON.

use std::fmt::Display;
use std::time::Duration;

use anstream::{eprintln, println};
use comfy_table::{Table, presets};
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::cli::Format;

/// Prints results to standard output, progress and errors to standard error. Colours are stripped where it is no terminal.
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A result as a program reads it.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// A result on one line, for programs that read while the command goes on.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(value)?);
        Ok(())
    }

    /// A line of the result.
    pub(crate) fn line(&self, text: impl Display) {
        println!("{text}");
    }

    pub(crate) fn heading(&self, text: impl Display) {
        println!("{}", text.bold());
    }

    /// Columns without borders.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        rows.into_iter().for_each(|row| {
            table.add_row(row);
        });
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 3));
        });
        for line in table.to_string().lines() {
            println!("{}", line.trim_end());
        }
    }

    pub(crate) fn starting(&self, subject: &str) {
        eprintln!("{} {subject}", "…".dimmed());
    }

    pub(crate) fn ready(&self, subject: &str, after: Duration) {
        eprintln!("{} {subject} {}", "✔".green(), format!("{:.1} s", after.as_secs_f64()).dimmed());
    }

    pub(crate) fn waiting(&self, subject: &str, reason: &str, log: &[String]) {
        eprintln!("{} {subject} is not ready: {reason}", "!".yellow().bold());
        for line in log {
            eprintln!("    {}", line.dimmed());
        }
    }

    pub(crate) fn note(&self, text: impl Display) {
        eprintln!("{text}");
    }

    pub(crate) fn problem(&self, severe: bool, problem: impl Display) {
        if severe {
            eprintln!("{} {problem}", "✘".red().bold());
        } else {
            eprintln!("{} {problem}", "!".yellow().bold());
        }
    }

    pub(crate) fn error(&self, error: &anyhow::Error) {
        eprintln!("{} {error:#}", "error:".red().bold());
    }
}
