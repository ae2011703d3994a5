//! `mesh-bench short`: in two minutes, whether a request costs more than it did.
//!
//! Our engine and the plain forwarder on hyper are measured in pairs, each time as new processes, so that where memory
//! happens to lie differs from pair to pair as it does from run to run. What counts is the ratio of their processor times
//! within a pair. The median of the pairs is compared with a committed one; the 95 % interval is that of a median, from the
//! ranks of the pairs, and assumes nothing about how they are distributed.
//!
//! What disturbs the machine disturbs both of a pair, but not alike: ratios were seen 6 % higher beside a compiler. So a
//! pair counts only when others left the machine alone, and where they never do nothing is decided, which is no failure.

mod baseline;
mod others;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::case::{CASES, Case};
use crate::certificate::Certificate;
use crate::process::Launch;
use crate::round::{self, start_backend};
use crate::subject::{self, Subject};

use baseline::{Baseline, Ratio, Verdict};
use others::Watch;

pub(crate) use baseline::{OTHER_BUILD, built_alike};

/// What is measured: the smallest requests, where what a proxy does itself weighs most.
const CASE: &str = "h1-small-32";
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1_000);
/// Pairs between two looks at their ratio.
const LOOK: usize = 10;
/// How many times the pairs asked for are measured at most, when they leave doubt.
const EXTENSION: usize = 2;
/// Pairs that others have disturbed; after so many, about a minute, the machine is too busy.
const DISTURBED: usize = 20;

/// What `mesh-bench short` is asked for.
#[derive(clap::Args)]
pub(crate) struct Short {
    /// Pairs of processes that are measured, and as many again when they leave doubt
    #[arg(long, default_value_t = 40)]
    pairs: usize,
    /// Percentage of all processors that others may use while a pair is measured; above it the pair does not count
    #[arg(long, default_value_t = 15, value_name = "PERCENT")]
    others: u8,
    /// Write the ratio to this file as the new baseline instead of comparing it
    #[arg(long, value_name = "FILE")]
    bless: Option<PathBuf>,
}

/// Measures and compares.
///
/// # Errors
/// When a request costs more than the baseline allows, twice in a row.
pub(crate) async fn measure(short: &Short) -> anyhow::Result<()> {
    if let Some(file) = &short.bless {
        let ratio = short.ratio(None).await?.context("the machine is too busy for a baseline")?;
        eprintln!("{CASE}: {ratio} of the plain forwarder's; now the baseline");
        return std::fs::write(file, baseline::HEADING.to_owned() + &ratio.line(CASE))
            .with_context(|| format!("writing {}", file.display()));
    }
    let baseline = Baseline::committed(CASE)?;
    let compared = built_alike().then_some(&baseline);
    let Some(ratio) = short.ratio(compared).await? else { return undecided() };
    let Some(baseline) = compared else {
        eprintln!("{CASE}: {ratio} of the plain forwarder's; {OTHER_BUILD}");
        return Ok(());
    };
    eprintln!("{}", baseline.says(&ratio));
    if baseline.verdict(&ratio) != Verdict::Worse {
        return Ok(());
    }
    eprintln!("measuring once more: a machine may have its moments, a defect stays");
    let Some(again) = short.ratio(Some(baseline)).await? else { return undecided() };
    let said = baseline.says(&again);
    ensure!(
        baseline.verdict(&again) != Verdict::Worse,
        "our processor time per request got worse\n{said}\n{}",
        baseline::ADVICE
    );
    eprintln!("{said}");
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "an end of `measure`")]
fn undecided() -> anyhow::Result<()> {
    eprintln!("{CASE}: UNDECIDED: the machine is too busy with other things; nothing was compared");
    Ok(())
}

impl Short {
    /// Our processor time per request as a share of the plain forwarder's, from as many pairs as `baseline` takes to
    /// decide; `None` when the machine is too busy.
    async fn ratio(&self, baseline: Option<&Baseline>) -> anyhow::Result<Option<Ratio>> {
        let case = CASES.iter().find(|case| case.name == CASE).context("the short form's case exists")?;
        let folder = tempfile::tempdir()?;
        let certificate = Certificate::generate(folder.path())?;
        let (mut ratios, mut disturbed) = (Vec::with_capacity(self.pairs), Vec::new());
        while disturbed.len() < DISTURBED {
            let pair = pair(*case, ratios.len(), folder.path(), &certificate).await?;
            if pair.others > f64::from(self.others) / 100.0 {
                disturbed.push(pair.others);
                continue;
            }
            ratios.push(pair.ratio);
            if ratios.len().is_multiple_of(LOOK) || ratios.len() >= self.pairs {
                let ratio = Ratio::of(ratios.clone())?;
                let verdict = baseline.map_or(Verdict::Likely, |baseline| baseline.verdict(&ratio));
                if self.is_enough(ratios.len(), verdict) {
                    return Ok(Some(ratio));
                }
            }
        }
        disturbed.sort_by(f64::total_cmp);
        eprintln!(
            "{CASE}: {DISTURBED} pairs were disturbed by others, who had {:.0} % of the processors; {} were not",
            disturbed[DISTURBED / 2] * 100.0,
            ratios.len()
        );
        Ok(None)
    }

    /// Whether so many pairs will do. Beside those asked for, only doubt is worth more.
    const fn is_enough(&self, pairs: usize, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Holds | Verdict::Worse => true,
            Verdict::Likely => pairs >= self.pairs,
            Verdict::Doubtful => pairs >= self.pairs * EXTENSION,
        }
    }
}

/// What a pair has shown.
struct Pair {
    /// Our processor time per request as a share of the plain forwarder's.
    ratio: f64,
    /// What others had of all processors meanwhile, from 0 to 1.
    others: f64,
}

/// One of each, started anew; who is measured first takes turns.
async fn pair(
    case: Case,
    number: usize,
    folder: &std::path::Path,
    certificate: &Certificate,
) -> anyhow::Result<Pair> {
    let watch = Watch::start()?;
    let (address, backend) = start_backend()?;
    let ours = subject::engine(address, folder, Launch::Plain).await?;
    let reference = subject::reference(address, folder, Launch::Plain).await?;
    let cost = async |subject: &Subject| {
        round::run(case, subject, &backend, certificate, WARM_UP).await?;
        let sample = round::run(case, subject, &backend, certificate, MEASURED).await?;
        anyhow::Ok(sample.microseconds_per_request)
    };
    let (our_cost, its_cost) = if number.is_multiple_of(2) {
        let our_cost = cost(&ours).await?;
        (our_cost, cost(&reference).await?)
    } else {
        let its_cost = cost(&reference).await?;
        (cost(&ours).await?, its_cost)
    };
    ensure!(its_cost > 0.0, "the kernel accounts no processor time to the forwarder");
    let own = [ours.processor_time(), reference.processor_time(), backend.processor_time()];
    Ok(Pair { ratio: our_cost / its_cost, others: watch.others(own.into_iter().sum())? })
}
