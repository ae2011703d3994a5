//! What is on record of each call.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::scenario::{Given, Key, Scenario};

/// Time, method, path, code, latency, request size, response size, trace, source and destination.
const FIELDS: [&str; 10] = [
    "start_time",
    "method",
    "path",
    "response_code",
    "duration",
    "bytes_received",
    "bytes_sent",
    "trace_id",
    "source",
    "destination",
];

/// Goes on from run to run, because the log does.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S23 the access log has all ten fields",
    given: &[],
    key: Key::Manifest("mesh/json-access-log.yaml"),
    then: access_log,
}];

fn access_log(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| {
        // A path of its own, so that each look finds the line of its own request: not that of an earlier one, nor of
        // the run before.
        let path = format!("/on-record/{}/", ATTEMPT.fetch_add(1, Ordering::Relaxed));
        let url = format!("http://backend:8080{path}");
        mesh.get("frontend", &[&url, "-X", "POST", "-d", "12345"]).answered_by("backend")?;
        let log = mesh.eventually_in_log("frontend", &path)?;
        let record: Value = serde_json::from_str(&log).with_context(|| format!("not JSON: {log}"))?;
        for field in FIELDS {
            ensure!(record.get(field).is_some_and(|value| !value.is_null()), "no {field} in {record}");
        }
        ensure!(record["source"] == "frontend.default.svc", "source is {}", record["source"]);
        ensure!(record["destination"] == "backend.default.svc", "destination is {}", record["destination"]);
        ensure!(record["bytes_received"] == 5, "bytes_received is {}", record["bytes_received"]);
        Ok(())
    })
}
