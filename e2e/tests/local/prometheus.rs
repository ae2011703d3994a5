//! A real Prometheus that collects from the proxies.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::dashboards;
use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};

const REQUESTS: u64 = 30;
/// A status that nothing else in these tests asks for: it tells this scenario's requests from all others.
const STATUS: u16 = 207;

const SCRAPED: Key =
    Key::Instead { with: "mesh/prometheus-scrape.yaml", without: "mesh/prometheus-idle.yaml" };

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S19 Prometheus has both reports of each call",
        given: &["mesh/prometheus.yaml"],
        key: SCRAPED,
        then: both_reports,
    },
    Scenario {
        name: "S19 every query of Istio's dashboards returns series",
        given: &["mesh/prometheus.yaml"],
        key: SCRAPED,
        then: dashboards::return_series,
    },
    Scenario {
        name: "S24 every query of Kiali's graph returns series",
        given: &["mesh/prometheus.yaml"],
        key: SCRAPED,
        then: dashboards::graph_is_drawn,
    },
    Scenario {
        name: "Telemetry changes the labels of one metric and leaves the others",
        given: &["mesh/prometheus.yaml", "mesh/prometheus-scrape.yaml"],
        key: Key::Manifest("mesh/telemetry-metrics.yaml"),
        then: dashboards::own_labels,
    },
];

/// The scenarios; none, loudly, where there is no Prometheus, unless `MESH_REQUIRE` names it.
pub(crate) fn scenarios() -> &'static [Scenario] {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| Path::new(&folder).join("prometheus").is_file()) {
        return SCENARIOS;
    }
    let required = std::env::var("MESH_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|need| need == "prometheus"), "there is no prometheus in PATH");
    // Written past the test harness, which hides the output of tests that pass.
    let _ = std::io::stderr().write_all(b"\n*** SKIPPED: S19, there is no prometheus in PATH ***\n");
    &[]
}

/// All of them, for checks that need no Prometheus.
pub(crate) fn all() -> &'static [Scenario] {
    SCENARIOS
}

fn both_reports(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let before = [counted(mesh, "source"), counted(mesh, "destination")].map(Result::unwrap_or_default);
    let url = format!("http://backend:8080/?status={STATUS}");
    let calls = mesh.get("frontend", &[&url, "--repeat", &REQUESTS.to_string()]);
    calls.none_failed()?;
    calls.status(STATUS)?;
    mesh.eventually(|| {
        for (reporter, before) in ["source", "destination"].into_iter().zip(before) {
            let count = counted(mesh, reporter)? - before;
            ensure!(count == REQUESTS, "Prometheus has {count} of {REQUESTS} calls by reporter {reporter}");
        }
        Ok(())
    })
}

/// What a query returns: the series of an instant vector.
pub(crate) fn series(mesh: &Mesh, query: &str) -> anyhow::Result<Vec<Value>> {
    let url = format!("http://127.0.0.1:9090/api/v1/query?query={}", percent_encoded(query));
    let answer = mesh.get("prometheus", &[&url]).answer();
    ensure!(answer.status == 200, "{query}: status {}: {:?} {}", answer.status, answer.error, answer.body);
    Ok(answer.body.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// The calls from frontend to backend that Prometheus knows of, by one of the two reporters.
fn counted(mesh: &Mesh, reporter: &str) -> anyhow::Result<u64> {
    let query = format!(
        r#"sum(istio_requests_total{{reporter="{reporter}",source_workload="frontend",destination_workload="backend",response_code="{STATUS}"}})"#
    );
    let series = series(mesh, &query)?;
    let value = series.first().and_then(|series| series.pointer("/value/1")).and_then(Value::as_str);
    Ok(value.with_context(|| format!("no series for {query}"))?.parse()?)
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
