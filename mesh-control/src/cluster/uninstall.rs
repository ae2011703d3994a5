//! Takes an installation out of a cluster again: everything of ours, and nothing of anybody else's.
//!
//! What is ours has one of our names and our label. Webhooks go first, so that no pod waits for a control plane that is gone;
//! then its rights, so that it writes nothing more. What would take users' objects with it stays, and is told: a namespace that
//! holds something of theirs, our definition while there are objects of it, and all definitions of foreign groups.

use std::collections::BTreeSet;

use kube::Client;
use serde_json::{Value, json};

use super::install::InstallError;
use super::objects::{PART_OF, is_ours, path, text, title};
use super::request::{Method, RequestError, send};
use super::roots;
use crate::crd;

/// What became of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Objects that were deleted.
    pub deleted: Vec<String>,
    /// What stays, and why.
    pub kept: Vec<String>,
}

/// Deletes what an installation of these manifests has created, and what its control plane has.
///
/// # Errors
/// When the API server refuses something; what was deleted by then stays deleted, and it can be tried again.
pub async fn remove(
    client: &Client,
    objects: Vec<Value>,
    tell: &dyn Fn(String),
) -> Result<Removed, InstallError> {
    let mut removed = Removed::default();
    let (last, mut objects): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .partition(|object| matches!(text(object, "/kind"), "Namespace" | "CustomResourceDefinition"));
    objects.sort_by_key(rank);
    objects.extend(written_by_the_control_plane());
    objects.extend(root_certificates(client).await?);
    for object in &objects {
        delete_ours(client, object, &mut removed, tell).await?;
    }
    for object in &last {
        match kept_for(client, object).await? {
            Some(reason) => removed.kept.push(format!("{}: {reason}", title(object))),
            None => delete_ours(client, object, &mut removed, tell).await?,
        }
    }
    Ok(removed)
}

fn rank(object: &Value) -> u8 {
    match text(object, "/kind") {
        kind if kind.ends_with("WebhookConfiguration") => 0,
        "ClusterRoleBinding" | "RoleBinding" => 1,
        _ => 2,
    }
}

/// A Secret that users have supplied carries no label of ours, and stays.
fn written_by_the_control_plane() -> [Value; 2] {
    let object = |version: &str, kind: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "mesh-system"}});
    [
        object("v1", "Secret", super::authority::SECRET),
        object("coordination.k8s.io/v1", "Lease", super::leader::LEASE),
    ]
}

async fn root_certificates(client: &Client) -> Result<Vec<Value>, InstallError> {
    let path = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}&limit=100000", roots::CONFIG_MAP);
    let found = ask(client, Method::Get, &path).await?;
    let whole = |item: &Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": item["metadata"]});
    Ok(items(&found.unwrap_or_default()).map(whole).collect())
}

async fn delete_ours(
    client: &Client,
    object: &Value,
    removed: &mut Removed,
    tell: &dyn Fn(String),
) -> Result<(), InstallError> {
    let (path, title) = (path(object), title(object));
    let Some(found) = ask(client, Method::Get, &path).await? else { return Ok(()) };
    let is_lease = text(object, "/kind") == "Lease";
    if !is_ours(&found) && !is_lease {
        removed.kept.push(format!("{title}: it does not carry our label"));
    } else if found["metadata"]["deletionTimestamp"].is_null() {
        ask(client, Method::Delete, &path).await?;
        tell(format!("{title} deleted"));
        removed.deleted.push(title);
    }
    Ok(())
}

/// Why a namespace or definition has to stay.
async fn kept_for(client: &Client, object: &Value) -> Result<Option<String>, InstallError> {
    let Some(found) = ask(client, Method::Get, &path(object)).await? else { return Ok(None) };
    if text(object, "/kind") == "Namespace" {
        if !is_ours(&found) {
            return Ok(None);
        }
        let users = users_objects(client, text(object, "/metadata/name")).await?;
        return Ok((!users.is_empty()).then(|| format!("it holds {}", listed(&users))));
    }
    if !crd::is_own(object) {
        return Ok(Some("definitions of other groups are never deleted".to_owned()));
    }
    let [group, plural] = ["/spec/group", "/spec/names/plural"].map(|place| text(object, place));
    let version = text(object, "/spec/versions/0/name");
    let all = ask(client, Method::Get, &format!("/apis/{group}/{version}/{plural}?limit=5")).await?;
    let count = items(&all.unwrap_or_default()).count();
    Ok((count > 0).then(|| "there are objects of it, which would be deleted too".to_owned()))
}

