//! Instructions per operation, counted by valgrind: the same on a busy machine as on an idle one.
//!
//! Each operation runs in a process of its own, once few and once many times; the difference, divided, is what one costs,
//! whatever start and preparation took. The counts are compared with those that are committed. They depend on the
//! compiler and the build's profile, so those of another profile than the baseline's are shown and not compared.

mod operations;
mod requests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

pub(crate) use operations::run;

use crate::process::binary;
use crate::short::{OTHER_BUILD, built_alike};

const FEW: u64 = 100;
const MANY: u64 = 500;
/// A count may be this much above its baseline, in percent: hash seeds differ from process to process.
const TOLERANCE: u64 = 5;
const BASELINE: &str = include_str!("instructions/baseline.txt");
/// How a file of them begins.
const HEADING: &str =
    "# Instructions per operation, of profile `measure`; by `mesh-bench instructions --bless`.\n";
const ADVICE: &str = "\
Where they go:  mesh-bench instructions --only NAME --profiles FOLDER; callgrind_annotate FOLDER/NAME
Right as it is: mesh-bench instructions --bless e2e/load/instructions/baseline.txt, with the reason in the commit";

/// What two builds of one source may differ by, in instructions: deciding was seen to take 1,635 and 1,767.
const INLINING: u64 = 200;
/// Processes of which the best counts.
const RUNS: usize = 5;

/// What `mesh-bench instructions` is asked for.
#[derive(clap::Args)]
pub(crate) struct Counting {
    /// Write the counts to this file instead of comparing them
    #[arg(long, value_name = "FILE")]
    bless: Option<PathBuf>,
    /// Leave here where the instructions of whole requests went, for `callgrind_annotate`
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
    /// Count only these, by name
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Counts and compares.
///
/// # Errors
/// When something costs more than its baseline allows.
pub(crate) async fn measure(counting: &Counting) -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("no instructions are counted: valgrind is missing (`apt-get install valgrind`)");
        return Ok(());
    }
    let counts = count(counting).await?;
    if let Some(file) = &counting.bless {
        let text: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        return std::fs::write(file, HEADING.to_owned() + &text)
            .with_context(|| format!("writing {}", file.display()));
    }
    compare(&counts, &parse(BASELINE)?)
}

type Counts = BTreeMap<&'static str, u64>;

async fn count(counting: &Counting) -> anyhow::Result<Counts> {
    let wanted = |name: &str| counting.only.is_empty() || counting.only.iter().any(|only| only == name);
    let folder = tempfile::tempdir()?;
    let profiles = counting.profiles.as_deref().unwrap_or_else(|| folder.path());
    let mut counts = Counts::new();
    for (name, _) in operations::ALL.iter().filter(|(name, _)| wanted(name)) {
        counts.insert(name, operation(name)?);
    }
    for (name, program) in requests::ALL.iter().filter(|(name, _)| wanted(name)) {
        if let Some(missing) = program.needs().iter().find(|needed| binary(needed).is_err()) {
            eprintln!("{name:<18} not counted: no {missing} beside this program");
            continue;
        }
        counts.insert(name, requests::count(name, *program, profiles).await.context(*name)?);
    }
    Ok(counts)
}

fn compare(counts: &Counts, baseline: &Counts) -> anyhow::Result<()> {
    let mut worse = Vec::new();
    let comparable = built_alike();
    if !comparable {
        eprintln!("{OTHER_BUILD}");
    }
    for (name, count) in counts {
        let before = baseline.get(name).copied();
        let said = before.map_or_else(|| "no baseline".to_owned(), |before| format!("baseline {before}"));
        eprintln!("{name:<18} {count:>10} instructions, {said}");
        if comparable
            && before.is_some_and(|before| *count > before + (before * TOLERANCE / 100).max(INLINING))
        {
            worse.push(*name);
        }
    }
    ensure!(worse.is_empty(), "more than {TOLERANCE} % above the baseline: {}\n{ADVICE}", worse.join(", "));
    Ok(())
}

fn parse(text: &'static str) -> anyhow::Result<Counts> {
    let line = |line: &'static str| {
        let (name, count) = line.split_once(' ').context("a line is a name and a number")?;
        Ok((name, count.trim().parse()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// The fewest instructions that a process has taken for it: seeds of hash tables differ from process to process, and with
/// them the collisions, by which compiling was seen to vary by 6 %.
fn operation(name: &str) -> anyhow::Result<u64> {
    let once = |_| Ok((total(name, MANY)? - total(name, FEW)?) / (MANY - FEW));
    (0..RUNS).map(once).try_fold(u64::MAX, |fewest, count: anyhow::Result<u64>| Ok(fewest.min(count?)))
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
    ensure!(output.status.success(), "{operation} has failed: {said}");
    counted(&said)
}

/// The count at the end of what a program and valgrind have written.
fn collected(log: &Path) -> anyhow::Result<u64> {
    counted(&std::fs::read_to_string(log)?)
}

fn counted(said: &str) -> anyhow::Result<u64> {
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.with_context(|| format!("valgrind has counted nothing: {said}"))?;
    count.trim().parse().context("valgrind's count")
}
