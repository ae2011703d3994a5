//! What the clients of `mesh-echo` print, as types.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Output of `mesh-echo get`; `mesh-echo load` prints the same counts.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    /// Answers by status.
    #[serde(default)]
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) counts: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) answers: Vec<Answer>,
    /// Of `load`: counts by windows of 100 ms.
    #[serde(default)]
    pub(crate) timeline: Vec<BTreeMap<String, u64>>,
}

/// One answer; status 0 if there was none.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) error: Option<String>,
    pub(crate) protocol: String,
    /// Absent if there was no answer.
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) elapsed_ms: f64,
}

impl Summary {
    /// The only answer, or the last.
    pub(crate) fn answer(&self) -> Answer {
        self.answers.last().cloned().unwrap_or_default()
    }

    /// The answer, if it has status 200 and came from an application of this name.
    pub(crate) fn answered_by(&self, app: &str) -> anyhow::Result<Answer> {
        let answer = self.answer();
        ensure!(
            answer.status == 200,
            "status {} instead of 200: {:?} {}",
            answer.status,
            answer.error,
            answer.body
        );
        ensure!(answer.text("/app") == app, "{} answered instead of {app}", answer.text("/app"));
        Ok(answer)
    }

    /// Fails unless the last answer has this status.
    pub(crate) fn status(&self, status: u16) -> anyhow::Result<()> {
        let answer = self.answer();
        ensure!(answer.status == status, "status {} instead of {status}: {:?}", answer.status, answer.error);
        Ok(())
    }

    /// Fails unless every request was answered with a status below 500.
    pub(crate) fn none_failed(&self) -> anyhow::Result<()> {
        ensure!(self.ok == self.sent && self.sent > 0, "of {} requests failed: {:?}", self.sent, self.failed);
        Ok(())
    }

    /// Fails unless `share` of all answers were counted under `key`, give or take `tolerance`.
    pub(crate) fn share(&self, key: &str, share: f64, tolerance: f64) -> anyhow::Result<()> {
        let seen = share_of(&self.counts, key).context("nothing was counted")?;
        ensure!(
            (seen - share).abs() <= tolerance,
            "{key} has {seen:.3} instead of {share} ± {tolerance}: {:?}",
            self.counts
        );
        Ok(())
    }
}

impl Answer {
    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A text in the body; empty if it is not there.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A header as the application saw it.
    pub(crate) fn seen_header(&self, name: &str) -> Option<String> {
        seen_header(&self.body, name)
    }
}

/// A header in the report of an application.
pub(crate) fn seen_header(report: &Value, name: &str) -> Option<String> {
    let headers = report.get("headers")?.as_array()?;
    let header = headers.iter().find(|pair| pair[0].as_str() == Some(name))?;
    header[1].as_str().map(str::to_owned)
}

/// The share of `key` among counts; none if nothing was counted.
pub(crate) fn share_of(counts: &BTreeMap<String, u64>, key: &str) -> Option<f64> {
    let total: u64 = counts.values().sum();
    let part = counts.get(key).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
    (total > 0).then(|| part as f64 / total as f64)
}
