//! Instructions per operation, counted by valgrind: the same on a busy machine as on an idle one.
//!
//! Each operation runs in a process of its own, once few and once many times; the difference, divided, is what one costs,
//! whatever start and preparation took. The counts are compared with those that are committed. They depend on the
//! compiler and the build's profile, so the baseline says by what it was made, and a run under another is told apart by hand.

mod operations;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

pub(crate) use operations::run;

const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// A count may be this much above its baseline, in percent: hash seeds differ from process to process.
const TOLERANCE: u64 = 5;
const BASELINE: &str = include_str!("instructions/baseline.txt");

/// Counts every operation and compares; with `bless` the counts become the baseline.
///
/// # Errors
/// When one costs more than its baseline allows.
pub(crate) fn measure(bless: Option<&Path>) -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("no instructions are counted: valgrind is missing (`apt-get install valgrind`)");
        return Ok(());
    }
    let baseline = parse(BASELINE)?;
    let (mut text, mut worse) = (String::new(), Vec::new());
    for (name, _) in operations::ALL {
        let count = (total(name, MANY)? - total(name, FEW)?) / (MANY - FEW);
        let before = baseline.get(*name).copied();
        let said = before.map_or_else(|| "no baseline".to_owned(), |before| format!("baseline {before}"));
        eprintln!("{name:<12} {count:>10} instructions, {said}");
        let _ = writeln!(text, "{name} {count}");
        if before.is_some_and(|before| count * 100 > before * (100 + TOLERANCE)) {
            worse.push(*name);
        }
    }
    if let Some(file) = bless {
        return std::fs::write(file, text).with_context(|| format!("writing {}", file.display()));
    }
    if !worse.is_empty() {
        bail!("more than {TOLERANCE} % above the baseline: {}", worse.join(", "));
    }
    Ok(())
}

fn parse(text: &'static str) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let line = |line: &'static str| {
        let (name, count) = line.split_once(' ').context("a line is a name and a number")?;
        Ok((name, count.trim().parse()?))
    };
    text.lines().map(line).collect()
}

/// All instructions of a process that does this so many times.
fn total(operation: &str, times: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["operation", operation, &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("running valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let Some((_, count)) = collected.filter(|_| output.status.success()) else {
        bail!("valgrind has counted nothing for {operation}: {said}");
    };
    count.trim().parse().context("valgrind's count")
}
