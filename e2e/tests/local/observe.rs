//! What is on record of each call.

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

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S23 the access log has all ten fields",
    given: &[],
    key: Key::Manifest("mesh/json-access-log.yaml"),
    then: access_log,
}];

fn access_log(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let mut attempt = 0;
    mesh.eventually(|| {
        // A path of its own, so that each look finds the line of its own request.
        attempt += 1;
        let path = format!("/on-record/{}/{attempt}", std::process::id());
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
