//! From a request to the rule, plan or answer that takes it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::answer::is_grpc;
use super::trail::{Note, NoteKind, Trail};
use super::{Answer, Decision, Entry, Plan, Reason, Request, Target, authz, cors, hash, limit, redirect};
use crate::dice::Dice;
use crate::failure::Failure;
use crate::message::{RequestHead, Scheme};
use crate::model::{Host, LoadBalancer, OutboundPolicy, Protocol, Root, is_allotted};
use crate::snapshot::rule::{CompiledAction, CompiledBackend};
use crate::snapshot::table::Matched;
use crate::snapshot::token::Claims;
use crate::snapshot::weighted::Weighted;
use crate::snapshot::{Cluster, CompiledRule, Lookup, Own, Retry, VirtualHost};

/// What the lookups came to.
pub(super) enum Found<'a> {
    Rule(FoundRule<'a>),
    Plan(Box<Plan>),
    Answer(Box<Answer>),
    Need(Root),
}

/// The rule that takes the request.
pub(super) struct FoundRule<'a> {
    pub(super) matched: Matched<'a>,
}

impl Found<'_> {
    fn failure(failure: Failure, request: &Request<'_>, trail: &mut Trail) -> Self {
        trail.note(|| Note::new(NoteKind::Answer, format!("fails with {failure}")));
        Self::Answer(Box::new(Answer::failure(failure, request.head)))
    }
}

/// Finds what takes the request, by the way it came.
pub(super) fn find<'a>(
    request: &Request<'a>,
    token: Option<&Claims>,
    limits: &mut limit::Asked,
    dice: &mut Dice,
    trail: &mut Trail,
) -> Found<'a> {
    match request.entry {
        Entry::Outbound { destination } => outbound(request, destination, dice, trail),
        Entry::Inbound { port } => {
            authorized(request, token, limits, trail, |own, _| inbound(request, own, port))
        }
        Entry::Gateway { .. } => {
            authorized(request, token, limits, trail, |own, trail| gateway(request, token, own, trail))
        }
    }
}

/// Goes on with `next` when the workload's policies and limits let the request in.
fn authorized<'a>(
    request: &Request<'a>,
    token: Option<&Claims>,
    limits: &mut limit::Asked,
    trail: &mut Trail,
    next: impl FnOnce(&'a Own, &mut Trail) -> Found<'a>,
) -> Found<'a> {
    let Some(own) = request.snapshot.own() else { return Found::Need(Root::Own) };
    if !own.authorization.policies.is_empty() {
        let caller = authz::caller_of_request(request, token, own.model());
        if let Err(denial) = authz::evaluate(&own.authorization, &caller, trail) {
            return Found::Answer(Box::new(Answer::denied(denial, request.head)));
        }
    }
    match limits.workload(request, own, trail) {
        Some(answer) => Found::Answer(answer),
        None => next(own, trail),
    }
}

fn outbound<'a>(request: &Request<'a>, address: SocketAddr, dice: &mut Dice, trail: &mut Trail) -> Found<'a> {
    let (host, port) = (&request.head.host, address.port());
    match request.snapshot.host(host, port) {
        Lookup::Found(virtual_host) => in_virtual_host(request, None, virtual_host, trail),
        Lookup::Unknown => Found::Need(Root::Host { host: host.clone(), port }),
        Lookup::NotFound => {
            trail.note(|| Note::new(NoteKind::Lookup, format!("no routes for host {host} on port {port}")));
            by_address(request, address, dice, trail)
        }
    }
}

/// The host is not one we route by: goes where the address belongs, or is passed through.
fn by_address<'a>(
    request: &Request<'a>,
    address: SocketAddr,
    dice: &mut Dice,
    trail: &mut Trail,
) -> Found<'a> {
    match request.snapshot.address(address) {
        Lookup::Unknown => Found::Need(Root::Address(address)),
        Lookup::Found(destination) => match request.snapshot.cluster(&destination.cluster) {
            Some(cluster) => {
                trail.note(|| {
                    Note::new(NoteKind::Matched, format!("address {address} is of {}", destination.service))
                });
                let mut plan = Plan::direct(target(cluster, request), names::default(), Retry::standard());
                plan.cluster = Some(Arc::clone(cluster));
                let affinity = hash::of(cluster, request, dice);
                (plan.hash, plan.cookie) = (affinity.hash, affinity.cookie);
                plan.timeout = grpc_timeout(request.head);
                Found::Plan(Box::new(plan))
            }
            None => Found::failure(Failure::NoCluster, request, trail),
        },
        Lookup::NotFound => match request.snapshot.own().map(|own| own.model().outbound_policy) {
            None => Found::Need(Root::Own),
            Some(OutboundPolicy::RegistryOnly) => Found::failure(Failure::Blocked, request, trail),
            Some(OutboundPolicy::AllowAny) => {
                trail.note(|| {
                    Note::new(NoteKind::Matched, format!("{address} is not declared: passed through"))
                });
                Found::Plan(Box::new(Plan::direct(
                    Target::Original(address),
                    names::allow_any(),
                    Retry::never(),
                )))
            }
        },
    }
}

