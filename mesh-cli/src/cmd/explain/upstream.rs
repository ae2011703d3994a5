//! From the plan to the application: action, cluster, endpoint, and the destination's inbound side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mesh_control::api::core::Pod;
use mesh_control::translate::workload;
use mesh_core::decide::{ConnectionDecision, Decision, Entry, Peer, Plan, Target, TlsFacts};
use mesh_core::message::RequestHead;
use mesh_core::model::{
    ClusterTls, Endpoint, EndpointAddress, Host, LoadBalancer, MtlsMode, Role, Transport,
};
use mesh_core::snapshot::rule::CompiledAction;
use mesh_core::snapshot::{Cluster, CompiledRule, Pick};

use super::caller::gateway_role;
use super::hop::Hop;
use super::journey::{Journey, Sender, unknown};
use super::report::{Fate, Outcome, Step, Topic};

/// Where a decision sends something.
pub(super) struct Towards {
    pub(super) target: Target,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) hash: Option<u64>,
}

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Plain,
    MeshTls,
    /// TLS of the destination's own.
    Originated,
}

impl Journey<'_> {
    /// What the rule does with the request, besides choosing a backend.
    pub(super) fn action(&mut self, pod: &str, plan: &Plan, before: &RequestHead, head: &mut RequestHead) {
        let mut details = plan.rule.as_ref().map_or_else(Vec::new, |rule| weights(rule, plan.backend));
        if (&before.path, &before.authority) != (&head.path, &head.authority) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            details.push(format!("rewritten to {}{}", text(&head.authority), text(&head.path)));
            if let Ok((host, _)) = Host::parse_authority(&text(&head.authority)) {
                head.host = host;
            }
        }
        details.extend(plan.timeout.map(|timeout| format!("timeout {timeout:?} for all tries")));
        match plan.retry.attempts {
            0 => {}
            1 => details.push("1 retry".to_owned()),
            attempts => details.push(format!("up to {attempts} retries")),
        }
        let mirrors = plan.mirrors.iter().map(|(mirror, _)| format!("a copy goes to {}", mirror.model.name));
        details.extend(mirrors);
        let text = match &plan.cluster {
            Some(cluster) => format!("forwards to {}", cluster.model.name),
            None => "forwards to where the caller wanted".to_owned(),
        };
        // The trail's own words about the backend say the same.
        self.steps.pop_if(|step| step.topic == Topic::Action);
        self.steps.push(Step::new(pod, Topic::Action, text).with(details));
    }

    pub(super) fn forward(
        &mut self,
        mut hop: Hop<'_>,
        towards: Towards,
        sender: &Sender,
        head: Option<RequestHead>,
    ) -> Outcome {
        let Some(cluster) = towards.cluster else { return passed_through(&towards.target) };
        self.steps.push(self.cluster(&hop.pod, &cluster));
        if let Target::Original(_) = towards.target {
            return passed_through(&towards.target);
        }
        let pick = Pick::first(Instant::now(), &mut hop.dice, towards.hash);
        let chosen = cluster.pick(pick).map(|endpoint| endpoint.model.clone());
        let all: Vec<Endpoint> =
            cluster.endpoints().endpoints().iter().map(|endpoint| endpoint.model.clone()).collect();
        let describe = |endpoint: &Endpoint| describe(endpoint, wire(&cluster, endpoint));
        self.steps.push(endpoints(&hop.pod, &all, chosen.as_ref(), describe));
        match chosen {
            Some(endpoint) => self.arrive(&endpoint, wire(&cluster, &endpoint), sender, head),
            None => {
                let failure = mesh_core::failure::Failure::NoHealthyUpstream;
                let (status, flag) = (failure.consequence().status, failure.consequence().flag);
                let text =
                    format!("the proxy of {} answers {status} ({flag}): no endpoint is ready", hop.pod);
                Outcome { result: Fate::Answered, text, status: Some(status), flag: Some(flag) }
            }
        }
    }

    /// To one of a service's pods, without a proxy's choice.
    pub(super) fn unmanaged(
        &mut self,
        pod: &str,
        all: &[Endpoint],
        sender: &Sender,
        head: Option<RequestHead>,
    ) -> Outcome {
        let chosen = all.first();
        self.steps.push(endpoints(pod, all, chosen, |endpoint| describe(endpoint, Wire::Plain)));
        match chosen {
            Some(endpoint) => self.arrive(endpoint, Wire::Plain, sender, head),
            None => Outcome::new(Fate::Refused, "no pod of the service is ready"),
        }
    }

    fn cluster(&self, pod: &str, cluster: &Cluster) -> Step {
        let model = &cluster.model;
        let tls = match &model.tls {
            ClusterTls::Auto => "mesh TLS where the endpoint has it".to_owned(),
            ClusterTls::Disabled => "no TLS".to_owned(),
            ClusterTls::Mesh { sni: None } => "mesh TLS always".to_owned(),
            ClusterTls::Mesh { sni: Some(name) } => format!("mesh TLS always, asking for {name}"),
            ClusterTls::Originate { sni, .. } => {
                format!("TLS to {}", sni.as_deref().unwrap_or(model.service.as_str()))
            }
        };
        let outlier = if model.outlier.is_some() { ", failing endpoints are left out" } else { "" };
        let text = format!("{}: {}, {tls}{outlier}", model.name, balancer(&model.load_balancer));
        Step::new(pod, Topic::Cluster, text).by(model.origin.as_ref(), self.view.world())
    }

    fn arrive(
        &mut self,
        endpoint: &Endpoint,
        wire: Wire,
        sender: &Sender,
        head: Option<RequestHead>,
    ) -> Outcome {
        let view = self.view;
        let (EndpointAddress::Socket(address), facts) = (&endpoint.address, &endpoint.workload) else {
            return Outcome::new(Fate::PassedThrough, format!("goes to {}", at(&endpoint.address)));
        };
        let Some(pod) = view.world().get::<Pod>(&facts.namespace, &facts.pod) else {
            return Outcome::new(Fate::PassedThrough, format!("goes to {address}"));
        };
        let served =
            Outcome::new(Fate::Served, format!("{}/{} gets it at {address}", facts.namespace, facts.pod));
        let name = format!("{}/{}", facts.namespace, facts.pod);
        self.facts.pod = Some(name.clone());
        self.facts.mutual_tls = Some(wire == Wire::MeshTls);
        if gateway_role(&pod).is_some() {
            let text = "is a gateway; `--from` it explains what comes next";
            self.steps.push(Step::new(&name, Topic::Inbound, text));
            return served;
        }
        if !workload::is_meshed(&pod) {
            let text = "has no sidecar: takes the call as it comes, no policy applies";
            self.steps.push(Step::new(&name, Topic::Inbound, text));
            return served;
        }
        match Hop::new(view, pod, Role::Sidecar, self.chance) {
            Some(hop) => self.inbound(hop, *address, wire, sender, head).unwrap_or(served),
            None => served,
        }
    }

    /// The destination's sidecar; `None` when it lets the call in.
    fn inbound(
        &mut self,
        mut hop: Hop<'_>,
        local: SocketAddr,
        wire: Wire,
        sender: &Sender,
        head: Option<RequestHead>,
    ) -> Option<Outcome> {
        let (pod, mode) = (hop.pod.clone(), hop.snapshot.mtls_mode(local.port()));
        let identity = sender.identity.clone().filter(|_| wire == Wire::MeshTls);
        let comes = identity.as_ref().map_or_else(|| "in cleartext".to_owned(), |id| format!("as {id}"));
        let text = format!("port {}, mutual TLS {}: the call comes {comes}", local.port(), mode_name(mode));
        self.steps.push(Step::new(&pod, Topic::Inbound, text));
        if mode == MtlsMode::Strict && identity.is_none() {
            let text = format!("the proxy of {pod} closes it: mutual TLS is required");
            return Some(Outcome::new(Fate::Refused, text));
        }
        let workload = identity.is_some().then(|| Arc::new(sender.workload.clone()));
        let tls = identity.is_some().then(TlsFacts::default);
        let peer = Peer { address: sender.address, local, identity, workload, tls };
        if hop.own.authorization.is_empty() {
            self.steps.push(Step::new(&pod, Topic::Policy, "no authorization policy selects the workload"));
        }
        let entry = Entry::Inbound { port: local.port() };
        match head {
            Some(head) => {
                let (notes, decision) = hop.request(entry, &peer, &head);
                self.note(&pod, &notes);
                match decision {
                    Decision::Answer(answer) => {
                        self.facts.answered(&answer);
                        Some(Outcome::answered(&pod, &answer))
                    }
                    Decision::Need(root) => Some(unknown(&root)),
                    Decision::Forward(_) | Decision::Ask(_) => None,
                }
            }
            None => {
                let (notes, decision) = hop.connection(entry, &peer, None);
                // Without policies the trail says the same as the step above.
                self.note(&pod, if hop.own.authorization.is_empty() { &[] } else { &notes });
                match decision {
                    ConnectionDecision::Deny(denial) => {
                        self.facts.denial = Some(denial.clone());
                        Some(Outcome::new(Fate::Refused, format!("the proxy of {pod} closes it: {denial}")))
                    }
                    _ => None,
                }
            }
        }
    }
}

