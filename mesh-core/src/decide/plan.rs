//! How a request is to be forwarded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Permits, cors, rewrite};
use crate::message::{RequestHead, ResponseHead};
use crate::model::Mirror;
use crate::snapshot::matcher::CompiledMatch;
use crate::snapshot::rule::{CompiledAction, CompiledBackend};
use crate::snapshot::{Cluster, CompiledRule, Retry};

/// Where a request or connection goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// To an endpoint of this cluster.
    Cluster(Arc<Cluster>),
    /// To this address: what the application dialled, or the application itself.
    Original(SocketAddr),
}

/// How a request is to be forwarded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// The cluster, also where it sends to the address that was dialled; `None` for pass-through and inbound.
    pub cluster: Option<Arc<Cluster>>,
    /// The rule that said so; `None` where there is none to say it.
    pub rule: Option<Arc<CompiledRule>>,
    /// The route's name in logs.
    pub route_name: Arc<str>,
    /// Which of the rule's backends was chosen.
    pub backend: usize,
    /// Which of the rule's matches matched.
    pub matched: usize,
    /// Time for the whole exchange, all tries together; `None` is no limit.
    pub timeout: Option<Duration>,
    /// When to try again, and the time for one try.
    pub retry: Arc<Retry>,
    /// What a hashing balancer goes by.
    pub hash: Option<u64>,
    /// Where copies go, and how they differ; their answers are discarded.
    pub mirrors: Vec<(Arc<Cluster>, Mirror)>,
    /// The origin that cross-origin headers are to be written for.
    pub cors_origin: Option<Bytes>,
    /// A `set-cookie` that brings the client back to the same endpoint.
    pub cookie: Option<Bytes>,
    /// Held until the request has ended.
    pub permits: Permits,
}

impl Plan {
    /// A plan without a rule.
    pub(super) fn direct(target: Target, route_name: Arc<str>, retry: Arc<Retry>) -> Self {
        let cluster = match &target {
            Target::Cluster(cluster) => Some(Arc::clone(cluster)),
            Target::Original(_) => None,
        };
        Self {
            target,
            cluster,
            rule: None,
            route_name,
            backend: 0,
            matched: 0,
            timeout: None,
            retry,
            hash: None,
            mirrors: Vec::new(),
            cors_origin: None,
            cookie: None,
            permits: Permits::new(),
        }
    }

    /// Edits the request as the rule says: headers, then path, then authority.
    pub fn edit_request(&self, head: &mut RequestHead) {
        let Some(rule) = &self.rule else { return };
        let Some((backend, alone)) = self.chosen(rule) else { return };
        in_order(alone, &rule.request_edits, &backend.request_edits, |edits, step| match step {
            Step::Remove => edits.remove(&mut head.headers),
            Step::Write => edits.write(&mut head.headers),
        });
        let rewritten = rule.rewrite.as_ref();
        if let Some(rewrite) = rewritten {
            rewrite::path(
                head,
                &rewrite.path,
                rule.matches.get(self.matched).and_then(CompiledMatch::prefix),
            );
        }
        // The rewrite's authority, then the route's, then the destination's (semantics.md 10).
        let authority = rewritten
            .and_then(|rewrite| rewrite.authority.as_ref())
            .or(rule.request_edits.authority.as_ref())
            .or(backend.request_edits.authority.as_ref());
        if let Some(authority) = authority {
            head.authority = authority.clone();
        }
    }

    /// Edits the response as the rule says.
    pub fn edit_response(&self, head: &mut ResponseHead) {
        if let Some(cookie) = &self.cookie {
            head.headers.append("set-cookie", cookie.clone());
        }
        let Some(rule) = &self.rule else { return };
        if let Some((backend, alone)) = self.chosen(rule) {
            in_order(alone, &rule.response_edits, &backend.response_edits, |edits, step| match step {
                Step::Remove => edits.remove(&mut head.headers),
                Step::Write => edits.write(&mut head.headers),
            });
        }
        if let (Some(origin), Some(policy)) = (&self.cors_origin, &rule.cors) {
            cors::write(policy, origin, &mut head.headers);
        }
    }

    fn chosen<'a>(&self, rule: &'a CompiledRule) -> Option<(&'a CompiledBackend, bool)> {
        match &rule.action {
            CompiledAction::Forward(backends) => {
                Some((backends.items().get(self.backend)?, backends.items().len() == 1))
            }
            CompiledAction::Redirect(_) | CompiledAction::Respond { .. } | CompiledAction::Refuse(_) => None,
        }
    }
}

enum Step {
    Remove,
    Write,
}

/// With one destination its edits are appended to the route's, and what it sets wins; with several the destination's come
/// first as a whole, and what the route sets wins (semantics.md 10).
fn in_order<E>(alone: bool, route: &E, destination: &E, mut apply: impl FnMut(&E, Step)) {
    let order = if alone {
        [(route, Step::Remove), (destination, Step::Remove), (route, Step::Write), (destination, Step::Write)]
    } else {
        [(destination, Step::Remove), (destination, Step::Write), (route, Step::Remove), (route, Step::Write)]
    };
    order.into_iter().for_each(|(edits, step)| apply(edits, step));
}
