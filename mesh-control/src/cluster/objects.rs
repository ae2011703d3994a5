//! Objects as manifests have them: where the API server keeps them, and whose they are.

use serde_json::Value;

/// On everything that an installation or the control plane creates.
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of";
const US: &str = "mesh";

/// Whether an object says that it is the mesh's.
pub(super) fn is_ours(object: &Value) -> bool {
    object["metadata"]["labels"][PART_OF] == US
}

/// `Kind name` or `Kind namespace/name`, for people.
pub(super) fn title(object: &Value) -> String {
    let [kind, namespace, name] =
        ["/kind", "/metadata/namespace", "/metadata/name"].map(|place| text(object, place));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// The path of an object's collection, in its namespace if it has one. Holds for the kinds that the chart contains.
pub(super) fn collection(object: &Value) -> String {
    let [version, kind, namespace] =
        ["/apiVersion", "/kind", "/metadata/namespace"].map(|place| text(object, place));
    let root = if version.contains('/') { "apis" } else { "api" };
    let lower = kind.to_ascii_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    };
    if namespace.is_empty() {
        format!("/{root}/{version}/{plural}")
    } else {
        format!("/{root}/{version}/namespaces/{namespace}/{plural}")
    }
}

/// The path of an object.
pub(super) fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), text(object, "/metadata/name"))
}

pub(super) fn text<'v>(object: &'v Value, place: &str) -> &'v str {
    object.pointer(place).and_then(Value::as_str).unwrap_or_default()
}
