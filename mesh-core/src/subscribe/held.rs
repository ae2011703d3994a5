//! What the stream has delivered: roots, their closures, versions. Pure; it knows no connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::usable;
use crate::model::{Key, Resource, Root};
use crate::snapshot::Config;
use crate::wire::v1::{Held as HeldVersion, Member, NotFound, Refusal, Subscription, Update};
use crate::wire::{decode, decode_key, decode_root, encode_key, encode_root};

/// Roots held at most; past it the one asked for longest ago goes, which is asked for again when it is needed.
pub(super) const MAX_ROOTS: usize = 4096;

/// All that is held.
#[derive(Default)]
pub(super) struct Held {
    pub(super) config: Config,
    versions: HashMap<Key, u64>,
    closures: BTreeMap<Root, BTreeSet<Key>>,
    /// In the order in which they were asked for.
    asked: VecDeque<Root>,
}

/// What became of an update.
pub(super) struct Applied {
    pub(super) root: Option<Root>,
    pub(super) refused: Vec<Refusal>,
}

impl Held {
    /// Notes interest in a root; the one that had to go for it, if the bound is reached. `None` when it was noted before.
    pub(super) fn ask(&mut self, root: &Root) -> Option<Option<Root>> {
        if *root == Root::Own || self.asked.contains(root) {
            return None;
        }
        let evicted = if self.asked.len() >= MAX_ROOTS { self.asked.pop_front() } else { None };
        if let Some(evicted) = &evicted {
            self.drop_root(evicted);
        }
        self.asked.push_back(root.clone());
        Some(evicted)
    }

    /// Takes a root's new closure, as a whole or not at all.
    pub(super) fn apply(&mut self, update: &Update) -> Applied {
        let refuse = |key: &str, reason: String| vec![Refusal { key: key.to_owned(), reason }];
        let root = match decode_root(&update.root) {
            Ok(root) => root,
            Err(error) => return Applied { root: None, refused: refuse(&update.root, error.to_string()) },
        };
        let (resources, mut refused) = decode_members(&update.members);
        let closure: Result<BTreeSet<Key>, _> = update.closure.iter().map(|key| decode_key(key)).collect();
        match closure {
            Ok(closure) if refused.is_empty() => refused.extend(self.take(&root, closure, resources)),
            Ok(_) => {}
            Err(error) => refused.extend(refuse(&update.root, error.to_string())),
        }
        Applied { root: Some(root), refused }
    }

    /// Notes that a root does not exist.
    pub(super) fn not_found(&mut self, answer: &NotFound) -> Option<Root> {
        let root = decode_root(&answer.root).ok()?;
        self.drop_root(&root);
        self.config.set_absent(root.clone());
        Some(root)
    }

    /// Everything to ask for on a new stream, with what is held of it.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let roots = std::iter::once(&Root::Own).chain(&self.asked);
        roots
            .map(|root| {
                let keys = self.closures.get(root).into_iter().flatten();
                let version = |key: &Key| self.versions.get(key).copied().unwrap_or_default();
                let held =
                    keys.map(|key| HeldVersion { key: encode_key(key), version: version(key) }).collect();
                Subscription { root: encode_root(root), held }
            })
            .collect()
    }

    /// What a snapshot on disk needs: every root with its members as they travelled.
    pub(super) fn closures(&self) -> impl Iterator<Item = (&Root, Vec<(u64, &Resource)>)> {
        self.closures.iter().map(|(root, keys)| {
            let member = |key: &Key| {
                let version = self.versions.get(key).copied().unwrap_or_default();
                self.config.get(key).map(|resource| (version, &**resource))
            };
            (root, keys.iter().filter_map(member).collect())
        })
    }

    /// Takes a root's closure from a snapshot on disk.
    pub(super) fn restore(&mut self, root: &Root, members: Vec<(u64, Resource)>) {
        self.ask(root);
        let closure = members.iter().map(|(_, resource)| resource.key()).collect();
        self.take(root, closure, members);
    }

    fn take(&mut self, root: &Root, closure: BTreeSet<Key>, members: Vec<(u64, Resource)>) -> Vec<Refusal> {
        let delivered = |key: &Key| members.iter().any(|(_, resource)| resource.key() == *key);
        let missing: Vec<_> = closure
            .iter()
            .filter(|key| self.config.get(key).is_none() && !delivered(key))
            .map(encode_key)
            .collect();
        if !missing.is_empty() {
            let reason = || "named by the closure, but neither held nor delivered".to_owned();
            return missing.into_iter().map(|key| Refusal { key, reason: reason() }).collect();
        }
        let refused =
            members.into_iter().filter_map(|(version, member)| self.hold(version, member)).collect();
        self.config.clear_absent(root);
        let before = self.closures.insert(root.clone(), closure).unwrap_or_default();
        self.release(before);
        refused
    }

    /// Holds one member. Of a secret that is refused nothing is said to be held, so that it is told again on a reconnect.
    fn hold(&mut self, version: u64, member: Resource) -> Option<Refusal> {
        let key = member.key();
        let (resource, refused) = usable::or_last_good(member, self.config.get(&key).map(|held| &**held));
        self.config.insert(resource);
        let Some(reason) = refused else {
            self.versions.insert(key, version);
            return None;
        };
        self.versions.remove(&key);
        Some(Refusal { key: encode_key(&key), reason })
    }

    fn drop_root(&mut self, root: &Root) {
        self.config.clear_absent(root);
        if let Some(closure) = self.closures.remove(root) {
            self.release(closure);
        }
    }

    /// Removes what no closure names any more.
    fn release(&mut self, keys: BTreeSet<Key>) {
        for key in keys {
            if !self.closures.values().any(|closure| closure.contains(&key)) {
                self.config.remove(&key);
                self.versions.remove(&key);
            }
        }
    }
}