/// Every backend with its share; an arrow at the one that was drawn.
fn weights(rule: &CompiledRule, chosen: usize) -> Vec<String> {
    let CompiledAction::Forward(backends) = &rule.action else { return Vec::new() };
    if backends.items().len() < 2 {
        return Vec::new();
    }
    let line = |(at, backend): (usize, &mesh_core::snapshot::rule::CompiledBackend)| {
        let (weight, total) = backends.share(at);
        format!("{} {weight} of {total} to {}", arrow(at == chosen), backend.cluster)
    };
    backends.items().iter().enumerate().map(line).collect()
}

fn endpoints(
    pod: &str,
    all: &[Endpoint],
    chosen: Option<&Endpoint>,
    describe: impl Fn(&Endpoint) -> String,
) -> Step {
    let text = match all.len() {
        0 => "none is ready".to_owned(),
        1 => "1 is ready".to_owned(),
        count => format!("{count} are ready, one is drawn"),
    };
    let line = |endpoint: &Endpoint| {
        let is_chosen = chosen.is_some_and(|chosen| chosen.address == endpoint.address);
        format!("{} {}", arrow(is_chosen), describe(endpoint))
    };
    Step::new(pod, Topic::Endpoints, text).with(all.iter().map(line).collect())
}

const fn arrow(chosen: bool) -> &'static str {
    if chosen { "→" } else { " " }
}

