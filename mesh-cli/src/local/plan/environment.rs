//! The environment of a container: what the manifest says, ConfigMaps, Secrets and the downward API.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{Inputs, resources};
use crate::local::manifest::{Container, DataObject, FieldRef, KeyRef, NameRef, ValueFrom};
use crate::local::network::GATEWAY;
use crate::local::store::Store;

/// Variables in the order of definition, each name once.
pub(super) fn of_container(
    inputs: &Inputs<'_>,
    container: &Container,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = base(inputs);
    let namespace = &inputs.place.namespace;
    for source in &container.env_from {
        let data = match (&source.config_map_ref, &source.secret_ref) {
            (Some(name), _) => all_keys(inputs.store, "ConfigMap", namespace, name)?,
            (None, Some(name)) => all_keys(inputs.store, "Secret", namespace, name)?,
            (None, None) => bail!("envFrom without configMapRef or secretRef"),
        };
        variables
            .extend(data.into_iter().map(|(key, value)| (format!("{}{key}", source.prefix), text(&value))));
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => {
                let defined = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                Some(expand(value, &defined))
            }
            (None, Some(from)) => from_elsewhere(inputs, container, from)
                .with_context(|| format!("variable `{}`", variable.name))?,
            (None, None) => Some(String::new()),
        };
        variables.extend(value.map(|value| (variable.name.clone(), value)));
    }
    Ok(last_of_each(variables))
}

/// What the container runtime would set; our own commands are found first.
pub(super) fn base(inputs: &Inputs<'_>) -> Vec<(String, String)> {
    vec![
        ("PATH".to_owned(), format!("{}:{}", inputs.start.binaries.display(), inputs.start.search_path)),
        ("HOME".to_owned(), inputs.start.home.clone()),
        ("HOSTNAME".to_owned(), inputs.place.name.clone()),
    ]
}

fn last_of_each(variables: Vec<(String, String)>) -> Vec<(String, String)> {
    let unique: indexmap::IndexMap<String, String> = variables.into_iter().collect();
    unique.into_iter().collect()
}

fn from_elsewhere(
    inputs: &Inputs<'_>,
    container: &Container,
    from: &ValueFrom,
) -> anyhow::Result<Option<String>> {
    let namespace = &inputs.place.namespace;
    if let Some(field) = &from.field_ref {
        return downward(inputs, field).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        return one_key(inputs.store, "ConfigMap", namespace, key);
    }
    if let Some(key) = &from.secret_key_ref {
        return one_key(inputs.store, "Secret", namespace, key);
    }
    if let Some(field) = &from.resource_field_ref {
        return resources::value(&inputs.pod.template.spec, container, field).map(Some);
    }
    bail!("valueFrom must be fieldRef, configMapKeyRef, secretKeyRef or resourceFieldRef")
}

fn downward(inputs: &Inputs<'_>, field: &FieldRef) -> anyhow::Result<String> {
    let place = inputs.place;
    let metadata = &inputs.pod.template.metadata;
    let path = field.field_path.as_str();
    Ok(match path {
        "metadata.name" => place.name.clone(),
        "metadata.namespace" => place.namespace.clone(),
        "metadata.uid" => place.uid.clone(),
        "spec.serviceAccountName" => place.service_account.clone(),
        "spec.nodeName" => "localhost".to_owned(),
        "status.podIP" | "status.podIPs" => place.address.to_string(),
        "status.hostIP" | "status.hostIPs" => GATEWAY.to_string(),
        _ => {
            let (map, key) = if let Some(key) = subscript(path, "metadata.labels") {
                (&metadata.labels, key)
            } else if let Some(key) = subscript(path, "metadata.annotations") {
                (&metadata.annotations, key)
            } else {
                bail!("unknown fieldPath `{path}`");
            };
            map.get(key).cloned().unwrap_or_default()
        }
    })
}

/// The key in `prefix['key']`.
fn subscript<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")
}

fn one_key(store: &Store, kind: &str, namespace: &str, key: &KeyRef) -> anyhow::Result<Option<String>> {
    let value = data(store, kind, namespace, &key.name)?.and_then(|mut data| data.remove(&key.key));
    if value.is_none() && !key.optional {
        bail!("{kind} {namespace}/{} has no key `{}`", key.name, key.key);
    }
    Ok(value.map(|value| text(&value)))
}

fn all_keys(
    store: &Store,
    kind: &str,
    namespace: &str,
    name: &NameRef,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    match data(store, kind, namespace, &name.name)? {
        Some(data) => Ok(data),
        None if name.optional => Ok(BTreeMap::new()),
        None => bail!("there is no {kind} {namespace}/{}", name.name),
    }
}

/// The content of a ConfigMap or Secret.
pub(super) fn data(
    store: &Store,
    kind: &str,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
    let Some(object) = store.get(kind, namespace, name) else { return Ok(None) };
    let DataObject { data, binary_data, string_data } = object.view()?;
    let decoded = |(key, value): (String, String)| {
        let compact: String = value.split_ascii_whitespace().collect();
        let bytes = BASE64_STANDARD.decode(compact);
        bytes
            .map(|bytes| (key.clone(), bytes))
            .with_context(|| format!("{kind} {namespace}/{name}: key `{key}`"))
    };
    let plain = |(key, value): (String, String)| (key, value.into_bytes());
    let mut content = BTreeMap::new();
    for entry in binary_data {
        content.extend([decoded(entry)?]);
    }
    for entry in data {
        content.extend([if kind == "Secret" { decoded(entry)? } else { plain(entry) }]);
    }
    content.extend(string_data.into_iter().map(plain));
    Ok(Some(content))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for `$`, unknown names stay as they are
/// (Kubernetes, core/v1 Container).
pub(super) fn expand(word: &str, variables: &BTreeMap<&str, &str>) -> String {
    let mut result = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
            && let Some(value) = variables.get(name)
        {
            result.push_str(value);
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_once_and_unknown_ones_stay() {
        let variables = BTreeMap::from([("A", "1"), ("B", "$(A)")]);
        assert_eq!(expand("x$(A)-$(B)-$(C)-$$(A)-$5", &variables), "x1-$(A)-$(C)-$(A)-$5");
    }

    #[test]
    fn label_fields_name_their_key() {
        assert_eq!(subscript("metadata.labels['app']", "metadata.labels"), Some("app"));
        assert_eq!(subscript("metadata.labels", "metadata.labels"), None);
    }
}
