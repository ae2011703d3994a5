//! Where the API server keeps objects of a kind, as it says itself.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use serde_json::{Value, json};

use super::super::RemoteError;
use crate::cluster::objects::{text, title};
use crate::cluster::request::{Method, send};

/// What was learned, for the length of one command.
pub(super) struct Kinds<'c> {
    client: &'c Client,
    /// Per `group/version`.
    known: BTreeMap<String, Vec<Resource>>,
    /// Kinds of which a definition came by.
    defined: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    kind: String,
    plural: String,
    singular: String,
    short: Vec<String>,
    namespaced: bool,
}

impl<'c> Kinds<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        Self { client, known: BTreeMap::new(), defined: BTreeSet::new() }
    }

    /// The path of an object; `namespace` is that of objects which name none.
    pub(super) async fn path(&mut self, object: &Value, namespace: &str) -> Result<String, RemoteError> {
        let [version, kind, name] =
            ["/apiVersion", "/kind", "/metadata/name"].map(|place| text(object, place));
        if kind == "CustomResourceDefinition" {
            self.defined.insert(text(object, "/spec/names/kind").to_owned());
        }
        let resources = self.version(version).await?;
        let Some(resource) = resources.iter().find(|resource| resource.kind == kind) else {
            self.known.remove(version);
            return Err(RemoteError::Finding(format!(
                "{}: the cluster has no kind {kind} in {version}; `mesh install --apply` creates the definitions of the mesh's kinds",
                title(object)
            )));
        };
        let root = if version.contains('/') { "apis" } else { "api" };
        let given = text(object, "/metadata/namespace");
        let namespace = if given.is_empty() { namespace } else { given };
        Ok(match resource.namespaced {
            true => format!("/{root}/{version}/namespaces/{namespace}/{}/{name}", resource.plural),
            false => format!("/{root}/{version}/{}/{name}", resource.plural),
        })
    }

    /// Whether its definition has only just come.
    pub(super) fn is_new(&self, object: &Value) -> bool {
        self.defined.contains(text(object, "/kind"))
    }

    /// The object that a command names.
    pub(super) async fn named(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Value, RemoteError> {
        let mut found: Vec<Value> = Vec::new();
        for version in self.versions().await? {
            // A group whose server is away is not the one that is meant, or will be missed below.
            let Ok(resources) = self.version(&version).await else { continue };
            let meant = resources.iter().filter(|resource| resource.answers_to(kind));
            found.extend(meant.map(|resource| {
                json!({"apiVersion": version, "kind": resource.kind, "metadata": {"name": name, "namespace": namespace}})
            }));
        }
        match (found.pop(), found.is_empty()) {
            (Some(object), true) => Ok(object),
            (None, _) => Err(RemoteError::Finding(format!("the cluster has no kind {kind}"))),
            (Some(last), false) => {
                let versions = found.iter().chain([&last]).map(|one| text(one, "/apiVersion"));
                let versions: Vec<_> = versions.collect();
                let message =
                    format!("{kind} is a kind of {}; use -f with a file", versions.join(" and of "));
                Err(RemoteError::Finding(message))
            }
        }
    }

    async fn versions(&self) -> Result<Vec<String>, RemoteError> {
        let groups = send(self.client, Method::Get, "/apis", None).await;
        let groups = groups.map_err(RemoteError::request("asking for the API's groups"))?;
        let preferred = groups["groups"].as_array().into_iter().flatten();
        let preferred = preferred.map(|group| text(group, "/preferredVersion/groupVersion").to_owned());
        // Deprecated twins of kinds that have a group of their own.
        let twin =
            |version: &String| version.starts_with("events.k8s.io/") || version.starts_with("extensions/");
        Ok(["v1".to_owned()].into_iter().chain(preferred.filter(|version| !twin(version))).collect())
    }

    async fn version(&mut self, version: &str) -> Result<&[Resource], RemoteError> {
        if !self.known.contains_key(version) {
            let root = if version.contains('/') { "apis" } else { "api" };
            let resources = match send(self.client, Method::Get, &format!("/{root}/{version}"), None).await {
                Ok(list) => list["resources"].as_array().into_iter().flatten().filter_map(resource).collect(),
                Err(error) if error.code() == Some(404) => Vec::new(),
                Err(error) => {
                    return Err(RemoteError::Request(format!("asking for kinds of {version}"), error));
                }
            };
            self.known.insert(version.to_owned(), resources);
        }
        Ok(self.known.get(version).map_or(&[], Vec::as_slice))
    }
}

impl Resource {
    fn answers_to(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name == self.kind.to_ascii_lowercase()
            || name == self.plural
            || name == self.singular
            || self.short.contains(&name)
    }
}

/// None for subresources.
fn resource(value: &Value) -> Option<Resource> {
    let name = |field: &str| value[field].as_str().map(str::to_owned);
    let plural = name("name").filter(|plural| !plural.contains('/'))?;
    let short = value["shortNames"].as_array().into_iter().flatten();
    Some(Resource {
        kind: name("kind")?,
        plural,
        singular: name("singularName").unwrap_or_default(),
        short: short.filter_map(Value::as_str).map(str::to_owned).collect(),
        namespaced: value["namespaced"] == true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_answers_to_all_its_names_and_subresources_are_none() {
        let value = json!({"name": "virtualservices", "singularName": "virtualservice", "kind": "VirtualService",
            "shortNames": ["vs"], "namespaced": true});
        let kind = resource(&value).unwrap();
        assert!(
            ["VirtualService", "virtualservices", "vs", "virtualservice"]
                .iter()
                .all(|it| kind.answers_to(it))
        );
        assert!(!kind.answers_to("service"));
        assert_eq!(resource(&json!({"name": "pods/log", "kind": "Pod"})), None);
    }
}
