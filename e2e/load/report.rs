//! What was measured, as text, JSON and a chart.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use crate::Measurement;

/// One stretch of load on one subject.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) microseconds_per_request: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_microseconds: u64,
    pub(crate) p99_microseconds: u64,
    pub(crate) p999_microseconds: u64,
    pub(crate) memory_bytes: u64,
    /// The share of a processor that the busier of backend and generator used.
    pub(crate) busiest_beside: f64,
}

/// Samples by case and subject, in the order in which they were first seen.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    version: u32,
    cases: Vec<CaseReport>,
}

#[derive(Debug, Serialize)]
struct CaseReport {
    case: &'static str,
    subjects: BTreeMap<String, Vec<Sample>>,
}

impl CaseReport {
    /// Whom all others are compared with.
    fn ours(&self) -> Option<&Vec<Sample>> {
        self.subjects.get("mesh").or_else(|| self.subjects.get("mesh-chain"))
    }
}

/// A middle and how far samples lie from it.
struct Spread {
    median: f64,
    /// Half the distance between the quartiles.
    half: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            half: (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / 2.0,
        }
    }
}

/// By linear interpolation.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list of a few samples"
)]
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = quantile * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

impl Report {
    pub(crate) fn add(&mut self, case: &'static str, subject: &str, sample: Sample) {
        self.version = 1;
        if self.cases.last().is_none_or(|last| last.case != case) {
            self.cases.push(CaseReport { case, subjects: BTreeMap::new() });
        }
        if let Some(last) = self.cases.last_mut() {
            last.subjects.entry(subject.to_owned()).or_default().push(sample);
        }
    }

    pub(crate) fn print(&self, measurement: &Measurement) -> anyhow::Result<()> {
        use std::io::Write as _;
        if let Some(file) = &measurement.svg {
            std::fs::write(file, self.svg()).with_context(|| format!("writing {}", file.display()))?;
        }
        let text =
            if measurement.output == "json" { serde_json::to_string_pretty(self)? } else { self.text() };
        writeln!(std::io::stdout(), "{text}").context("writing the report")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for case in &self.cases {
            let _ = writeln!(
                text,
                "{}\n  {:<22} {:>17} {:>14} {:>9} {:>9} {:>9} {:>9}",
                case.case,
                "subject",
                "µs CPU / request",
                "mesh / it",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "PSS MiB"
            );
            for (subject, samples) in &case.subjects {
                let _ = writeln!(text, "{}", self.line(case, subject, samples));
            }
        }
        text.push_str("Medians over rounds; ± is half the distance between the quartiles.");
        text
    }

    fn line(&self, case: &CaseReport, subject: &str, samples: &[Sample]) -> String {
        let cost = Spread::of(samples.iter().map(|sample| sample.microseconds_per_request));
        let ratio = case.ours().map(|mesh| {
            // Round by round: what disturbed a round disturbed both.
            let pairs = mesh.iter().zip(samples);
            Spread::of(pairs.map(|(ours, its)| ours.microseconds_per_request / its.microseconds_per_request))
        });
        let ratio =
            ratio.map_or_else(String::new, |ratio| format!("{:.2} ± {:.2}", ratio.median, ratio.half));
        #[expect(clippy::cast_precision_loss, reason = "microseconds and bytes are far below 2^52")]
        let median =
            |of: fn(&Sample) -> u64| Spread::of(samples.iter().map(|sample| of(sample) as f64)).median;
        format!(
            "  {subject:<22} {:>17} {ratio:>14} {:>9.0} {:>9.0} {:>9.0} {:>9.1}",
            format!("{:.1} ± {:.1}", cost.median, cost.half),
            median(|sample| sample.p50_microseconds),
            median(|sample| sample.p99_microseconds),
            median(|sample| sample.p999_microseconds),
            median(|sample| sample.memory_bytes) / 1024.0 / 1024.0,
        )
    }

    /// Bars of processor time per request, a group for each case, scaled to the longest of the group.
    fn svg(&self) -> String {
        let (mut body, mut y) = (String::new(), 20);
        for case in &self.cases {
            let _ = writeln!(body, r#"<text x="10" y="{y}" font-weight="bold">{}</text>"#, case.case);
            let cost = |samples: &[Sample]| {
                Spread::of(samples.iter().map(|sample| sample.microseconds_per_request)).median
            };
            let longest =
                case.subjects.values().map(|samples| cost(samples)).fold(f64::MIN_POSITIVE, f64::max);
            for (subject, samples) in &case.subjects {
                y += 18;
                let (cost, colour) =
                    (cost(samples), if subject.starts_with("mesh") { "#c2410c" } else { "#94a3b8" });
                let _ = writeln!(
                    body,
                    r#"<text x="10" y="{}">{subject}</text><rect x="90" y="{y}" width="{:.0}" height="14" fill="{colour}"/><text x="{:.0}" y="{}">{cost:.1} µs</text>"#,
                    y + 12,
                    cost / longest * 480.0,
                    96.0 + cost / longest * 480.0,
                    y + 12
                );
            }
            y += 40;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{y}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n{body}</svg>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_median_and_half_the_distance_of_the_quartiles() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0, 5.0].into_iter());
        assert_eq!((spread.median, spread.half), (3.0, 1.0));
        assert!(Spread::of(std::iter::empty()).median.is_nan());
    }
}