fn decode_members(members: &[Member]) -> (Vec<(u64, Resource)>, Vec<Refusal>) {
    let (mut resources, mut refused) = (Vec::new(), Vec::new());
    for member in members {
        let unknown = member
            .requires
            .iter()
            .find(|capability| !super::stream::CAPABILITIES.contains(&capability.as_str()));
        let outcome = match unknown {
            Some(capability) => Err(format!("this build lacks the capability {capability:?}")),
            None => decode(&member.body).map_err(|error| super::channel::chain(&error)),
        };
        match outcome {
            Ok(resource) => resources.push((member.version, resource)),
            Err(reason) => refused.push(Refusal { key: member.key.clone(), reason }),
        }
    }
    (resources, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DnsName, Host, Secret};
    use crate::wire::encode;

    fn name(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn resource(text: &str, ttl: u32) -> Resource {
        Resource::Name(DnsName { name: name(text), addresses: Vec::new(), ttl })
    }

    fn update(root: &Root, members: &[Resource], closure: &[Resource]) -> Update {
        let member = |resource: &Resource| {
            let encoded = encode(resource);
            Member {
                key: encoded.key,
                version: encoded.version,
                body: encoded.body.to_vec(),
                requires: Vec::new(),
            }
        };
        Update {
            sequence: 1,
            generation: 1,
            root: encode_root(root),
            members: members.iter().map(member).collect(),
            closure: closure.iter().map(|resource| encode_key(&resource.key())).collect(),
        }
    }

    fn keys(held: &Held) -> Vec<String> {
        held.config.iter().map(|(key, _)| key.name.clone()).collect()
    }

    #[test]
    fn members_shared_by_two_roots_stay_until_neither_names_them() {
        let (one, two) = (Root::Name(name("one")), Root::Name(name("two")));
        let (a, b) = (resource("a", 1), resource("b", 1));
        let mut held = Held::default();
        assert!(
            held.apply(&update(&one, &[a.clone(), b.clone()], &[a.clone(), b.clone()])).refused.is_empty()
        );
        assert!(held.apply(&update(&two, &[], std::slice::from_ref(&b))).refused.is_empty());
        held.apply(&update(&one, &[], std::slice::from_ref(&a)));
        assert_eq!(keys(&held), ["a", "b"]);
        held.not_found(&NotFound { root: encode_root(&two), generation: 1 });
        assert_eq!(keys(&held), ["a"]);
        assert!(held.config.absent().contains(&two));
    }

    #[test]
    fn a_refused_member_keeps_the_whole_previous_closure() {
        let root = Root::Name(name("one"));
        let mut held = Held::default();
        held.apply(&update(&root, &[resource("a", 1)], &[resource("a", 1)]));
        let mut bad =
            update(&root, &[resource("a", 2), resource("b", 1)], &[resource("a", 2), resource("b", 1)]);
        bad.members[1].body = b"{}".to_vec();
        assert_eq!(held.apply(&bad).refused.len(), 1);
        assert_eq!(held.config.get(&resource("a", 1).key()).map(|r| (**r).clone()), Some(resource("a", 1)));
        bad.members[1] = Member { requires: vec!["time-travel".into()], ..bad.members[0].clone() };
        assert!(held.apply(&bad).refused[0].reason.contains("time-travel"));
    }

    /// One tenant's bad secret must not keep a shared gateway from all that others change (TM-06).
    #[test]
    fn a_secret_that_cannot_be_used_is_refused_alone() {
        let root = Root::Own;
        let secret = |key: &str| {
            let signed = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
            let (certificates, own) = (signed.cert.pem(), signed.signing_key.serialize_pem());
            let private_key = if key.is_empty() { own } else { key.to_owned() };
            let name = "default/cert".to_owned();
            Resource::Secret(Secret { name, certificates, private_key, trust_anchors: String::new() })
        };
        let (good, bad) = (secret(""), secret("none"));
        let mut held = Held::default();
        let all = [good.clone(), resource("a", 1)];
        assert!(held.apply(&update(&root, &all, &all)).refused.is_empty());
        let all = [bad.clone(), resource("a", 2)];
        let refused = held.apply(&update(&root, &all, &all)).refused;
        assert_eq!(refused.iter().map(|refusal| &refusal.key).collect::<Vec<_>>(), [&encode_key(&bad.key())]);
        let now = |resource: &Resource| held.config.get(&resource.key()).map(|held| (**held).clone());
        assert_eq!((now(&bad), now(&all[1])), (Some(good), Some(all[1].clone())));
        let told =
            held.subscriptions()[0].held.iter().find(|held| held.key == encode_key(&bad.key())).cloned();
        assert_ne!(told.unwrap().version, encode(&bad).version, "so that it comes again, and is told again");
    }

    #[test]
    fn a_reconnect_names_what_is_held() {
        let root = Root::Name(name("one"));
        let mut held = Held::default();
        held.ask(&root);
        held.apply(&update(&root, &[resource("a", 1)], &[resource("a", 1)]));
        let subscriptions = held.subscriptions();
        assert_eq!(subscriptions[0], Subscription { root: encode_root(&Root::Own), held: Vec::new() });
        assert_eq!(subscriptions[1].held[0].version, encode(&resource("a", 1)).version);
    }

    #[test]
    fn the_number_of_roots_is_bounded() {
        let mut held = Held::default();
        for index in 0..=MAX_ROOTS {
            held.ask(&Root::Name(name(&format!("n{index}"))));
        }
        assert_eq!(held.subscriptions().len(), 1 + MAX_ROOTS);
        assert_eq!(held.ask(&Root::Name(name("n1"))), None);
        assert!(held.ask(&Root::Name(name("n0"))).is_some(), "the oldest went and is asked for again");
    }
}
