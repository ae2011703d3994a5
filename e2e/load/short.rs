//! `mesh-bench short`: in two minutes, whether a request costs more than it did.
//!
//! Our engine and the plain forwarder on hyper are measured in pairs, each time as new processes, so that where memory
//! happens to lie differs from pair to pair as it does from run to run. What counts is the ratio of their processor times
//! within a pair: what disturbs the machine disturbs both, and another machine changes both. The median of the pairs is
//! compared with a committed one; the 95 % interval is that of a median, from the ranks of the pairs, and assumes nothing
//! about how they are distributed.

mod baseline;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::case::{CASES, Case};
use crate::certificate::Certificate;
use crate::process::Launch;
use crate::round::{self, start_backend};
use crate::subject::{self, Subject};

use baseline::{Baseline, Ratio};
pub(crate) use baseline::{OTHER_BUILD, built_alike};

/// What is measured: the smallest requests, where what a proxy does itself weighs most.
const CASE: &str = "h1-small-32";
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1_000);

/// What `mesh-bench short` is asked for.
#[derive(clap::Args)]
pub(crate) struct Short {
    /// Pairs of processes that are measured
    #[arg(long, default_value_t = 40)]
    pairs: usize,
    /// Write the ratio to this file as the new baseline instead of comparing it
    #[arg(long, value_name = "FILE")]
    bless: Option<PathBuf>,
}

/// Measures and compares.
///
/// # Errors
/// When a request costs more than the baseline allows, twice in a row.
pub(crate) async fn measure(short: &Short) -> anyhow::Result<()> {
    let ratio = ratio(short.pairs).await?;
    if let Some(file) = &short.bless {
        eprintln!("{CASE}: {ratio} of the plain forwarder's; now the baseline");
        return std::fs::write(file, baseline::HEADING.to_owned() + &ratio.line(CASE))
            .with_context(|| format!("writing {}", file.display()));
    }
    if !built_alike() {
        eprintln!("{CASE}: {ratio} of the plain forwarder's; {OTHER_BUILD}");
        return Ok(());
    }
    let baseline = Baseline::committed(CASE)?;
    let Err(first) = baseline.holds(&ratio) else { return Ok(()) };
    eprintln!("{first}\nmeasuring once more: a machine may have its moments, a defect stays");
    let again = self::ratio(short.pairs).await?;
    baseline.holds(&again).map_err(|second| anyhow::anyhow!("{second}\n{}", baseline::ADVICE))
}

/// Our processor time per request as a share of the plain forwarder's.
async fn ratio(pairs: usize) -> anyhow::Result<Ratio> {
    let case = CASES.iter().find(|case| case.name == CASE).context("the short form's case exists")?;
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::generate(folder.path())?;
    let mut ratios = Vec::with_capacity(pairs);
    for number in 0..pairs {
        ratios.push(pair(*case, number, folder.path(), &certificate).await?);
    }
    Ratio::of(ratios)
}

/// One of each, started anew; who is measured first takes turns.
async fn pair(
    case: Case,
    number: usize,
    folder: &std::path::Path,
    certificate: &Certificate,
) -> anyhow::Result<f64> {
    let (address, backend) = start_backend()?;
    let ours = subject::engine(address, folder, Launch::Plain).await?;
    let reference = subject::reference(address, folder, Launch::Plain).await?;
    let cost = async |subject: &Subject| {
        round::run(case, subject, &backend, certificate, WARM_UP).await?;
        let sample = round::run(case, subject, &backend, certificate, MEASURED).await?;
        anyhow::Ok(sample.microseconds_per_request)
    };
    let (ours, its) = if number.is_multiple_of(2) {
        let ours = cost(&ours).await?;
        (ours, cost(&reference).await?)
    } else {
        let its = cost(&reference).await?;
        (cost(&ours).await?, its)
    };
    ensure!(its > 0.0, "the kernel accounts no processor time to the forwarder");
    Ok(ours / its)
}