fn inbound<'a>(request: &Request<'a>, own: &Own, port: u16) -> Found<'a> {
    let grpc = own.inbound(port).is_some_and(|inbound| inbound.protocol == Protocol::Grpc);
    let retry = if grpc { Retry::never() } else { Retry::inbound() };
    let application = Target::Original(own.application(request.peer.local));
    Found::Plan(Box::new(Plan::direct(application, names::default(), retry)))
}

fn gateway<'a>(request: &Request<'a>, token: Option<&Claims>, own: &Own, trail: &mut Trail) -> Found<'a> {
    let Entry::Gateway { port, routes, tls } = request.entry else {
        return Found::failure(Failure::Internal, request, trail);
    };
    let host = &request.head.host;
    if tls && is_misdirected(own, port, routes, host) {
        trail.note(|| Note::new(NoteKind::Lookup, format!("another server on port {port} serves {host}")));
        return Found::failure(Failure::Misdirected, request, trail);
    }
    match request.snapshot.routes(routes).and_then(|table| table.host(host)) {
        Some(virtual_host) => in_virtual_host(request, token, virtual_host, trail),
        None => {
            trail.note(|| {
                Note::new(NoteKind::Lookup, format!("table {routes} has no routes for host {host}"))
            });
            Found::failure(Failure::NoRoute, request, trail)
        }
    }
}

/// Whether the host belongs to another TLS server than the one that SNI has led to (semantics.md 45): that server may ask
/// for a client certificate, which this connection has not shown.
fn is_misdirected(own: &Own, port: u16, routes: &str, host: &Host) -> bool {
    own.server(port, Some(host)).is_some_and(|(server, _)| server.routes.as_deref() != Some(routes))
}

fn in_virtual_host<'a>(
    request: &Request<'a>,
    token: Option<&Claims>,
    virtual_host: &'a VirtualHost,
    trail: &mut Trail,
) -> Found<'a> {
    trail.note(|| {
        Note::new(
            NoteKind::Lookup,
            format!("virtual host {} serves {}", virtual_host.name, request.head.host),
        )
    });
    let clear = request.head.scheme == Scheme::Http;
    if virtual_host.https_redirect && clear && matches!(request.entry, Entry::Gateway { tls: false, .. }) {
        trail.note(|| Note::new(NoteKind::Answer, "redirects to HTTPS".into()));
        return Found::Answer(Box::new(redirect::to_https(request.head)));
    }
    if trail.is_on() {
        note_skipped(request, token, virtual_host, trail);
    }
    match virtual_host.rule(request.head, request.entry.port(), token) {
        Some(matched) => {
            let rule = matched.rule;
            trail.note(|| {
                Note::new(NoteKind::Matched, format!("route {:?} matches", matched.route_name))
                    .by(&rule.origin)
            });
            Found::Rule(FoundRule { matched })
        }
        None => Found::failure(Failure::NoRoute, request, trail),
    }
}

/// Says of each rule before the one that matches why it does not.
fn note_skipped(
    request: &Request<'_>,
    token: Option<&Claims>,
    virtual_host: &VirtualHost,
    trail: &mut Trail,
) {
    let port = request.entry.port();
    let skipped = |rule: &&Arc<CompiledRule>| rule.matching(request.head, port, token).is_none();
    for rule in virtual_host.rules.iter().take_while(skipped) {
        for (at, each) in rule.matches.iter().enumerate() {
            if let Err(mismatch) = each.check(request.head, port, token) {
                let text = format!("route {:?} match {at}: {mismatch} does not match", rule.name);
                trail.note(|| Note::new(NoteKind::Skipped, text).by(&rule.origin));
            }
        }
    }
}

