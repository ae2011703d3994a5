//! Objects by kind and namespace.
//!
//! A world is copied at every change, and a change touches few namespaces: copies share what they have in common, and only
//! the parts that a change touches are copied.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::api::{Key, Kind, Object};

/// The objects of one kind in one namespace, by name.
type Part = BTreeMap<Arc<str>, Arc<Object>>;

#[derive(Debug, Clone, Default)]
pub(super) struct Objects(BTreeMap<(Kind, Arc<str>), Arc<Part>>);

impl Objects {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.0.get(&(key.kind, Arc::clone(&key.namespace)))?.get(&key.name)
    }

    /// Takes in an object, in place of that of the same name.
    pub(super) fn insert(&mut self, object: Arc<Object>) {
        let key = &object.key;
        let part = self.0.entry((key.kind, Arc::clone(&key.namespace))).or_default();
        Arc::make_mut(part).insert(Arc::clone(&key.name), object);
    }

    /// Takes an object out, if it is there.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let place = (key.kind, Arc::clone(&key.namespace));
        let part = self.0.get_mut(&place).filter(|part| part.contains_key(&key.name))?;
        let rest = Arc::make_mut(part);
        let removed = rest.remove(&key.name);
        if rest.is_empty() {
            self.0.remove(&place);
        }
        removed
    }

    /// All, ordered by kind, namespace and name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.values().flat_map(|part| part.values())
    }

    /// Those of a kind, in all namespaces or in one, ordered by namespace and name.
    pub(super) fn of<'w>(
        &'w self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'w Arc<Object>> + use<'w> {
        let only: Option<Arc<str>> = namespace.map(Arc::from);
        let first = (kind, only.clone().unwrap_or_default());
        self.0
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |((each, namespace), _)| {
                *each == kind && only.as_ref().is_none_or(|only| only == namespace)
            })
            .flat_map(|(_, part)| part.values())
    }
}
