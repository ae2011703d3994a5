//! Local rate limits, and who may come at all by a rule's word.
//!
//! Limits of the workload come after authorization and before routes; limits and address ranges of a rule as soon as it
//! has matched. Each limit is asked once for a request, however often the decision begins again. A request that one limit
//! refuses has been counted by those before it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::client::client_address;
use super::trail::{Note, NoteKind, Trail};
use super::{Answer, Entry, Request};
use crate::failure::Failure;
use crate::guard::ConcurrencyPermit;
use crate::model::{Admission, LimitKey};
use crate::snapshot::limit::{Admitted, Limit};
use crate::snapshot::matcher::with_joined;
use crate::snapshot::{CompiledRule, Own};

/// How far the limits of one request have been asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    workload: bool,
    rule: bool,
    /// Held until the request has ended.
    pub(super) permits: Permits,
}

/// What a request holds while it is under way; empty for all but the limits on how many may be.
pub type Permits = SmallVec<[Arc<ConcurrencyPermit>; 1]>;

impl Asked {
    /// Asks the limits of the workload.
    pub(super) fn workload(
        &mut self,
        request: &Request<'_>,
        own: &Own,
        trail: &mut Trail,
    ) -> Option<Box<Answer>> {
        if own.limits.workload.is_empty() || std::mem::replace(&mut self.workload, true) {
            return None;
        }
        let client = client(request, own);
        own.limits.workload.iter().find_map(|limit| self.ask(limit, request, client, trail))
    }

    /// Asks what a rule says of who may come and how often.
    pub(super) fn rule(
        &mut self,
        request: &Request<'_>,
        rule: &CompiledRule,
        trail: &mut Trail,
    ) -> Option<Box<Answer>> {
        let admission = rule.admission.as_deref()?;
        let own = request.snapshot.own()?;
        if std::mem::replace(&mut self.rule, true) {
            return None;
        }
        let client = client(request, own);
        if let Some(failure) = refused(admission, request, client) {
            trail.note(|| Note::new(NoteKind::Policy, format!("fails with {failure}")).by(&rule.origin));
            return Some(Box::new(Answer::failure(failure, request.head)));
        }
        let limits = admission.limits.iter().filter_map(|name| own.limits.get(name));
        limits.into_iter().find_map(|limit| self.ask(limit, request, client, trail))
    }

    fn ask(
        &mut self,
        limit: &Limit,
        request: &Request<'_>,
        client: IpAddr,
        trail: &mut Trail,
    ) -> Option<Box<Answer>> {
        if !limit.concerns(request.head, request.entry.port(), client) {
            return None;
        }
        match under_key(limit.key(), request, client, |key| limit.take(key, request.now)) {
            Ok(Admitted::Counted) => {}
            Ok(Admitted::UnderWay(permit)) => self.permits.push(Arc::new(permit)),
            Err(wait) => {
                let origin = &limit.model.origin;
                trail.note(|| Note::new(NoteKind::Policy, "the rate limit is exceeded".into()).by(origin));
                return Some(Box::new(limited(limit, wait, request)));
            }
        }
        trail.note(|| Note::new(NoteKind::Policy, "within the rate limit".into()).by(&limit.model.origin));
        None
    }
}

/// The client of a request: the socket's peer, at a gateway the client before all trusted proxies. A sidecar does not
/// believe `x-forwarded-for` here: any caller in the mesh could choose what it is counted as.
fn client(request: &Request<'_>, own: &Own) -> IpAddr {
    match request.entry {
        Entry::Gateway { .. } => {
            client_address(request.head, request.entry, request.peer, own.model().mesh.trusted_proxies)
        }
        Entry::Inbound { .. } | Entry::Outbound { .. } => request.peer.address.ip(),
    }
}

fn refused(admission: &Admission, request: &Request<'_>, client: IpAddr) -> Option<Failure> {
    let client = client.to_canonical();
    let outside =
        admission.allow.as_ref().is_some_and(|allow| !allow.iter().any(|net| net.contains(&client)));
    if outside || admission.deny.iter().any(|net| net.contains(&client)) {
        return Some(Failure::AddressRefused);
    }
    let announced = request.head.headers.get_str("content-length").and_then(|text| text.parse::<u64>().ok());
    let too_large = admission.max_body.zip(announced).is_some_and(|(most, announced)| announced > most);
    too_large.then_some(Failure::BodyTooLarge)
}

/// Hands what a request is counted under to `take`; `None` where nothing is counted apart.
fn under_key<T>(
    key: &LimitKey,
    request: &Request<'_>,
    client: IpAddr,
    take: impl FnOnce(Option<&[u8]>) -> T,
) -> T {
    match key {
        LimitKey::None => take(None),
        LimitKey::SourceAddress => match client.to_canonical() {
            IpAddr::V4(address) => take(Some(&address.octets())),
            IpAddr::V6(address) => take(Some(&address.octets()[..8])),
        },
        LimitKey::Header(name) => {
            with_joined(&request.head.headers, name, |value| take(Some(value.unwrap_or_default())))
        }
        LimitKey::Identity => {
            let identity = request.peer.identity.as_ref().map(|identity| identity.principal().as_bytes());
            take(Some(identity.unwrap_or_default()))
        }
    }
}

fn limited(limit: &Limit, wait: Option<Duration>, request: &Request<'_>) -> Answer {
    let mut answer = Answer::failure(Failure::RateLimited, request.head);
    // Of a gRPC answer the status is in its headers.
    if answer.status != 200 {
        answer.status = limit.model.status;
    }
    answer.headers.set("x-envoy-ratelimited", "true");
    if let Some(wait) = wait {
        // Whole seconds, rounded up (RFC 9110 §10.2.3).
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        answer.headers.set("retry-after", itoa::Buffer::new().format(seconds).to_owned());
    }
    answer.cause = Some(limit.model.origin.to_string().into());
    answer
}
