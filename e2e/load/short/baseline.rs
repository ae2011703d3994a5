//! The ratio that was committed, and what a new one may be.

use std::fmt;

use anyhow::{Context as _, ensure};

/// The most that a ratio may be above its baseline, however wide its interval is.
const MOST: f64 = 0.05;
const COMMITTED: &str = include_str!("baseline.txt");
/// How a file of them begins.
pub(super) const HEADING: &str = "# Case, median ratio and the ends of its 95 % interval, of profile `measure`; by `mesh-bench short --bless`.\n";
/// Fewer say nothing about their median: the 95 % interval of six reaches from the least to the greatest.
const FEWEST: usize = 6;
/// The profile of `Cargo.toml` that committed figures are of.
const PROFILE: &str = "measure";

/// Why figures of this program are not compared.
pub(crate) const OTHER_BUILD: &str = "not compared: the baseline is of `cargo build --profile measure`";

pub(super) const ADVICE: &str = "\
Where it goes:  mesh-bench instructions --only engine-h1 --profiles FOLDER; callgrind_annotate FOLDER/engine-h1
Right as it is: mesh-bench short --pairs 100 --bless e2e/load/short/baseline.txt, with the reason in the commit";

/// Whether this program was built as the one whose figures are committed: those of other profiles differ.
pub(crate) fn built_alike() -> bool {
    let program = std::env::current_exe().ok();
    program.and_then(|file| Some(file.parent()?.file_name()? == PROFILE)).unwrap_or(false)
}

/// The median of pairs, and the interval in which it is with 95 % certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    pub(super) fn of(mut pairs: Vec<f64>) -> anyhow::Result<Self> {
        ensure!(pairs.len() >= FEWEST, "at least {FEWEST} pairs are needed");
        pairs.sort_by(f64::total_cmp);
        let (middle, edge) = (pairs.len() / 2, edge(pairs.len()));
        let median = if pairs.len().is_multiple_of(2) {
            f64::midpoint(pairs[middle - 1], pairs[middle])
        } else {
            pairs[middle]
        };
        Ok(Self { median, low: pairs[edge], high: pairs[pairs.len() - 1 - edge] })
    }

    /// As it is committed.
    pub(super) fn line(&self, case: &str) -> String {
        format!("{case} {:.4} {:.4} {:.4}\n", self.median, self.low, self.high)
    }

    fn parse(line: &str) -> anyhow::Result<(&str, Self)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [case, median, low, high] = fields[..] else {
            anyhow::bail!("a line is a case, a median, and the ends of its interval: {line:?}");
        };
        Ok((case, Self { median: median.parse()?, low: low.parse()?, high: high.parse()? }))
    }

    /// Half of the interval's width, as a share of the median.
    fn uncertainty(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.low, self.high)
    }
}

/// The rank of the interval's lower end, from zero, by the normal approximation of the binomial distribution.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of pairs, and at least as many as make this positive"
)]
fn edge(count: usize) -> usize {
    let count = count as f64;
    ((count - 1.96 * count.sqrt()) / 2.0).max(0.0) as usize
}

/// What was committed.
pub(super) struct Baseline {
    case: &'static str,
    ratio: Ratio,
}

impl Baseline {
    pub(super) fn committed(case: &'static str) -> anyhow::Result<Self> {
        let lines = COMMITTED.lines().filter(|line| !line.starts_with('#')).map(Ratio::parse);
        let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
        let found = lines.into_iter().find(|(name, _)| *name == case);
        let (_, ratio) = found.with_context(|| format!("no baseline of {case}"))?;
        Ok(Self { case, ratio })
    }

    /// The most that a ratio may be: the committed one and half of its 95 % interval, at most 5 % more.
    fn allowed(&self) -> f64 {
        self.ratio.median * (1.0 + self.ratio.uncertainty().min(MOST))
    }

    /// What a ratio shows.
    pub(super) fn verdict(&self, now: &Ratio) -> Verdict {
        let allowed = self.allowed();
        if now.low > allowed {
            Verdict::Worse
        } else if now.high <= allowed {
            Verdict::Holds
        } else if now.median <= allowed {
            Verdict::Likely
        } else {
            Verdict::Doubtful
        }
    }

    /// The same in words.
    pub(super) fn says(&self, now: &Ratio) -> String {
        let found = match self.verdict(now) {
            Verdict::Worse => "worse",
            Verdict::Holds => "it holds",
            Verdict::Likely => "not worse, as far as so many pairs can tell",
            Verdict::Doubtful => "PERHAPS WORSE, and so many pairs cannot tell",
        };
        format!(
            "{}: {now} of the plain forwarder's; the baseline is {}, and up to {:.3} is allowed: {found}",
            self.case,
            self.ratio,
            self.allowed()
        )
    }
}

/// What a measurement says of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole interval lies within what is allowed.
    Holds,
    /// The median does, the whole interval does not.
    Likely,
    /// The median lies above it, the whole interval does not.
    Doubtful,
    /// The whole interval lies above it.
    Worse,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(median: f64, half: f64) -> Ratio {
        Ratio { median, low: median - half, high: median + half }
    }

    #[test]
    fn the_interval_of_forty_pairs_reaches_from_the_fourteenth_to_the_twenty_seventh() {
        let of = Ratio::of((1..=40).rev().map(f64::from).collect()).unwrap();
        assert_eq!(of, Ratio { median: 20.5, low: 14.0, high: 27.0 });
        assert!(Ratio::of(vec![1.0; 5]).is_err());
    }

    #[test]
    fn only_an_interval_that_lies_above_what_is_allowed_is_worse() {
        let verdict = |baseline, now: Ratio| Baseline { case: "case", ratio: baseline }.verdict(&now);
        let narrow = ratio(1.0, 0.02);
        assert_eq!(verdict(narrow, ratio(1.0, 0.01)), Verdict::Holds);
        assert_eq!(verdict(narrow, ratio(1.01, 0.02)), Verdict::Likely);
        assert_eq!(verdict(narrow, ratio(1.03, 0.02)), Verdict::Doubtful);
        assert_eq!(verdict(narrow, ratio(1.05, 0.02)), Verdict::Worse);
        assert_eq!(verdict(narrow, ratio(0.5, 0.02)), Verdict::Holds);
        assert_eq!(verdict(ratio(1.0, 0.2), ratio(1.07, 0.01)), Verdict::Worse, "5 % are allowed at most");
    }

    #[test]
    fn what_is_written_is_read() {
        let ratio = ratio(1.25, 0.25);
        assert_eq!(Ratio::parse(ratio.line("case").trim_end()).unwrap(), ("case", ratio));
    }
}
