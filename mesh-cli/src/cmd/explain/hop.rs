//! One proxy, asked offline as the engine asks it: it learns from the view what it needs when it needs it.

use std::time::Instant;

use mesh_control::api::Item;
use mesh_control::api::core::Pod;
use mesh_control::view::{Proxy, View};
use mesh_core::decide::custom::Authorized;
use mesh_core::decide::{
    ConnectionDecision, Decide, Decision, Entry, Note, NoteKind, Peer, Question, Reply, Request, Trail,
    decide_connection,
};
use mesh_core::dice::Dice;
use mesh_core::message::RequestHead;
use mesh_core::model::{Host, Own, Resource, Role, Root};
use mesh_core::snapshot::{Config, Snapshot, compile};
use mesh_core::tls::Signatures;
use mesh_core::wire;

use super::chance::Chance;

/// A request needs an address, a host and its own; more questions than these would not end.
const MAX_QUESTIONS: usize = 24;
/// One draw stands for all: the report has the weights.
const SEED: u64 = 1;

/// A proxy with what it has learnt so far.
pub(super) struct Hop<'v> {
    view: &'v View,
    /// `namespace/pod`.
    pub(super) pod: String,
    pub(super) own: Own,
    proxy: Proxy,
    chance: Chance,
    config: Config,
    pub(super) snapshot: Snapshot,
    pub(super) dice: Dice,
}

impl<'v> Hop<'v> {
    /// The proxy of a pod; `None` when the control plane would have nothing for it.
    pub(super) fn new(view: &'v View, pod: Item<'v, Pod>, role: Role, chance: Chance) -> Option<Self> {
        let account = pod.spec.spec.service_account_name.as_deref().unwrap_or("default");
        let proxy = Proxy {
            role,
            namespace: pod.namespace().to_owned(),
            pod: pod.name().to_owned(),
            service_account: account.to_owned(),
        };
        let resources = closure(view, &proxy, &Root::Own, chance)?;
        let own = resources.iter().find_map(|resource| match resource {
            Resource::Own(own) => Some(Own::clone(own)),
            _ => None,
        })?;
        let config: Config = resources.into_iter().collect();
        let snapshot = compile(None, &config).0;
        let dice = Dice::seeded(SEED);
        Some(Self { view, pod: name(&pod), own, proxy, chance, config, snapshot, dice })
    }

    /// What the control plane answers to a root.
    pub(super) fn ask(&self, root: &Root) -> Option<Vec<Resource>> {
        closure(self.view, &self.proxy, root, self.chance)
    }

    /// The Sidecar that hides what a root asks for.
    pub(super) fn hider(&self, root: &Root) -> Option<String> {
        self.view.hidden_by(&self.proxy, root).map(|key| key.to_string())
    }

    /// Takes in a root, or that there is nothing.
    pub(super) fn learn(&mut self, root: Root) {
        match self.ask(&root) {
            Some(resources) => resources.into_iter().for_each(|resource| self.config.insert(resource)),
            None => self.config.set_absent(root),
        }
        self.snapshot = compile(Some(&self.snapshot), &self.config).0;
    }

    /// Decides on a request, with the reasons.
    pub(super) fn request(
        &mut self,
        entry: Entry<'_>,
        peer: &Peer,
        head: &RequestHead,
    ) -> (Vec<Note>, Decision) {
        let (mut decide, mut faults) = (Decide::new(), Vec::new());
        let (mut head, signatures) = (head.clone(), Signatures::default());
        let mut last = Root::Own;
        for _ in 0..MAX_QUESTIONS {
            let mut trail = Trail::on();
            let request = Request { snapshot: &self.snapshot, entry, peer, head: &head, now: Instant::now() };
            match decide.step(&request, &mut self.dice, &mut trail) {
                Decision::Need(root) => {
                    last = root.clone();
                    self.learn(root);
                }
                Decision::Ask(Question::Wait(_)) => {
                    faults.extend(trail.notes().iter().filter(|note| note.kind == NoteKind::Fault).cloned());
                    decide.resume(Reply::Waited);
                }
                Decision::Ask(Question::Signatures(checks)) => {
                    faults.extend(trail.notes().iter().cloned());
                    decide.resume(Reply::Checked(signatures.check(&checks)));
                }
                Decision::Ask(Question::Edit(edits)) => {
                    edits.apply(&mut head);
                    decide.resume(Reply::Edited);
                }
                Decision::Ask(Question::Authorize(_)) => {
                    // Nobody is asked on the way of an explanation: it goes on as if the authorizer allowed.
                    faults.extend(trail.notes().last().cloned());
                    decide.resume(Reply::Authorized(Authorized::Allowed));
                }
                decision => {
                    let mut notes = trail.notes().to_vec();
                    let rule = notes.iter().rposition(|note| note.kind == NoteKind::Matched);
                    let after = rule.map_or(notes.len(), |rule| rule + 1);
                    notes.splice(after..after, faults);
                    return (notes, decision);
                }
            }
        }
        (faults, Decision::Need(last))
    }

    /// Decides on a connection that is not HTTP, with the reasons.
    pub(super) fn connection(
        &mut self,
        entry: Entry<'_>,
        peer: &Peer,
        sni: Option<&Host>,
    ) -> (Vec<Note>, ConnectionDecision) {
        let mut last = Root::Own;
        for _ in 0..MAX_QUESTIONS {
            let mut trail = Trail::on();
            match decide_connection(&self.snapshot, entry, peer, sni, &mut self.dice, &mut trail) {
                ConnectionDecision::Need(root) => {
                    last = root.clone();
                    self.learn(root);
                }
                decision => return (trail.notes().to_vec(), decision),
            }
        }
        (Vec::new(), ConnectionDecision::Need(last))
    }
}

/// What travels to the proxy, as it reads it.
fn closure(view: &View, proxy: &Proxy, root: &Root, chance: Chance) -> Option<Vec<Resource>> {
    let encoded = view.closure(proxy, root)?;
    let mut resources: Vec<_> =
        encoded.iter().filter_map(|encoded| wire::decode(&encoded.body).ok()).collect();
    resources.iter_mut().for_each(|resource| chance.settle(resource));
    Some(resources)
}

/// `namespace/pod`.
pub(super) fn name(pod: &Item<'_, Pod>) -> String {
    format!("{}/{}", pod.namespace(), pod.name())
}
