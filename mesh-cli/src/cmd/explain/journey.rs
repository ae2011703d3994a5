//! The way of a request: out through the caller's sidecar or in through the ingress gateway, then to the destination.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh_control::api::Item;
use mesh_control::api::core::Pod;
use mesh_control::translate::workload;
use mesh_control::view::View;
use mesh_control::world::target_port;
use mesh_core::canonical;
use mesh_core::decide::{ConnectionDecision, Decision, Entry, Note, Peer};
use mesh_core::identity::SpiffeId;
use mesh_core::message::RequestHead;
use mesh_core::model::{Host, Listener, ListenerProtocol, Protocol, Resource, Role, Root, Workload};

use super::call::Call;
use super::caller::{find, gateway_role, ingress};
use super::chance::Chance;
use super::facts::Facts;
use super::hop::{Hop, name};
use super::report::{Fate, Outcome, Report, Step, Topic};
use super::upstream::Towards;
use crate::cmd::Failure;

/// Where clients outside the mesh call from: reserved for documentation (RFC 5737).
const OUTSIDE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// Stands for whatever DNS says of a name that is not the mesh's (RFC 5737).
const OUTSIDE_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Any ephemeral port.
const CLIENT_PORT: u16 = 40_000;

/// Explains a call from a pod, or from outside the mesh.
pub(super) fn explain(view: &View, from: Option<&str>, call: Call) -> anyhow::Result<Report> {
    examine(view, from, call, Chance::default()).map(|(report, _)| report)
}

/// As [`explain`], with what was decided as values.
pub(in crate::cmd) fn examine(
    view: &View,
    from: Option<&str>,
    call: Call,
    chance: Chance,
) -> anyhow::Result<(Report, Facts)> {
    let caller = match from {
        Some(workload) => find(view.world(), workload)?,
        None => ingress(view.world())?,
    };
    let path = String::from_utf8_lossy(&call.head.path).into_owned();
    let request = format!("{} {}{path}", call.head.method.as_str(), call.head.host);
    let mut journey = Journey { view, call, chance, steps: Vec::new(), facts: Facts::default() };
    let outcome = match gateway_role(&caller) {
        Some(role) => journey.through_gateway(caller, role),
        None if workload::is_meshed(&caller) => journey.through_sidecar(caller),
        None => journey.directly(caller),
    };
    let from = from.map_or_else(|| "outside the mesh".to_owned(), |_| name(&caller));
    let outcome = outcome
        .ok_or_else(|| Failure::Finding(format!("the control plane has nothing for {}", name(&caller))))?;
    let Journey { steps, facts, .. } = journey;
    Ok((Report { version: 1, request: format!("{request} from {from}"), steps, outcome }, facts))
}

/// A request under way, with the steps so far.
pub(super) struct Journey<'v> {
    pub(super) view: &'v View,
    call: Call,
    pub(super) chance: Chance,
    pub(super) steps: Vec<Step>,
    pub(super) facts: Facts,
}

/// Who sends on the last leg.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) address: SocketAddr,
    pub(super) identity: Option<SpiffeId>,
    pub(super) workload: Workload,
}

impl Sender {
    fn proxy(hop: &Hop<'_>, pod: &Item<'_, Pod>) -> Self {
        Self { identity: Some(hop.own.identity.clone()), ..Self::application(pod) }
    }

    fn application(pod: &Item<'_, Pod>) -> Self {
        let address = SocketAddr::new(pod.status.pod_ip.unwrap_or(OUTSIDE_CLIENT), CLIENT_PORT);
        Self { address, identity: None, workload: workload::facts(pod) }
    }
}

impl<'v> Journey<'v> {
    fn through_sidecar(&mut self, caller: Item<'v, Pod>) -> Option<Outcome> {
        let mut hop = Hop::new(self.view, caller, Role::Sidecar, self.chance)?;
        let destination = self.dial(&hop);
        hop.learn(Root::Address(destination));
        let found = hop.snapshot.address(destination).found();
        let protocol = found.map_or(Protocol::Detect, |found| found.protocol);
        let of = found.map_or_else(
            || nobody(&hop, &Root::Address(destination)),
            |found| format!("of {}, {protocol:?}", found.service),
        );
        let text = format!("the sidecar captures the connection to {destination}, {of}");
        self.steps.push(Step::new(&hop.pod, Topic::Listener, text));
        let sender = Sender::proxy(&hop, &caller);
        let peer =
            Peer { address: sender.address, local: destination, identity: None, workload: None, tls: None };
        let entry = Entry::Outbound { destination };
        match (protocol, self.call.tls) {
            (protocol, true) if protocol.is_http() => {
                let text = format!("the port is declared {protocol:?}, so the caller's own TLS is refused");
                Some(Outcome::new(Fate::Refused, text))
            }
            (_, true) => Some(self.connection(hop, entry, &peer, sender, true)),
            (Protocol::Tcp | Protocol::Tls, false) => Some(self.connection(hop, entry, &peer, sender, false)),
            (_, false) => Some(self.request(hop, entry, &peer, sender)),
        }
    }

