//! What becomes of a connection that is not HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use super::authz::{self, Denial};
use super::trail::{Note, NoteKind, Trail};
use super::{Entry, Peer, Target};
use crate::dice::Dice;
use crate::failure::Failure;
use crate::model::{Host, ListenerProtocol, LoadBalancer, Origin, OutboundPolicy, Root, is_allotted};
use crate::snapshot::address::CompiledTcpRoute;
use crate::snapshot::weighted::Weighted;
use crate::snapshot::{Cluster, Lookup, Own, Snapshot};

/// The outcome for a connection.
#[derive(Debug)]
pub enum ConnectionDecision {
    /// Forward by this plan.
    Forward(ConnectionPlan),
    /// Close it.
    Refuse(Failure),
    /// Close it: policy denies it.
    Deny(Denial),
    /// Ask the control plane for this, then decide again on the new snapshot.
    Need(Root),
}

/// How a connection is to be forwarded.
#[derive(Debug, Clone)]
pub struct ConnectionPlan {
    /// Where to.
    pub target: Target,
    /// The cluster, also where it sends to the address that was dialled; `None` for pass-through and inbound.
    pub cluster: Option<Arc<Cluster>>,
    /// The route's object, if a route matched.
    pub origin: Option<Origin>,
}

/// Decides on a connection; `sni` is the server name of TLS that is not terminated here.
pub fn decide_connection(
    snapshot: &Snapshot,
    entry: Entry<'_>,
    peer: &Peer,
    sni: Option<&Host>,
    dice: &mut Dice,
    trail: &mut Trail,
) -> ConnectionDecision {
    let decide = Connection { snapshot, sni };
    match entry {
        Entry::Outbound { destination } => decide.outbound(destination, dice, trail),
        Entry::Inbound { .. } | Entry::Gateway { .. } => {
            let Some(own) = snapshot.own() else { return ConnectionDecision::Need(Root::Own) };
            let caller = authz::caller_of_connection(entry, peer, sni);
            if let Err(denial) = authz::evaluate(&own.authorization, &caller, trail) {
                return ConnectionDecision::Deny(denial);
            }
            match entry {
                Entry::Gateway { port, .. } => decide.gateway(own, port, dice, trail),
                _ => original(own.application(peer.local)),
            }
        }
    }
}

fn original(address: SocketAddr) -> ConnectionDecision {
    let target = Target::Original(address);
    ConnectionDecision::Forward(ConnectionPlan { target, cluster: None, origin: None })
}

struct Connection<'a> {
    snapshot: &'a Snapshot,
    sni: Option<&'a Host>,
}

impl Connection<'_> {
    fn outbound(&self, address: SocketAddr, dice: &mut Dice, trail: &mut Trail) -> ConnectionDecision {
        let destination = match self.snapshot.address(address) {
            Lookup::Found(destination) => destination,
            Lookup::Unknown => return ConnectionDecision::Need(Root::Address(address)),
            Lookup::NotFound => return self.undeclared(address, trail),
        };
        match self.route(&destination.tcp_routes, trail) {
            Some(route) => self.weighted(&route.backends, &route.origin, Some(address), dice, trail),
            None => self.to(&destination.cluster, None, Some(address), trail),
        }
    }

    fn undeclared(&self, address: SocketAddr, trail: &mut Trail) -> ConnectionDecision {
        match self.snapshot.own().map(|own| own.model().outbound_policy) {
            None => ConnectionDecision::Need(Root::Own),
            Some(OutboundPolicy::RegistryOnly) => ConnectionDecision::Refuse(Failure::Blocked),
            Some(OutboundPolicy::AllowAny) => {
                trail.note(|| {
                    Note::new(NoteKind::Matched, format!("{address} is not declared: passed through"))
                });
                original(address)
            }
        }
    }

    fn gateway(&self, own: &Own, port: u16, dice: &mut Dice, trail: &mut Trail) -> ConnectionDecision {
        let routes = match own.listener(port) {
            Some((listener, _)) if listener.protocol == ListenerProtocol::Tls => {
                own.server(port, self.sni).map(|(_, routes)| routes)
            }
            Some((_, compiled)) => Some(&*compiled.tcp_routes),
            None => None,
        };
        match routes.and_then(|routes| self.route(routes, trail)) {
            Some(route) => self.weighted(&route.backends, &route.origin, None, dice, trail),
            None => ConnectionDecision::Refuse(Failure::NoRoute),
        }
    }

    fn route<'r>(&self, routes: &'r [CompiledTcpRoute], trail: &mut Trail) -> Option<&'r CompiledTcpRoute> {
        let route = routes.iter().find(|route| route.matches(self.sni))?;
        trail.note(|| Note::new(NoteKind::Matched, "route for connections matches".into()).by(&route.origin));
        Some(route)
    }

    fn weighted(
        &self,
        backends: &Weighted<Box<str>>,
        origin: &Origin,
        dialled: Option<SocketAddr>,
        dice: &mut Dice,
        trail: &mut Trail,
    ) -> ConnectionDecision {
        match backends.pick(dice) {
            Some(at) => self.to(&backends.items()[at], Some(origin), dialled, trail),
            None => ConnectionDecision::Refuse(Failure::InvalidBackend),
        }
    }

    fn to(
        &self,
        name: &str,
        origin: Option<&Origin>,
        dialled: Option<SocketAddr>,
        trail: &mut Trail,
    ) -> ConnectionDecision {
        let Some(cluster) = self.snapshot.cluster(name) else {
            trail.note(|| Note::new(NoteKind::Answer, format!("cluster {name} is not defined")));
            return ConnectionDecision::Refuse(Failure::NoCluster);
        };
        trail.note(|| Note::new(NoteKind::Backend, format!("cluster {name} takes it")));
        let target = match (&cluster.model.load_balancer, dialled) {
            (LoadBalancer::OriginalDestination, Some(address)) if !is_allotted(address.ip()) => {
                Target::Original(address)
            }
            _ => Target::Cluster(Arc::clone(cluster)),
        };
        let (cluster, origin) = (Some(Arc::clone(cluster)), origin.cloned());
        ConnectionDecision::Forward(ConnectionPlan { target, cluster, origin })
    }
}
