//! Bookinfo, as the examples ship it.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::answers::seen_header;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S27 one page, four services, one trace",
        given: &[],
        key: Key::Manifest("examples/bookinfo/gateway.yaml#VirtualService"),
        then: one_page,
    },
    Scenario {
        name: "Y5 jason gets v2, all others 90/10",
        given: &["examples/bookinfo/reviews-split.yaml#DestinationRule"],
        key: Key::Manifest("documents/05-virtualservice-header-and-weights.yaml"),
        then: by_header_then_by_weight,
    },
];

fn one_page(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let url = "http://bookinfo.example.com/productpage";
    mesh.eventually(|| mesh.ingress(url, &[]).answered_by("productpage"))?;
    // Without a split all three versions of reviews answer, and two of them call ratings.
    let pages = mesh.ingress(url, &["--repeat", "30"]);
    pages.none_failed()?;
    let page = pages.answers.iter().find(|answer| answer.body.pointer("/calls/1/answer/calls/0").is_some());
    let page = &page.context("no page shows ratings")?.body;

    let path = [
        ("", "productpage", "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"),
        ("/calls/0/answer", "details", "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"),
        ("/calls/1/answer", "reviews", "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"),
        (
            "/calls/1/answer/calls/0/answer",
            "ratings",
            "spiffe://cluster.local/ns/default/sa/bookinfo-reviews",
        ),
    ];
    let trace = trace(page).context("productpage saw no trace id")?;
    for (pointer, app, caller) in path {
        let report = page.pointer(pointer).with_context(|| format!("nothing at {pointer}"))?;
        ensure!(report["app"] == app, "{} answered instead of {app}", report["app"]);
        ensure!(report["caller"] == caller, "{app} was called by {} instead of {caller}", report["caller"]);
        ensure!(self::trace(report).as_ref() == Some(&trace), "{app} is in another trace");
    }
    Ok(())
}

fn by_header_then_by_weight(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let url = "http://reviews:9080/reviews";
    let common = ["--concurrency", "8", "--count-by", "x-echo-version"];
    let jason = [&[url, "-H", "end-user: jason", "--repeat", "60"], &common[..]].concat();
    mesh.eventually(|| mesh.get("productpage-v1", &jason).share("v2", 1.0, 0.0))?;
    let others = mesh.get("productpage-v1", &[&[url, "--repeat", "800"], &common[..]].concat());
    others.none_failed()?;
    others.share("v1", 0.9, 0.04)?;
    others.share("v3", 0.1, 0.04)
}

/// The trace that an application was called in, by W3C or B3.
fn trace(report: &Value) -> Option<String> {
    let w3c = seen_header(report, "traceparent").and_then(|value| value.split('-').nth(1).map(str::to_owned));
    w3c.or_else(|| seen_header(report, "x-b3-traceid"))
}
