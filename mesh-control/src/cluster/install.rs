//! Puts the manifests of an installation into a cluster, and waits until they work.
//!
//! Definitions of foreign kinds are created where they are missing and otherwise left alone: they may be another mesh's. Ours are
//! applied on the server's side, so that what others own of an object stays theirs. Nothing is written at all if an object of
//! one of our names is somebody else's.

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::objects::{collection, is_ours, path, text, title};
use super::request::{Method, RequestError, send};
use crate::crd;

/// How often it is looked whether a Deployment is available.
const LOOK: Duration = Duration::from_secs(1);
/// How long a definition may take until its kind can be created.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// Why an installation, or a removal, has stopped.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A request failed.
    #[error("{0}")]
    Request(String, #[source] RequestError),
    /// Objects of our names that do not carry our label.
    #[error("{} in the cluster and not this mesh's (no label app.kubernetes.io/part-of=mesh): nothing was changed; remove them first", .0.join(", "))]
    Foreign(Vec<String>),
    /// Not everything works in time.
    #[error("not ready in time: {}", .0.join("; "))]
    Late(Vec<String>),
}

impl InstallError {
    /// Whether there is nobody to talk to, so that trying again elsewhere may help.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Request(_, error) => error.code().is_none(),
            Self::Foreign(_) | Self::Late(_) => false,
        }
    }
}

/// Creates or brings up to date everything, telling of each step.
///
/// # Errors
/// When the API server refuses something, or something is not ours to change.
pub async fn apply(client: &Client, objects: Vec<Value>, tell: &dyn Fn(String)) -> Result<(), InstallError> {
    let mut objects = missing_or_ours(client, objects, tell).await?;
    objects.sort_by_key(rank);
    for object in &objects {
        let foreign = text(object, "/kind") == "CustomResourceDefinition" && !crd::is_own(object);
        if foreign {
            send(client, Method::Create, &collection(object), Some(object)).await
        } else {
            send(client, Method::Install, &path(object), Some(object)).await
        }
        .map_err(|error| InstallError::Request(title(object), error))?;
        tell(format!("{} applied", title(object)));
    }
    for definition in objects.iter().filter(|object| text(object, "/kind") == "CustomResourceDefinition") {
        wait_for(client, std::slice::from_ref(definition), Instant::now() + ESTABLISHED).await?;
    }
    Ok(())
}

/// Waits until every Deployment among the objects is available and every webhook knows whom to trust.
///
/// # Errors
/// When that is not so at the deadline: what is missing, and why as far as the cluster says.
pub async fn wait(
    client: &Client,
    objects: &[Value],
    patience: Duration,
    tell: &dyn Fn(String),
) -> Result<(), InstallError> {
    let deadline = Instant::now() + patience;
    let is_awaited = |object: &&Value| {
        text(object, "/kind") == "Deployment" || text(object, "/kind").ends_with("WebhookConfiguration")
    };
    for object in objects.iter().filter(is_awaited) {
        tell(format!("waiting for {}", title(object)));
        wait_for(client, std::slice::from_ref(object), deadline).await?;
    }
    Ok(())
}

async fn wait_for(client: &Client, objects: &[Value], deadline: Instant) -> Result<(), InstallError> {
    loop {
        let mut late = Vec::new();
        for object in objects {
            let reason = match send(client, Method::Get, &path(object), None).await {
                Ok(found) => lacks(&found),
                // The API server may be away for a moment; the deadline holds all the same.
                Err(error) => Some(error.to_string()),
            };
            late.extend(reason.map(|reason| format!("{}: {reason}", title(object))));
        }
        if late.is_empty() {
            return Ok(());
        }
        if Instant::now() + LOOK > deadline {
            return Err(InstallError::Late(late));
        }
        sleep(LOOK).await;
    }
}

/// What an object lacks to do its work.
fn lacks(object: &Value) -> Option<String> {
    match text(object, "/kind") {
        "Deployment" => deployment(object),
        "CustomResourceDefinition" => {
            (!condition(object, "Established")).then(|| "not established".to_owned())
        }
        _ => {
            let all = object["webhooks"].as_array().into_iter().flatten();
            let untrusted = all.filter(|webhook| text(webhook, "/clientConfig/caBundle").is_empty()).count();
            (untrusted > 0).then(|| "the control plane has not written its caBundle".to_owned())
        }
    }
}

fn deployment(object: &Value) -> Option<String> {
    let number = |place: &str| object.pointer(place).and_then(Value::as_u64).unwrap_or_default();
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Some("the cluster has not looked at it yet".to_owned());
    }
    let available = number("/status/availableReplicas").min(number("/status/updatedReplicas"));
    if available < wanted {
        return Some(format!("{available} of {wanted} replicas are available"));
    }
    // An old control plane would go on injecting old proxies.
    let old = number("/status/replicas").saturating_sub(number("/status/updatedReplicas"));
    (old > 0).then(|| format!("{old} replicas of the version before still run"))
}

fn condition(object: &Value, name: &str) -> bool {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    all.is_some_and(|all| all.iter().any(|one| one["type"] == name && one["status"] == "True"))
}

/// Definitions first and webhooks last: nothing is asked of a control plane that is not there.
fn rank(object: &Value) -> u8 {
    match text(object, "/kind") {
        "CustomResourceDefinition" => 0,
        "Namespace" => 1,
        kind if kind.ends_with("WebhookConfiguration") => 3,
        _ => 2,
    }
}

/// What is to be written: all but foreign definitions that are there, and namespaces that somebody else has made.
async fn missing_or_ours(
    client: &Client,
    objects: Vec<Value>,
    tell: &dyn Fn(String),
) -> Result<Vec<Value>, InstallError> {
    let (mut writable, mut foreign) = (Vec::new(), Vec::new());
    for object in objects {
        let title = title(&object);
        let found = match send(client, Method::Get, &path(&object), None).await {
            Ok(found) => Some(found),
            Err(error) if error.code() == Some(404) => None,
            Err(error) => return Err(InstallError::Request(title, error)),
        };
        let kind = text(&object, "/kind");
        match found {
            Some(_) if kind == "CustomResourceDefinition" && !crd::is_own(&object) => {
                tell(format!("{title} is there already and stays as it is"));
            }
            Some(found) if !is_ours(&found) && kind == "Namespace" => {
                tell(format!("{title} is there already and stays as it is"));
            }
            Some(found) if !is_ours(&found) => foreign.push(title),
            _ => writable.push(object),
        }
    }
    if foreign.is_empty() { Ok(writable) } else { Err(InstallError::Foreign(foreign)) }
}
