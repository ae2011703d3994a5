//! What is followed, and where the API server has it.

use crate::api::Kind;
use crate::api::discovery::{MANAGED_BY, POD_CONTROLLER};

/// A collection that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) what: What,
    /// `v1` or `group/version`, the preferred first.
    pub(super) versions: Vec<&'static str>,
    pub(super) plural: String,
    pub(super) label_selector: Option<String>,
}

/// What becomes of a collection's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Objects of the world.
    Objects(Kind),
    /// Topology for pods; metadata only.
    Nodes,
    /// Names, from which the wanted are fetched; metadata only.
    Names(Kind),
}

impl Resource {
    /// Everything but namespaces and nodes, which come first.
    pub(super) fn all() -> Vec<Self> {
        Kind::all().filter_map(Self::of).collect()
    }

    pub(super) fn namespaces(selector: &str) -> Self {
        Self { label_selector: Some(selector.to_owned()), ..Self::objects(Kind::Namespace) }
    }

    pub(super) fn nodes() -> Self {
        let plural = "nodes".to_owned();
        Self { what: What::Nodes, versions: vec!["v1"], plural, label_selector: None }
    }

    fn of(kind: Kind) -> Option<Self> {
        match kind {
            // Namespaces are followed first; the others only mean something to the one-machine runner.
            Kind::Namespace | Kind::ServiceAccount | Kind::Deployment | Kind::StatefulSet | Kind::Job => None,
            Kind::Secret | Kind::ConfigMap => Some(Self { what: What::Names(kind), ..Self::objects(kind) }),
            // What is known of pods already is not sent a second time.
            Kind::EndpointSlice => {
                let by_hand = format!("{MANAGED_BY}!={POD_CONTROLLER}");
                Some(Self { label_selector: Some(by_hand), ..Self::objects(kind) })
            }
            _ => Some(Self::objects(kind)),
        }
    }

    fn objects(kind: Kind) -> Self {
        let (what, versions) = (What::Objects(kind), kind.versions().to_vec());
        Self { what, versions, plural: kind.plural(), label_selector: None }
    }

    pub(super) fn metadata_only(&self) -> bool {
        matches!(self.what, What::Nodes | What::Names(_))
    }

    /// The path of the collection in one of its versions.
    pub(super) fn path(&self, version: &str) -> String {
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/{}", self.plural)
    }
}

/// The path of one object of a core kind.
pub(super) fn object_path(kind: Kind, namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{}/{name}", kind.plural())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const RIGHTS: &str = include_str!("../../../../deploy/charts/mesh/templates/10-control-rights.yaml");

    /// Rules of the role that the installation gives the control plane in all namespaces.
    fn rules() -> Vec<Value> {
        let documents = RIGHTS.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
        let role = documents.into_iter().find(|one| one["kind"] == "ClusterRole").unwrap();
        role["rules"].as_array().unwrap().clone()
    }

    fn has(rule: &Value, list: &str, name: &str) -> bool {
        rule[list].as_array().unwrap().iter().any(|one| one == name || one == "*")
    }

    /// Nothing is served before everything has been listed: one right too few, and the control plane never gets ready.
    #[test]
    fn the_installation_may_follow_what_is_followed() {
        let rules = rules();
        let first = [Resource::namespaces(""), Resource::nodes()];
        for resource in first.into_iter().chain(Resource::all()) {
            let group = resource.versions[0].split_once('/').map_or("", |(group, _)| group);
            for verb in ["list", "watch"] {
                let granted = rules.iter().any(|rule| {
                    rule["resourceNames"].is_null()
                        && has(rule, "apiGroups", group)
                        && has(rule, "resources", &resource.plural)
                        && has(rule, "verbs", verb)
                });
                assert!(granted, "{verb} of {} in group {group:?} is not granted", resource.plural);
            }
        }
    }
}
