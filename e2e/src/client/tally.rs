//! Counts over many answers: statuses, failures by reason, and who answered.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::request::Answer;

/// What an answer is counted by: a header, or a place in its JSON body (`/calls/1/answer/version`).
pub(super) const COUNT_BY: &str = "x-echo-pod";

/// Counts; a key that never came up is absent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub sent: u64,
    /// Answers with a status below 500.
    pub ok: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// Everything that is not ok, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Answers by who sent them.
    pub counts: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one answer.
    pub(super) fn add(&mut self, answer: &Answer, count_by: &str) {
        self.sent += 1;
        if let Some(error) = &answer.error {
            *self.failed.entry(error.clone()).or_default() += 1;
            return;
        }
        *self.statuses.entry(answer.status).or_default() += 1;
        if answer.status < 500 {
            self.ok += 1;
        } else {
            *self.failed.entry(format!("status {}", answer.status)).or_default() += 1;
        }
        if let Some(key) = key(answer, count_by) {
            *self.counts.entry(key).or_default() += 1;
        }
    }
}

/// What this answer is counted as.
pub(super) fn key(answer: &Answer, count_by: &str) -> Option<String> {
    if count_by.starts_with('/') {
        return match answer.body.pointer(count_by)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
    }
    answer
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(count_by))
        .map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer {
            status,
            headers: vec![("x-echo-pod".into(), "a-1".into())],
            body: serde_json::json!({"calls": [{"answer": {"version": "v2"}}]}),
            ..Answer::default()
        }
    }

    #[test]
    fn answers_count_by_header_or_by_place_in_the_body() {
        assert_eq!(key(&answer(200), COUNT_BY).as_deref(), Some("a-1"));
        assert_eq!(key(&answer(200), "/calls/0/answer/version").as_deref(), Some("v2"));
        assert_eq!(key(&answer(200), "/calls/1/answer/version"), None);
    }

    #[test]
    fn a_server_error_and_a_missing_answer_are_failures() {
        let mut tally = Tally::default();
        tally.add(&answer(404), COUNT_BY);
        tally.add(&answer(503), COUNT_BY);
        tally.add(&Answer { error: Some("timeout".into()), ..Answer::default() }, COUNT_BY);
        assert_eq!((tally.sent, tally.ok), (3, 1));
        assert_eq!(tally.failed, BTreeMap::from([("status 503".into(), 1), ("timeout".into(), 1)]));
        assert_eq!(tally.counts["a-1"], 2);
    }
}
