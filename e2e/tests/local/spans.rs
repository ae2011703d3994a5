//! Spans, as an OTLP receiver gets them from the proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};

/// Both ends of every call of one page, as `SERVICE KIND`.
const PAGE: [&str; 7] = [
    "istio-ingressgateway.istio-system SPAN_KIND_CLIENT",
    "productpage.default SPAN_KIND_SERVER",
    "productpage.default SPAN_KIND_CLIENT",
    "details.default SPAN_KIND_SERVER",
    "reviews.default SPAN_KIND_SERVER",
    "reviews.default SPAN_KIND_CLIENT",
    "ratings.default SPAN_KIND_SERVER",
];

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S19 an OTLP receiver gets the spans of both ends of each call, in one trace",
        given: &["examples/bookinfo/gateway.yaml#VirtualService", "mesh/otlp.yaml"],
        key: Key::Manifest("mesh/otlp-tracing.yaml"),
        then: one_trace,
    },
    Scenario {
        name: "S19 a trace that began in B3 headers goes on",
        given: &["examples/bookinfo/gateway.yaml#VirtualService", "mesh/otlp.yaml"],
        key: Key::Manifest("mesh/otlp-tracing.yaml"),
        then: begun_in_b3,
    },
    Scenario {
        name: "S08 one request at the gateway gives one line, one count and one span, in the upstream's trace",
        given: &["examples/bookinfo/gateway.yaml#VirtualService", "mesh/otlp.yaml"],
        key: Key::Manifest("mesh/gateway-records.yaml"),
        then: recorded_once,
    },
];

/// Goes on from run to run, because the log does.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Span {
    service: String,
    trace: String,
    span: String,
    parent: String,
    kind: String,
    start: u64,
}

fn one_trace(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, begin) = (given.mesh, SystemTime::now());
    let url = "http://bookinfo.example.com/productpage";
    mesh.eventually(|| mesh.ingress(url, &[]).answered_by("productpage"))?;
    mesh.eventually(|| {
        // Two of three versions of reviews call ratings, so that some of these pages have all services.
        mesh.ingress(url, &["--repeat", "6"]).none_failed()?;
        let traces = traces(mesh, begin)?;
        let complete = traces.values().find(|spans| covers_page(spans));
        let spans = complete.with_context(|| format!("no trace of a whole page: {:?}", sides(&traces)))?;
        hangs_together(spans)
    })
}

fn begun_in_b3(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, begin) = (given.mesh, SystemTime::now());
    let url = "http://bookinfo.example.com/productpage";
    mesh.eventually(|| mesh.ingress(url, &[]).answered_by("productpage"))?;
    mesh.eventually(|| {
        let trace = format!("{:032x}", begin.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos());
        let [id, span] = [format!("x-b3-traceid: {trace}"), "x-b3-spanid: 00000000000000ab".to_owned()];
        let b3 = ["-H", &id, "-H", &span, "-H", "x-b3-sampled: 1"];
        mesh.ingress(url, &b3).answered_by("productpage")?;
        let traces = traces(mesh, begin)?;
        let spans = traces.get(&trace).context("no span is in the client's trace")?;
        let of_gateway = spans.iter().find(|span| span.service.starts_with("istio-ingressgateway."));
        let of_gateway = of_gateway.context("the gateway has no span in the client's trace")?;
        ensure!(of_gateway.parent == "00000000000000ab", "its parent is {}", of_gateway.parent);
        ensure!(sides_of(spans).contains(PAGE[1]), "the upstream has no span in it: {spans:?}");
        Ok(())
    })
}

/// The three kinds of record that the gateway makes of one request.
fn recorded_once(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, begin) = (given.mesh, SystemTime::now());
    let host = "http://bookinfo.example.com";
    mesh.eventually(|| mesh.ingress(&format!("{host}/productpage"), &[]).answered_by("productpage"))?;
    mesh.eventually(|| {
        // A query of its own, by which each look finds the line of its own request.
        let query = format!("on-record={}&", ATTEMPT.fetch_add(1, Ordering::Relaxed));
        let before = gateway_count(mesh)?;
        mesh.ingress(&format!("{host}/productpage?{query}access_token=sesame"), &[])
            .answered_by("productpage")?;
        let lines = mesh.ingress_log(&query)?;
        ensure!(lines.len() == 1, "{} lines for one request: {lines:?}", lines.len());
        ensure!(!lines[0].contains("sesame"), "the token is on record: {}", lines[0]);
        let count = gateway_count(mesh)? - before;
        ensure!(count == 1, "one request was counted {count} times");

        let record: Value =
            serde_json::from_str(&lines[0]).with_context(|| format!("not JSON: {}", lines[0]))?;
        ensure!(record["team"] == "web", "the log has not the user's labels: {record}");
        let traces = traces(mesh, begin)?;
        let spans = traces.get(record["trace"].as_str().unwrap_or_default());
        let spans = spans.with_context(|| format!("no spans of the trace on record: {record}"))?;
        let of_gateway = spans.iter().filter(|span| span.service.starts_with("istio-ingressgateway."));
        ensure!(of_gateway.count() == 1, "not one span of the gateway: {spans:?}");
        ensure!(sides_of(spans).contains(PAGE[1]), "the upstream has no span in this trace: {spans:?}");
        hangs_together(spans)
    })
}

/// Requests for `productpage` that the gateway has counted.
fn gateway_count(mesh: &Mesh) -> anyhow::Result<u64> {
    let metrics = mesh.ingress_metrics("otlp");
    ensure!(metrics.contains("mesh_control_connected"), "no metrics of the gateway");
    let ours = |line: &&str| {
        line.starts_with("istio_requests_total{")
            && line.contains(r#"destination_service_name="productpage""#)
    };
    let counts = metrics.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// What the receiver has, by trace. Spans from before `begin` belong to another run: proxies send theirs late.
pub(crate) fn traces(mesh: &Mesh, begin: SystemTime) -> anyhow::Result<BTreeMap<String, Vec<Span>>> {
    let begin = begin.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let answer = mesh.get("otlp", &["http://127.0.0.1:4318/spans"]).answer();
    ensure!(answer.status == 200, "status {}: {:?}", answer.status, answer.error);
    let mut traces = BTreeMap::<_, Vec<_>>::new();
    let spans = serde_json::from_value::<Vec<Span>>(answer.body)?;
    for span in spans.into_iter().filter(|span| u128::from(span.start) >= begin) {
        traces.entry(span.trace.clone()).or_default().push(span);
    }
    Ok(traces)
}

fn covers_page(spans: &[Span]) -> bool {
    let sides = sides_of(spans);
    PAGE.iter().all(|side| sides.contains(*side))
}

/// Every span but the first names another one of its trace as its parent.
fn hangs_together(spans: &[Span]) -> anyhow::Result<()> {
    let known: BTreeSet<_> = spans.iter().map(|span| &span.span).collect();
    let roots: Vec<_> = spans.iter().filter(|span| !known.contains(&span.parent)).collect();
    ensure!(
        matches!(&roots[..], [root] if root.service.starts_with("istio-ingressgateway.")),
        "only the gateway's span should have no parent in the trace: {roots:?} of {spans:?}"
    );
    Ok(())
}

fn sides(traces: &BTreeMap<String, Vec<Span>>) -> Vec<BTreeSet<String>> {
    traces.values().map(|spans| sides_of(spans)).collect()
}

pub(crate) fn sides_of(spans: &[Span]) -> BTreeSet<String> {
    spans.iter().map(|span| format!("{} {}", span.service, span.kind)).collect()
}