/// Everything in a namespace that neither we nor Kubernetes made.
async fn users_objects(client: &Client, namespace: &str) -> Result<BTreeSet<String>, InstallError> {
    let mut users = BTreeSet::new();
    let kinds = namespaced_kinds(client).await?;
    for (version, kind, plural) in kinds.into_iter().filter(|(_, kind, _)| kind != "Event") {
        let root = if version.contains('/') { "apis" } else { "api" };
        let others = format!("labelSelector={}%21%3Dmesh&limit=500", PART_OF.replace('/', "%2F"));
        let path = format!("/{root}/{version}/namespaces/{namespace}/{plural}?{others}");
        let Some(found) = ask(client, Method::Get, &path).await? else { continue };
        let theirs = items(&found).filter(|item| !is_made_by_kubernetes(&kind, item));
        users.extend(theirs.map(|item| format!("{kind} {}", text(item, "/metadata/name"))));
    }
    Ok(users)
}

/// What every namespace has, and what a controller makes and takes away again by itself.
fn is_made_by_kubernetes(kind: &str, item: &Value) -> bool {
    let owners = item["metadata"]["ownerReferences"].as_array();
    match (kind, text(item, "/metadata/name")) {
        ("ServiceAccount", "default") => true,
        // What a cluster, or an Istio in it, publishes into every namespace.
        ("ConfigMap", "kube-root-ca.crt" | "openshift-service-ca.crt" | "istio-ca-root-cert") => true,
        _ => owners.is_some_and(|owners| owners.iter().any(|owner| owner["controller"] == true)),
    }
}

/// All that can be listed in a namespace: version, kind and plural.
async fn namespaced_kinds(client: &Client) -> Result<Vec<(String, String, String)>, InstallError> {
    let groups = ask(client, Method::Get, "/apis").await?.unwrap_or_default();
    let preferred = groups["groups"].as_array().into_iter().flatten();
    let mut versions = vec!["v1".to_owned()];
    versions.extend(preferred.map(|group| text(group, "/preferredVersion/groupVersion").to_owned()));
    let mut kinds = Vec::new();
    for version in versions {
        let path = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        // A group whose server is away (metrics) is told as an error: what it has might be a user's.
        let known = ask(client, Method::Get, &path).await?.unwrap_or_default();
        for resource in known["resources"].as_array().into_iter().flatten() {
            let lists =
                resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            if resource["namespaced"] == true && lists {
                let [kind, plural] = ["/kind", "/name"].map(|place| text(resource, place).to_owned());
                kinds.push((version.clone(), kind, plural));
            }
        }
    }
    Ok(kinds)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn listed(names: &BTreeSet<String>) -> String {
    let few: Vec<_> = names.iter().take(5).map(String::as_str).collect();
    let more = names.len().saturating_sub(few.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", few.join(", "))
}

/// The answer; `None` if there is no such thing.
async fn ask(client: &Client, method: Method, path: &str) -> Result<Option<Value>, InstallError> {
    match send(client, method, path, None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(InstallError::Request(path.to_owned(), error)),
    }
}

fn is_missing(error: &RequestError) -> bool {
    // 405: a collection that can only be created in.
    matches!(error.code(), Some(404 | 405))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_namespace_has_is_no_users() {
        let made = |kind: &str, name: &str| is_made_by_kubernetes(kind, &json!({"metadata": {"name": name}}));
        assert!(made("ConfigMap", "kube-root-ca.crt") && made("ConfigMap", "openshift-service-ca.crt"));
        assert!(made("ServiceAccount", "default") && !made("ServiceAccount", "builder-of-mine"));
        assert!(!made("ConfigMap", "istio") && !made("Secret", "kube-root-ca.crt"));
    }
}
