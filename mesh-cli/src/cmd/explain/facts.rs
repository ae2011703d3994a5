//! What was decided on the way, as values: what `mesh test` judges by. The steps of a report say the same in words.

use std::sync::Arc;

use mesh_core::decide::{Answer, Denial, Plan};
use mesh_core::message::{Headers, RequestHead, ResponseHead};
use mesh_core::model::{Fault, PerMillion};
use mesh_core::snapshot::rule::{CompiledAction, CompiledBackend};
use mesh_core::snapshot::{Cluster, CompiledRule, Retry};

/// Everything known of one way of a request; what no proxy decided is absent.
#[derive(Debug, Clone, Default)]
pub(in crate::cmd) struct Facts {
    /// The name of the route, as access logs have it.
    pub(in crate::cmd) route: Option<Arc<str>>,
    /// Where the request was sent.
    pub(in crate::cmd) destination: Option<Destination>,
    /// All destinations of the rule, with their parts of the whole.
    pub(in crate::cmd) shares: Vec<(Destination, u64, u64)>,
    pub(in crate::cmd) mirrors: Vec<(Destination, PerMillion)>,
    pub(in crate::cmd) fault: Option<Fault>,
    /// The request as it leaves the proxy that routes it.
    pub(in crate::cmd) request: Option<RequestHead>,
    /// What the proxies add to the answer, or answer themselves.
    pub(in crate::cmd) response: Headers,
    pub(in crate::cmd) timeout: Option<std::time::Duration>,
    pub(in crate::cmd) retry: Option<Arc<Retry>>,
    pub(in crate::cmd) answer: Option<Answer>,
    /// The policy that denies.
    pub(in crate::cmd) denial: Option<Denial>,
    /// `namespace/pod` that gets it.
    pub(in crate::cmd) pod: Option<String>,
    /// Whether the last hop is mutual TLS of the mesh.
    pub(in crate::cmd) mutual_tls: Option<bool>,
}

/// A port of a service, or a subset of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cmd) struct Destination {
    pub(in crate::cmd) host: String,
    pub(in crate::cmd) subset: Option<String>,
    /// 0 when there is no such service.
    pub(in crate::cmd) port: u16,
}

impl Destination {
    /// From a cluster's name, `outbound|PORT|SUBSET|HOST`; such a cluster need not exist.
    pub(in crate::cmd) fn named(cluster: &str) -> Self {
        let parts: Vec<&str> = cluster.splitn(4, '|').collect();
        match parts[..] {
            [_, port, subset, host] => Self {
                host: host.to_owned(),
                subset: Some(subset.to_owned()).filter(|subset| !subset.is_empty()),
                port: port.parse().unwrap_or_default(),
            },
            _ if cluster.is_empty() => Self { host: "(no such service)".to_owned(), subset: None, port: 0 },
            _ => Self { host: cluster.to_owned(), subset: None, port: 0 },
        }
    }

    fn of(cluster: &Cluster) -> Self {
        let model = &cluster.model;
        Self { host: model.service.to_string(), subset: model.subset.clone(), port: model.port }
    }
}

impl Facts {
    /// A plan of the proxy that routes, with the request as the plan has edited it.
    pub(super) fn planned(&mut self, plan: &Plan, head: &RequestHead) {
        self.route = Some(Arc::clone(&plan.route_name));
        self.reached(plan.cluster.as_deref());
        self.timeout = plan.timeout;
        self.retry = Some(Arc::clone(&plan.retry));
        self.request = Some(head.clone());
        let mut response = ResponseHead::new(200);
        plan.edit_response(&mut response);
        self.response = response.headers;
        if let Some(rule) = &plan.rule {
            self.ruled(rule);
        }
    }

    /// A destination, where only connections are decided on.
    pub(super) fn reached(&mut self, cluster: Option<&Cluster>) {
        self.destination = cluster.map(Destination::of);
    }

    /// An answer of a proxy's own.
    pub(super) fn answered(&mut self, answer: &Answer) {
        if let Some(rule) = &answer.rule {
            self.ruled(rule);
        }
        if answer.route_name.is_some() {
            self.route.clone_from(&answer.route_name);
        }
        self.response = answer.headers.clone();
        self.denial.clone_from(&answer.denial);
        self.answer = Some(answer.clone());
    }

    fn ruled(&mut self, rule: &CompiledRule) {
        if let CompiledAction::Forward(backends) = &rule.action {
            let share = |(at, backend): (usize, &CompiledBackend)| {
                let (weight, total) = if backends.items().len() == 1 { (1, 1) } else { backends.share(at) };
                (Destination::named(&backend.cluster), weight, total)
            };
            self.shares = backends.items().iter().enumerate().map(share).collect();
        }
        self.fault.clone_from(&rule.fault);
        let mirrors = rule.mirrors.iter();
        self.mirrors = mirrors.map(|mirror| (Destination::named(&mirror.cluster), mirror.share)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_name_tells_its_destination() {
        let found = Destination::named("outbound|80|v1|a.b.svc.cluster.local");
        assert_eq!(
            (&*found.host, found.subset.as_deref(), found.port),
            ("a.b.svc.cluster.local", Some("v1"), 80)
        );
        assert_eq!(Destination::named("outbound|80||a").subset, None);
    }
}