fn describe(endpoint: &Endpoint, wire: Wire) -> String {
    let (address, workload) = (at(&endpoint.address), &endpoint.workload);
    let how = match (wire, &endpoint.identity) {
        (Wire::MeshTls, Some(identity)) => format!("mesh TLS with {identity}"),
        (Wire::MeshTls, None) => "mesh TLS".to_owned(),
        (Wire::Originated, _) => "TLS".to_owned(),
        (Wire::Plain, _) => "cleartext".to_owned(),
    };
    format!("{address} {}/{} {}, {how}", workload.namespace, workload.pod, workload.version)
}

fn at(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}

fn wire(cluster: &Cluster, endpoint: &Endpoint) -> Wire {
    match (&cluster.model.tls, endpoint.transport) {
        (ClusterTls::Mesh { .. }, _) | (ClusterTls::Auto, Transport::MeshTls) => Wire::MeshTls,
        (ClusterTls::Originate { .. }, _) => Wire::Originated,
        (ClusterTls::Disabled, _) | (ClusterTls::Auto, Transport::Plain) => Wire::Plain,
    }
}

fn passed_through(target: &Target) -> Outcome {
    let text = match target {
        Target::Original(address) => format!("goes to {address}, as the caller dialled it"),
        Target::Cluster(cluster) => format!("goes to {}", cluster.model.name),
    };
    Outcome::new(Fate::PassedThrough, text)
}

const fn balancer(balancer: &LoadBalancer) -> &'static str {
    match balancer {
        LoadBalancer::LeastRequest => "least requests",
        LoadBalancer::RoundRobin => "in turn",
        LoadBalancer::Random => "at random",
        LoadBalancer::ConsistentHash(_) => "by hash",
        LoadBalancer::OriginalDestination => "the address dialled",
    }
}

const fn mode_name(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "disabled",
        MtlsMode::Permissive => "permissive",
        MtlsMode::Strict => "strict",
    }
}
