//! Before an installation: whether the caller may make it, and who is there already.

use serde_json::Value;

use super::{Check, few};
use crate::cluster::objects::{collection, is_ours, path, text, title};
use crate::cluster::remote::list::list;
use crate::cluster::remote::rights::Right;
use crate::cluster::remote::{Remote, RemoteError};
use crate::crd;

/// What server-side apply of the objects takes.
pub(super) async fn rights(remote: &Remote, objects: &[Value]) -> Result<Check, RemoteError> {
    let mut needed: Vec<Right> = Vec::new();
    for right in objects.iter().flat_map(needed_for) {
        if !needed.contains(&right) {
            needed.push(right);
        }
    }
    let missing = remote.missing(&needed).await?;
    if missing.is_empty() {
        return Ok(Check::ok("your rights", "you may create everything that is installed"));
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let message = format!("you may not {}", few(names.iter().map(String::as_str)));
    Ok(Check::error("your rights", message).fix("have a cluster administrator run mesh install"))
}

fn needed_for(object: &Value) -> Vec<Right> {
    let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let collection = collection(object);
    let resource = collection.rsplit('/').next().unwrap_or_default();
    let namespace = Some(text(object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty());
    ["get", "create", "patch"]
        .map(|verb| Right {
            verb,
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
        .into()
}

/// Objects of our names that are somebody else's: with them nothing is installed.
pub(super) async fn strangers(remote: &Remote, objects: &[Value]) -> Result<Vec<Check>, RemoteError> {
    let (mut theirs, mut ours) = (Vec::new(), 0);
    for object in objects.iter().filter(|object| !may_be_anybodys(object)) {
        match remote.look(&path(object)).await? {
            Some(found) if is_ours(&found) => ours += 1,
            Some(_) => theirs.push(title(object)),
            None => {}
        }
    }
    if !theirs.is_empty() {
        let message =
            format!("of our names are there and not this mesh's: {}", few(theirs.iter().map(String::as_str)));
        return Ok(vec![
            Check::error("objects", message).fix("remove them; until then mesh install changes nothing"),
        ]);
    }
    Ok(vec![Check::ok(
        "objects",
        match ours {
            0 => "nothing of our names is there".to_owned(),
            _ => format!("{ours} of this mesh are there already; mesh install brings them up to date"),
        },
    )])
}

fn may_be_anybodys(object: &Value) -> bool {
    match text(object, "/kind") {
        "Namespace" => true,
        "CustomResourceDefinition" => !crd::is_own(object),
        _ => false,
    }
}

/// Another mesh whose webhook asks for the label that ours asks for.
pub(super) async fn other_meshes(remote: &Remote) -> Vec<Check> {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    match list(remote.client(), path, "").await {
        Ok(found) => judge(&found.unwrap_or_default()).into_iter().collect(),
        Err(error) => vec![Check::unseen("other meshes", &error)],
    }
}

fn judge(configurations: &[Value]) -> Option<Check> {
    let injects = |one: &&Value| {
        let webhooks = one["webhooks"].as_array().into_iter().flatten();
        let mut selectors = webhooks.map(|webhook| webhook["namespaceSelector"].to_string());
        !is_ours(one) && selectors.any(|selector| selector.contains("istio-injection"))
    };
    let names: Vec<&str> =
        configurations.iter().filter(injects).map(|one| text(one, "/metadata/name")).collect();
    (!names.is_empty()).then(|| {
        let message = format!("{} injects pods of labelled namespaces too", few(names));
        Check::warning("other meshes", message).fix(
            "mesh install --apply --set besideIstio=true, and istio.io/rev: mesh on namespaces that move",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_installation_needs_to_get_create_and_patch_what_it_brings() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "r", "namespace": "n"}});
        let rights: Vec<String> = needed_for(&role).iter().map(ToString::to_string).collect();
        assert_eq!(rights[1], "create roles.rbac.authorization.k8s.io in n");
        assert_eq!(rights.len(), 3);
    }

    #[test]
    fn an_istio_that_injects_by_the_same_label_is_told() {
        let webhook = |labels: Value| {
            json!({"metadata": {"name": "istio-sidecar-injector", "labels": labels}, "webhooks": [
                {"namespaceSelector": {"matchExpressions": [{"key": "istio-injection"}]}}]})
        };
        assert!(judge(&[webhook(json!({}))]).unwrap().message.starts_with("istio-sidecar-injector injects"));
        assert_eq!(judge(&[webhook(json!({"app.kubernetes.io/part-of": "mesh"}))]), None);
        assert_eq!(judge(&[json!({"webhooks": [{}]})]), None);
    }
}
