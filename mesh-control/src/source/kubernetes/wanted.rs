//! Secrets and ConfigMaps: only those that an object names are ever read.
//!
//! Pure bookkeeping; the gatherer fetches. A name counts in every namespace: which one is meant depends on where a gateway
//! runs, which is for the translation to say, and the translation gives nobody a Secret of another namespace.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::follow::Name;
use crate::api::Kind;

/// A Secret or ConfigMap.
pub(super) type Reference = (Kind, Name);
/// The kind and name of what is wanted, in any namespace.
type Wish = (Kind, String);

/// Who wants what, what exists, and what has been fetched.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// By the object that wishes.
    wishes: BTreeMap<(usize, Name), BTreeSet<Wish>>,
    counts: BTreeMap<Wish, usize>,
    /// What the cluster has; by kind, so that a list of one does not touch the other.
    existing: BTreeSet<Reference>,
    /// Under way; true if it changed meanwhile.
    fetching: BTreeMap<Reference, bool>,
    held: BTreeSet<Reference>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Todo {
    pub(super) fetch: Vec<Reference>,
    pub(super) forget: Vec<Reference>,
}

impl Wanted {
    /// Something that is always wanted.
    pub(super) fn always(&mut self, kind: Kind, name: &str) {
        *self.counts.entry((kind, name.to_owned())).or_default() += 1;
    }

    /// An object has these wishes now; none if it is gone.
    pub(super) fn wish(&mut self, object: (usize, Name), wishes: BTreeSet<Wish>) -> Todo {
        let before = self.wishes.get(&object).cloned().unwrap_or_default();
        if before == wishes {
            return Todo::default();
        }
        let mut todo = Todo::default();
        for wish in wishes.difference(&before) {
            let count = self.counts.entry(wish.clone()).or_default();
            *count += 1;
            if *count == 1 {
                todo.fetch.extend(self.existing.iter().filter(|known| is(known, wish)).cloned());
            }
        }
        for wish in before.difference(&wishes) {
            let count = self.counts.entry(wish.clone()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(wish);
                todo.forget.extend(self.held.extract_if(.., |known| is(known, wish)));
            }
        }
        if wishes.is_empty() {
            self.wishes.remove(&object);
        } else {
            self.wishes.insert(object, wishes);
        }
        todo.fetch.retain(|reference| self.fetching.insert(reference.clone(), false).is_none());
        todo
    }

    /// It exists, perhaps in another version.
    pub(super) fn exists(&mut self, reference: Reference) -> Todo {
        let wanted = self.is_wanted(&reference);
        self.existing.insert(reference.clone());
        if !wanted {
            return Todo::default();
        }
        if let Some(again) = self.fetching.get_mut(&reference) {
            *again = true;
            return Todo::default();
        }
        self.fetching.insert(reference.clone(), false);
        Todo { fetch: vec![reference], forget: Vec::new() }
    }

    /// It is gone.
    pub(super) fn gone(&mut self, reference: &Reference) -> Todo {
        self.existing.remove(reference);
        let held = self.held.remove(reference);
        Todo { fetch: Vec::new(), forget: held.then(|| reference.clone()).into_iter().collect() }
    }

    /// Those that exist, as far as is known.
    pub(super) fn existing(&self, kind: Kind) -> BTreeSet<Name> {
        self.existing.iter().filter(|(known, _)| *known == kind).map(|(_, name)| name.clone()).collect()
    }

    /// A fetch has ended. True if what it brought is to be used; what is to be done names it again if it is outdated.
    pub(super) fn fetched(&mut self, reference: &Reference) -> (bool, Todo) {
        let again = self.fetching.remove(reference).unwrap_or_default();
        let used = self.existing.contains(reference) && self.is_wanted(reference);
        if !used {
            return (false, Todo::default());
        }
        self.held.insert(reference.clone());
        if again {
            self.fetching.insert(reference.clone(), false);
            return (true, Todo { fetch: vec![reference.clone()], forget: Vec::new() });
        }
        (true, Todo::default())
    }

    /// Whether everything wanted has been fetched.
    pub(super) fn is_settled(&self) -> bool {
        self.fetching.is_empty()
    }

    fn is_wanted(&self, (kind, (_, name)): &Reference) -> bool {
        self.counts.contains_key(&(*kind, name.clone()))
    }
}

fn is((kind, (_, name)): &Reference, (wished, wish): &Wish) -> bool {
    kind == wished && name == wish
}

/// What an object names: members called `credentialName`, `credentialNames` or `secretName`, and ingress-nginx's annotations.
pub(super) fn wishes(kind: Kind, document: &Value) -> BTreeSet<Wish> {
    let mut found = BTreeSet::new();
    if matches!(kind, Kind::Pod | Kind::Service | Kind::Namespace | Kind::EndpointSlice) {
        return found;
    }
    named(&document["spec"], &mut found);
    for (annotation, value) in document["metadata"]["annotations"].as_object().into_iter().flatten() {
        let Some(annotation) = annotation.strip_prefix("nginx.ingress.kubernetes.io/") else { continue };
        let value = value.as_str().unwrap_or_default();
        let name = value.rsplit('/').next().unwrap_or(value);
        if annotation.contains("secret") {
            found.insert((Kind::Secret, name.to_owned()));
        } else if annotation == "custom-headers" {
            found.insert((Kind::ConfigMap, name.to_owned()));
        }
    }
    found
}

fn named(value: &Value, found: &mut BTreeSet<Wish>) {
    let mut wish = |name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            // Istio's second Secret, with the roots of clients.
            found.insert((Kind::Secret, format!("{name}-cacert")));
            found.insert((Kind::Secret, name.to_owned()));
        }
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| named(item, found)),
        Value::Object(members) => {
            for (member, value) in members {
                match member.as_str() {
                    "credentialName" | "secretName" => wish(value),
                    "credentialNames" => value.as_array().into_iter().flatten().for_each(&mut wish),
                    _ => {}
                }
            }
            members.values().for_each(|value| named(value, found));
        }
        _ => {}
    }
}
