//! Changing objects, and waiting until pods and proxies are as they say.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::control_plane;
use super::mesh::Mesh;
use super::reconcile;
use crate::local::channel::Sender;
use crate::local::protocol::{Change, Event, FailureKind, Reply};

/// Makes a change to the objects; with `wait`, returns when it is in effect or the time is over.
pub(super) async fn change(
    mesh: &Rc<Mesh>,
    wait: Option<Duration>,
    sender: &Sender,
    make: impl FnOnce() -> anyhow::Result<Vec<Change>>,
) -> anyhow::Result<Reply> {
    let before = if wait.is_some() { control_plane::status().await } else { Value::Null };
    let changes = make()?;
    let Some(wait) = wait else { return Ok(Reply::Changes(changes)) };
    reconcile::settle(mesh).await;
    let begun = Instant::now();
    while let Some(waiting) = unsettled(mesh).await {
        if begun.elapsed() > wait {
            return Ok(finding(format!("changed, but not everywhere after {wait:?}: {waiting}")));
        }
        reconcile::next_look(mesh).await;
    }
    let known = refusals(&before);
    let refused = refusals(&control_plane::status().await);
    if let Some(refusal) = refused.difference(&known).next() {
        return Ok(finding(format!("changed, but refused by {refusal}")));
    }
    let subject = "pods and proxies".to_owned();
    sender.send(&Reply::Progress(Event::Ready { subject, after: begun.elapsed() })).await?;
    Ok(Reply::Changes(changes))
}

fn finding(message: String) -> Reply {
    Reply::Failed { kind: FailureKind::Finding, message }
}

/// What is not yet as the objects say: pods first, then the control plane, then proxies.
pub(super) async fn unsettled(mesh: &Mesh) -> Option<String> {
    let pods: Vec<_> = mesh.pods.borrow().values().cloned().collect();
    if let Some(pod) = pods.iter().find(|pod| !pod.is_ready() && !pod.is_finished()) {
        return Some(format!("{}/{}: {}", pod.place.namespace, pod.place.name, pod.trouble()));
    }
    let control = control_plane::status().await;
    if control.is_null() {
        return Some("the control plane does not answer".to_owned());
    }
    let number = |name: &str| control.get(name).and_then(Value::as_u64);
    if number("revision") < Some(mesh.store.borrow().revision()) {
        return Some("the control plane has not read it yet".to_owned());
    }
    let current = |proxy: &&Value| {
        let acknowledged = proxy.get("acked").and_then(Value::as_u64);
        proxy.get("in_sync").and_then(Value::as_bool) == Some(true) && acknowledged >= number("generation")
    };
    let stale = proxies(&control).find(|proxy| !current(proxy))?;
    Some(format!("the proxy {} has not acknowledged", name(stale)))
}

fn proxies(control: &Value) -> impl Iterator<Item = &Value> {
    control.get("proxies").and_then(Value::as_array).into_iter().flatten()
}

fn name(proxy: &Value) -> &str {
    proxy.get("name").and_then(Value::as_str).unwrap_or("?")
}

/// `PROXY: resource: reason` of everything that proxies do not take.
fn refusals(control: &Value) -> BTreeSet<String> {
    let of_proxy = |proxy: &Value| {
        let refused =
            proxy.get("refused").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        refused.map(|refusal| format!("{}: {refusal}", name(proxy))).collect::<Vec<_>>()
    };
    proxies(control).flat_map(of_proxy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_proxy_and_the_resource() {
        let status = serde_json::json!({"proxies": [
            {"name": "a.default", "in_sync": true, "refused": ["routes/80: bad regex"]}, {"name": "b.default"}
        ]});
        let refusals: Vec<String> = refusals(&status).into_iter().collect();
        assert_eq!(refusals, ["a.default: routes/80: bad regex"]);
    }
}
