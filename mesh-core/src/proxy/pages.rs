//! The pages of a proxy's admin, health and metrics servers.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::daemon::{Admin, Page};
use crate::model::Resource;

/// Loopback only.
pub(super) fn admin(shared: &Shared, stop: CancellationToken) -> Admin {
    let (ready, config, scrape) = (shared.clone(), shared.clone(), shared.clone());
    Admin::default()
        .get("/live", |_| Page::text("ok\n"))
        .get("/ready", move |_| Page::probe(ready.ready()))
        .get("/config", move |_| Page::json(&held(&config)))
        .get("/stats/prometheus", move |_| exposition(&scrape))
        .post("/drain", move |_| {
            stop.cancel();
            Page::text("draining\n")
        })
}

pub(super) fn health(shared: &Shared) -> Admin {
    let ready = shared.clone();
    Admin::default().get("/healthz/ready", move |_| Page::probe(ready.ready()))
}

pub(super) fn metrics(shared: &Shared) -> Admin {
    let (scrape, plain) = (shared.clone(), shared.clone());
    Admin::default()
        .get("/stats/prometheus", move |_| exposition(&scrape))
        .get("/metrics", move |_| exposition(&plain))
}

fn exposition(shared: &Shared) -> Page {
    match shared.metrics.expose() {
        Ok(text) => Page::open_metrics(text),
        Err(error) => Page { status: 500, ..Page::text(format!("{error}\n")) },
    }
}

/// What the proxy holds, as it travelled, without keys.
fn held(shared: &Shared) -> Value {
    let held = shared.held.load();
    let resources: Vec<Value> = held.iter().map(|(_, resource)| masked(resource)).collect();
    let absent: Vec<String> = held.absent().iter().map(ToString::to_string).collect();
    json!({
        "identity": shared.tls.identity(),
        "ready": shared.ready().err().unwrap_or_else(|| "ready".to_owned()),
        "resources": resources,
        "absent": absent,
    })
}

fn masked(resource: &Resource) -> Value {
    let mut value = serde_json::to_value(resource).unwrap_or_default();
    if let Some(key) = value.pointer_mut("/secret/privateKey") {
        *key = json!("(not shown)");
    }
    // Keys of token issuers are public, unless they are secrets shared with us.
    let rules = value.pointer_mut("/own/tokens").and_then(Value::as_array_mut);
    for keys in rules.into_iter().flatten().filter_map(|rule| rule.get_mut("keys")) {
        if keys.as_str().is_some_and(|keys| keys.contains("\"oct\"")) {
            *keys = json!("(not shown)");
        }
    }
    value
}