    /// A pod without a proxy: no route applies, only the destination's inbound side.
    fn directly(&mut self, caller: Item<'v, Pod>) -> Option<Outcome> {
        let hop = Hop::new(self.view, caller, Role::Sidecar, self.chance)?;
        let text = "the caller has no sidecar: no route applies, and the call has no identity";
        self.steps.push(Step::new(&hop.pod, Topic::Listener, text));
        let destination = self.dial(&hop);
        let resources = hop.ask(&Root::Address(destination)).unwrap_or_default();
        let endpoints = resources.into_iter().find_map(|resource| match resource {
            Resource::Endpoints(endpoints) => Some(endpoints.endpoints),
            _ => None,
        });
        let sender = Sender::application(&caller);
        match endpoints {
            None => Some(Outcome::new(Fate::PassedThrough, format!("goes to {destination} as it is"))),
            Some(endpoints) => {
                let head = (!self.call.tls).then(|| self.call.head.clone());
                Some(self.unmanaged(&hop.pod, &endpoints, &sender, head))
            }
        }
    }

    fn through_gateway(&mut self, pod: Item<'v, Pod>, role: Role) -> Option<Outcome> {
        let hop = Hop::new(self.view, pod, role, self.chance)?;
        let port = self.listener_port(&hop, &pod);
        let Some(listener) = hop.own.listeners.iter().find(|listener| listener.port == port) else {
            let open: Vec<_> = hop.own.listeners.iter().map(|listener| listener.port.to_string()).collect();
            let open = if open.is_empty() { "none".to_owned() } else { open.join(", ") };
            let text = format!("no Gateway or Ingress opens port {port} of {}; open ports: {open}", hop.pod);
            self.steps.push(Step::new(&hop.pod, Topic::Listener, text.clone()));
            return Some(Outcome::new(Fate::Refused, text));
        };
        let listener = listener.clone();
        let local = SocketAddr::new(pod.status.pod_ip.unwrap_or(OUTSIDE_SERVER), port);
        let address = SocketAddr::new(self.call.client.unwrap_or(OUTSIDE_CLIENT), CLIENT_PORT);
        let peer = Peer { address, local, identity: None, workload: None, tls: None };
        let sender = Sender::proxy(&hop, &pod);
        Some(self.at_listener(hop, &listener, &peer, sender))
    }

    fn at_listener(&mut self, hop: Hop<'v>, listener: &Listener, peer: &Peer, sender: Sender) -> Outcome {
        let Listener { port, protocol, .. } = *listener;
        let text =
            format!("the gateway listens on port {port}, {protocol:?}; the client is {}", peer.address.ip());
        let step = Step::new(&hop.pod, Topic::Listener, text);
        let host = &self.call.head.host;
        match (protocol, &listener.routes, self.call.tls) {
            (ListenerProtocol::Http, Some(routes), false) => {
                self.steps.push(step);
                self.request(hop, Entry::Gateway { port, routes, tls: false }, peer, sender)
            }
            (ListenerProtocol::Tls, _, true) => {
                let server = hop.snapshot.own().and_then(|own| own.server(port, Some(host)));
                let Some((server, _)) = server else {
                    self.steps.push(step);
                    return Outcome::new(
                        Fate::Refused,
                        format!("no server on port {port} has the name {host}"),
                    );
                };
                let server = server.clone();
                let secret = server.tls.secret.as_ref().map(|secret| format!(", certificate of {secret}"));
                let tls = format!("TLS {:?}{}", server.tls.mode, secret.unwrap_or_default());
                self.steps.push(step.by(Some(&server.origin), self.view.world()).with(vec![tls]));
                match &server.routes {
                    Some(routes) => {
                        self.request(hop, Entry::Gateway { port, routes, tls: true }, peer, sender)
                    }
                    None => self.connection(
                        hop,
                        Entry::Gateway { port, routes: "", tls: true },
                        peer,
                        sender,
                        true,
                    ),
                }
            }
            (ListenerProtocol::Tcp, ..) => {
                self.steps.push(step);
                let sni = self.call.tls;
                self.connection(hop, Entry::Gateway { port, routes: "", tls: false }, peer, sender, sni)
            }
            (_, _, tls) => {
                self.steps.push(step);
                let spoken = if tls { "TLS" } else { "cleartext" };
                Outcome::new(
                    Fate::Refused,
                    format!("port {port} is {protocol:?}, the client speaks {spoken}"),
                )
            }
        }
    }

