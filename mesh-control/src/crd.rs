//! CustomResourceDefinitions, made of the very types that read the objects.
//!
//! `schema` asks a type's `Deserialize` what it would take; so a field that is read is in the schema, and no second description
//! of it can go stale. Kinds of other groups keep what we do not know (`x-kubernetes-preserve-unknown-fields`): their
//! definition is somebody else's, and ours only stands in where theirs is missing. Of our own kinds unknown fields are refused by
//! clients, and cut off by the API server.
//!
//! Kinds that have no effect here have no definition from us: an object of theirs is better refused than silently kept.

mod columns;
mod schema;

use serde_json::{Value, json};

use crate::api::{Kind, networking, rate_limit, security, telemetry};
use columns::Shape;

pub use schema::SchemaError;

/// The definitions of all kinds that we read and Kubernetes does not have.
///
/// # Errors
/// When a type reads something that has no schema; a test makes all of them.
pub fn definitions() -> Result<Vec<Value>, SchemaError> {
    use schema::of;
    Ok(vec![
        definition(Kind::DestinationRule, of::<networking::DestinationRule>()?),
        definition(Kind::Gateway, of::<networking::Gateway>()?),
        definition(Kind::ServiceEntry, of::<networking::ServiceEntry>()?),
        definition(Kind::Sidecar, of::<networking::Sidecar>()?),
        definition(Kind::VirtualService, of::<networking::VirtualService>()?),
        definition(Kind::WorkloadEntry, of::<networking::WorkloadEntry>()?),
        definition(Kind::AuthorizationPolicy, of::<security::AuthorizationPolicy>()?),
        definition(Kind::PeerAuthentication, of::<security::PeerAuthentication>()?),
        definition(Kind::RequestAuthentication, of::<security::RequestAuthentication>()?),
        definition(Kind::Telemetry, of::<telemetry::Telemetry>()?),
        definition(Kind::RateLimit, of::<rate_limit::RateLimit>()?),
    ])
}

/// Whether a definition is of our own group; the others are created only where they are missing.
pub fn is_own(definition: &Value) -> bool {
    definition["spec"]["group"] == "minimesh.io"
}

fn definition(kind: Kind, mut spec: Value) -> Value {
    let served = kind.versions();
    let group = served[0].split_once('/').map_or("", |(group, _)| group);
    let Shape { singular, plural, short, columns } = Shape::of(kind);
    if !kind.refuses_unknown_fields() {
        keep_unknown_fields(&mut spec);
    }
    let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    let versions = served.iter().enumerate().map(|(at, version)| {
        json!({
            "name": version.rsplit('/').next(),
            "served": true,
            "storage": at == 0,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns,
        })
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "labels": {"app.kubernetes.io/part-of": "mesh"},
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.as_str(), "listKind": format!("{kind}List"), "singular": singular, "plural": plural,
                "shortNames": short, "categories": ["mesh"],
            },
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

fn keep_unknown_fields(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    for part in ["items", "additionalProperties"] {
        members.get_mut(part).map(keep_unknown_fields);
    }
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(keep_unknown_fields);
        members.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
}

#[cfg(test)]
mod tests;
