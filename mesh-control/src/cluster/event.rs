//! Events: what a user should see of an object, where `kubectl describe` shows it.

use kube::Client;
use serde_json::{Value, json};

use super::request::{MANAGER, Method, RequestError, send};

/// Whether something is amiss.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    Normal,
    Warning,
}

/// The object that an event is about.
#[derive(Debug)]
pub(super) struct About<'a> {
    /// Its `apiVersion`.
    pub(super) version: Value,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: Value,
}

/// Writes one event.
pub(super) async fn tell(
    client: &Client,
    about: &About<'_>,
    tone: Tone,
    reason: &str,
    message: &str,
) -> Result<(), RequestError> {
    let now = now();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}.", about.name), "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": about.version, "kind": about.kind, "namespace": about.namespace, "name": about.name,
            "uid": about.uid,
        },
        "type": match tone {
            Tone::Normal => "Normal",
            Tone::Warning => "Warning",
        },
        "reason": reason, "message": message, "count": 1,
        "source": {"component": MANAGER}, "reportingComponent": MANAGER, "firstTimestamp": now, "lastTimestamp": now,
    });
    let path = format!("/api/v1/namespaces/{}/events", about.namespace);
    send(client, Method::Create, &path, Some(&event)).await.map(drop)
}

/// RFC 3339, whole seconds, as the API server wants it.
pub(super) fn now() -> Value {
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).ok();
    now.and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}
