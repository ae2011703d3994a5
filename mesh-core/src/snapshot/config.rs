//! What the control plane has delivered so far: the input of [`super::compile()`].

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::model::{Key, Resource, Root};

/// All resources held, and the roots of which it is known that nothing is there.
#[derive(Debug, Clone, Default)]
pub struct Config {
    resources: BTreeMap<Key, Arc<Resource>>,
    absent: HashSet<Root>,
}

impl Config {
    /// Adds or replaces a resource. One that equals what is held changes nothing, so that it is not compiled again.
    pub fn insert(&mut self, resource: impl Into<Arc<Resource>>) {
        let resource = resource.into();
        let key = resource.key();
        if self.resources.get(&key).is_none_or(|held| **held != *resource) {
            self.resources.insert(key, resource);
        }
    }

    /// Removes a resource; returns it if it was held.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Resource>> {
        self.resources.remove(key)
    }

    /// A resource by name.
    pub fn get(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.resources.get(key)
    }

    /// All resources, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Resource>)> {
        self.resources.iter()
    }

    /// How many resources are held.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Notes that the control plane has said: nothing is there.
    pub fn set_absent(&mut self, root: Root) {
        self.absent.insert(root);
    }

    /// Forgets that nothing is there.
    pub fn clear_absent(&mut self, root: &Root) {
        self.absent.remove(root);
    }

    /// The roots of which it is known that nothing is there.
    pub fn absent(&self) -> &HashSet<Root> {
        &self.absent
    }
}

impl<R: Into<Arc<Resource>>> FromIterator<R> for Config {
    fn from_iter<I: IntoIterator<Item = R>>(resources: I) -> Self {
        let mut config = Self::default();
        resources.into_iter().for_each(|resource| config.insert(resource));
        config
    }
}