/// Does what the rule says.
pub(super) fn act(
    request: &Request<'_>,
    found: &FoundRule<'_>,
    dice: &mut Dice,
    trail: &mut Trail,
) -> Decision {
    let rule = found.matched.rule;
    match &rule.action {
        CompiledAction::Forward(backends) => forward(request, found, backends, dice, trail),
        CompiledAction::Redirect(redirect) => {
            let answer = redirect::by_rule(redirect, request.head, request.entry.port(), found);
            trail.note(|| Note::new(NoteKind::Answer, format!("redirects with {}", redirect.status)));
            Decision::Answer(Box::new(answer))
        }
        CompiledAction::Respond { status, body } => {
            trail.note(|| Note::new(NoteKind::Answer, format!("answers {status}")));
            let mut answer = Answer::new(*status, body.clone(), Reason::Direct).on(found);
            rule.response_edits.apply(&mut answer.headers);
            Decision::Answer(Box::new(answer))
        }
        CompiledAction::Refuse(failure) => fail(*failure, request, found, trail),
    }
}

fn forward(
    request: &Request<'_>,
    found: &FoundRule<'_>,
    backends: &Weighted<CompiledBackend>,
    dice: &mut Dice,
    trail: &mut Trail,
) -> Decision {
    let rule = found.matched.rule;
    let session = hash::of_split(backends, request, dice);
    let picked = match session.as_ref().and_then(|session| session.hash) {
        Some(session) => backends.at(|| hash::spread(session)),
        None => backends.pick(dice),
    };
    let Some(backend) = picked else {
        return fail(Failure::InvalidBackend, request, found, trail);
    };
    let name = &backends.items()[backend].cluster;
    trail.note(|| {
        let (weight, total) = backends.share(backend);
        Note::new(NoteKind::Backend, format!("cluster {name} takes it, as {weight} of {total} requests do"))
    });
    // A reference that the control plane found invalid has no name (semantics.md 44); a name that nobody defines is D6.
    let missing = if name.is_empty() { Failure::InvalidBackend } else { Failure::NoCluster };
    let Some(cluster) = request.snapshot.cluster(name) else { return fail(missing, request, found, trail) };
    let affinity = session.unwrap_or_else(|| hash::of(cluster, request, dice));
    let mirrors = rule.mirrors.iter().filter(|mirror| mirror.share.hits(dice.roll()));
    Decision::Forward(Box::new(Plan {
        target: target(cluster, request),
        cluster: Some(Arc::clone(cluster)),
        rule: Some(Arc::clone(rule)),
        route_name: Arc::clone(found.matched.route_name),
        backend,
        matched: found.matched.index,
        timeout: timeout(rule.timeout, request.head),
        retry: Arc::clone(&rule.retry),
        hash: affinity.hash,
        cookie: affinity.cookie,
        mirrors: mirrors
            .filter_map(|mirror| Some((request.snapshot.cluster(&mirror.cluster)?.clone(), mirror.clone())))
            .collect(),
        permits: limit::Permits::new(),
        cors_origin: rule.cors.as_ref().and_then(|policy| cors::allowed_origin(policy, request.head)),
    }))
}

fn fail(failure: Failure, request: &Request<'_>, found: &FoundRule<'_>, trail: &mut Trail) -> Decision {
    trail
        .note(|| Note::new(NoteKind::Answer, format!("fails with {failure}")).by(&found.matched.rule.origin));
    Decision::Answer(Box::new(Answer::failure(failure, request.head).on(found)))
}

/// A cluster without discovery sends to the address that was dialled, unless nobody can be there.
fn target(cluster: &Arc<Cluster>, request: &Request<'_>) -> Target {
    match (&cluster.model.load_balancer, request.entry) {
        (LoadBalancer::OriginalDestination, Entry::Outbound { destination })
            if !is_allotted(destination.ip()) =>
        {
            Target::Original(destination)
        }
        _ => Target::Cluster(Arc::clone(cluster)),
    }
}

/// The client's gRPC deadline, capped by the route's timeout (semantics.md 13).
fn timeout(route: Option<Duration>, head: &RequestHead) -> Option<Duration> {
    match (route, grpc_timeout(head)) {
        (Some(route), Some(client)) => Some(route.min(client)),
        (route, client) => route.or(client),
    }
}

/// `grpc-timeout`: at most eight digits and a unit (grpc/doc/PROTOCOL-HTTP2.md). What is malformed is no deadline.
fn grpc_timeout(head: &RequestHead) -> Option<Duration> {
    let value = head.headers.get_str("grpc-timeout").filter(|_| is_grpc(head))?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| valid)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Names of routes that no user has written, as Istio logs them.
mod names {
    use super::{Arc, LazyLock};

    pub(super) fn default() -> Arc<str> {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
        Arc::clone(&NAME)
    }

    pub(super) fn allow_any() -> Arc<str> {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "allow_any".into());
        Arc::clone(&NAME)
    }
}
