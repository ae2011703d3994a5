//! What every object has: its name and its labels, and how objects select others by them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kind;

/// Labels or annotations.
pub type StringMap = BTreeMap<String, String>;

/// The part of `metadata` that means something to the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    /// Empty for kinds that have no namespace; `default` is filled in when a file names none.
    pub namespace: String,
    pub labels: StringMap,
    pub annotations: StringMap,
    /// RFC 3339.
    pub creation_timestamp: Option<String>,
    /// RFC 3339. It is there once somebody has deleted the object; then the object is about to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    pub uid: Option<String>,
    pub generation: Option<i64>,
    pub owner_references: Vec<OwnerReference>,
}

impl Metadata {
    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

/// The object that made this one; a pod's controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub kind: String,
    pub name: String,
    pub controller: Option<bool>,
}

/// What identifies an object. Ordered by kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    pub kind: Kind,
    /// Empty for kinds that have no namespace.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    /// The key of `kind` `namespace`/`name`.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Kubernetes' selector with expressions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: StringMap,
    pub match_expressions: Vec<LabelRequirement>,
}

impl LabelSelector {
    /// Whether `labels` satisfy every requirement; an empty selector selects all.
    pub fn selects(&self, labels: &StringMap) -> bool {
        selects(&self.match_labels, labels) && self.match_expressions.iter().all(|r| r.holds(labels))
    }
}

/// One expression of a [`LabelSelector`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelRequirement {
    pub key: String,
    pub operator: LabelOperator,
    pub values: Vec<String>,
}

impl LabelRequirement {
    fn holds(&self, labels: &StringMap) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// How a [`LabelRequirement`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LabelOperator {
    #[default]
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// Whether every wanted label is there with its value; no wanted labels select all.
pub fn selects(wanted: &StringMap, labels: &StringMap) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}