    /// The listener that the URL's port leads to: itself, or by way of the gateway's Service (80 for 8080).
    fn listener_port(&self, hop: &Hop<'_>, pod: &Item<'_, Pod>) -> u16 {
        let asked = self.call.port;
        let listens = |port: u16| hop.own.listeners.iter().any(|listener| listener.port == port);
        let services: Vec<_> = self.view.world().services_of(pod).collect();
        let ports = services.iter().flat_map(|service| &service.spec.ports);
        let pairs = ports.filter_map(|port| Some((port.port, target_port(port, pod.spec)?)));
        let mut leads = pairs.flat_map(|(port, target)| [(port, target), (target, port)]);
        let found = leads.find(|&(from, to)| from == asked && listens(to)).map(|(_, to)| to);
        found.filter(|_| !listens(asked)).unwrap_or(asked)
    }

    /// What the caller's resolver makes of the URL's host.
    fn dial(&mut self, hop: &Hop<'_>) -> SocketAddr {
        let host = &self.call.dialled;
        let literal = host.as_str().trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let resolve = || {
            hop.ask(&Root::Name(host.clone()))?.into_iter().find_map(|resource| match resource {
                Resource::Name(name) => name.addresses.first().copied(),
                _ => None,
            })
        };
        let address = literal.or_else(resolve).unwrap_or_else(|| {
            let known = match hop.hider(&Root::Name(host.clone())) {
                Some(hider) => format!("{host} is hidden by {hider}"),
                None => format!("{host} is no name of the mesh"),
            };
            let text = format!("{known}; {OUTSIDE_SERVER} stands for what DNS says");
            self.steps.push(Step::new(&hop.pod, Topic::Listener, text));
            OUTSIDE_SERVER
        });
        SocketAddr::new(address, self.call.port)
    }

    fn request(&mut self, mut hop: Hop<'v>, entry: Entry<'_>, peer: &Peer, sender: Sender) -> Outcome {
        let mut head = self.call.head.clone();
        if let Err(failure) = canonicalize(&mut head, &hop) {
            return Outcome::new(Fate::Answered, format!("the path is refused: {failure}"));
        }
        let (notes, decision) = hop.request(entry, peer, &head);
        self.note(&hop.pod, &notes);
        match decision {
            Decision::Forward(plan) => {
                let before = head.clone();
                plan.edit_request(&mut head);
                if let Entry::Gateway { .. } = entry {
                    head.headers.append("x-forwarded-for", peer.address.ip().to_string());
                }
                self.action(&hop.pod, &plan, &before, &mut head);
                self.facts.planned(&plan, &head);
                let towards = Towards { target: plan.target, cluster: plan.cluster, hash: plan.hash };
                self.forward(hop, towards, &sender, Some(head))
            }
            Decision::Answer(answer) => {
                self.facts.answered(&answer);
                Outcome::answered(&hop.pod, &answer)
            }
            Decision::Need(root) => unknown(&root),
            Decision::Ask(_) => unknown(&Root::Own),
        }
    }

    fn connection(
        &mut self,
        mut hop: Hop<'v>,
        entry: Entry<'_>,
        peer: &Peer,
        sender: Sender,
        sni: bool,
    ) -> Outcome {
        let sni: Option<&Host> = sni.then_some(&self.call.head.host);
        let (notes, decision) = hop.connection(entry, peer, sni);
        self.note(&hop.pod, &notes);
        match decision {
            ConnectionDecision::Forward(plan) => {
                self.facts.reached(plan.cluster.as_deref());
                let towards = Towards { target: plan.target, cluster: plan.cluster, hash: None };
                self.forward(hop, towards, &sender, None)
            }
            ConnectionDecision::Refuse(failure) => {
                Outcome::new(Fate::Refused, format!("the proxy of {} closes it: {failure}", hop.pod))
            }
            ConnectionDecision::Deny(denial) => {
                Outcome::new(Fate::Refused, format!("the proxy of {} closes it: {denial}", hop.pod))
            }
            ConnectionDecision::Need(root) => unknown(&root),
        }
    }

    /// Takes over the reasons that `decide` gave.
    pub(super) fn note(&mut self, pod: &str, notes: &[Note]) {
        let world = self.view.world();
        self.steps.extend(notes.iter().map(|note| Step::from_note(pod, note, world)));
    }
}

fn nobody(hop: &Hop<'_>, root: &Root) -> String {
    let hider = hop.hider(root).map(|hider| format!("which {hider} hides"));
    hider.unwrap_or_else(|| "which nobody declares".to_owned())
}

/// As the engine does before it decides: one path for routes, policy and the upstream.
fn canonicalize(head: &mut RequestHead, hop: &Hop<'_>) -> Result<(), mesh_core::failure::Failure> {
    head.path = canonical::path(&head.path, hop.own.mesh.path_normalization)?;
    Ok(())
}

pub(super) fn unknown(root: &Root) -> Outcome {
    Outcome::new(Fate::Refused, format!("the control plane does not tell what is needed: {root}"))
}
