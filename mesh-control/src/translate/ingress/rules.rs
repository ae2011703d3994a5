//! The rules of one path: redirects, our own gateway, canaries, and plain forwarding.

use mesh_core::model::{
    Action, Backend, DirectResponse, HeaderEdits, HostPattern, PathMatch, Redirect, RedirectPort, Rewrite,
    RouteMatch, Rule, Weight,
};

use super::paths::Path;
use super::{annotations, authentication};
use crate::translate::gateway::Hosts;
use crate::translate::origin;

impl Path<'_> {
    /// The rules for the path at a host, in their order.
    pub(super) fn rules(
        &self,
        pattern: &HostPattern,
        behind: &dyn Fn(u16) -> Hosts,
        is_tls: bool,
    ) -> Vec<Rule> {
        let forced = self.annotation("force-ssl-redirect") == Some("true")
            || self.annotation("ssl-redirect") == Some("true") && !self.ingress.spec.tls.is_empty();
        if forced && !is_tls {
            return vec![self.rule(Action::Redirect(to_https()))];
        }
        if let Some((status, target)) = self.redirect() {
            return vec![self.rule(Action::Redirect(redirect(status, target)))];
        }
        if let Some(port) = self.to_gateway {
            let hosts = behind(port);
            return match hosts.covering(pattern) {
                Some(rules) => narrowed(rules, self.matching.as_ref())
                    .into_iter()
                    .map(|rule| authentication::guarded(&self.ingress, rule))
                    .collect(),
                None => vec![self.rule(Action::Respond(DirectResponse { status: 404, body: String::new() }))],
            };
        }
        let main = backend(&self.cluster, 1);
        match &self.canary {
            None => vec![self.rule(Action::Forward(vec![main]))],
            Some(canary) => canary.rules(&self.cluster, |action| self.rule(action)),
        }
    }

    fn rule(&self, action: Action) -> Rule {
        let path = self.matching.clone();
        let full_path = self.annotation("rewrite-target").filter(|path| !path.contains('$'));
        let authority = self.annotation("upstream-vhost");
        let rewrite = Rewrite {
            full_path: full_path.map(str::to_owned),
            authority: authority.map(str::to_owned),
            ..Default::default()
        };
        let rule = Rule {
            name: format!("{}/{}", self.ingress.namespace(), self.ingress.name()),
            matches: path
                .map(|path| RouteMatch { path: Some(path), ..RouteMatch::default() })
                .into_iter()
                .collect(),
            action,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: (rewrite != Default::default()).then_some(rewrite),
            timeout: None,
            retry: self.retry.clone(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
            authorizer: None,
            origin: origin(self.ingress.object, self.field.clone()),
        };
        authentication::guarded(&self.ingress, rule)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        annotations::get(&self.ingress, name)
    }

    fn redirect(&self) -> Option<(u16, &str)> {
        let permanent = self.annotation("permanent-redirect").map(|target| (301, target));
        permanent.or_else(|| self.annotation("temporal-redirect").map(|target| (302, target)))
    }
}

/// A backend with a weight.
pub(super) fn backend(cluster: &str, weight: u32) -> Backend {
    Backend {
        cluster: cluster.to_owned(),
        weight: Weight(weight),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}

fn to_https() -> Redirect {
    Redirect {
        status: 308,
        scheme: Some("https".to_owned()),
        authority: None,
        port: RedirectPort::SchemeDefault,
        path: None,
        prefix: None,
    }
}

/// A redirect to a whole address.
fn redirect(status: u16, target: &str) -> Redirect {
    let (scheme, rest) =
        target.split_once("://").map_or((None, target), |(scheme, rest)| (Some(scheme), rest));
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Redirect {
        status,
        scheme: scheme.map(str::to_owned),
        authority: Some(authority.to_owned()).filter(|authority| !authority.is_empty()),
        port: RedirectPort::Unchanged,
        path: Some(if path.is_empty() { "/" } else { path }.to_owned()),
        prefix: None,
    }
}

/// The rules of a Gateway's table narrowed to a path of an Ingress; none where they do not meet.
fn narrowed(rules: &[Rule], outer: Option<&PathMatch>) -> Vec<Rule> {
    let Some(outer) = outer else { return rules.to_vec() };
    let narrow = |rule: &Rule| {
        let mut rule = rule.clone();
        if rule.matches.is_empty() {
            rule.matches.push(RouteMatch::default());
        }
        rule.matches.retain_mut(|m| match both(outer, m.path.as_ref()) {
            Some(both) => {
                m.path = Some(both);
                true
            }
            None => false,
        });
        (!rule.matches.is_empty()).then_some(rule)
    };
    rules.iter().filter_map(narrow).collect()
}

/// The narrower of an Ingress's path and a rule's; `None` when no path meets both, or it cannot be told.
fn both(outer: &PathMatch, inner: Option<&PathMatch>) -> Option<PathMatch> {
    let within = |prefix: &str, path: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (outer, inner) {
        (outer, None) => Some(outer.clone()),
        (PathMatch::Exact(path), Some(PathMatch::Exact(other))) => (path == other).then(|| outer.clone()),
        (PathMatch::Exact(path), Some(PathMatch::Prefix(prefix))) => {
            path.starts_with(prefix.as_str()).then(|| outer.clone())
        }
        (PathMatch::Exact(path), Some(PathMatch::SegmentPrefix(prefix))) => {
            within(prefix, path).then(|| outer.clone())
        }
        (PathMatch::SegmentPrefix(prefix), Some(PathMatch::Exact(path) | PathMatch::SegmentPrefix(path))) => {
            within(prefix, path).then(|| inner.cloned())?
        }
        (PathMatch::SegmentPrefix(prefix), Some(PathMatch::Prefix(other))) => {
            if within(prefix, other) {
                inner.cloned()
            } else {
                prefix.starts_with(other.as_str()).then(|| outer.clone())
            }
        }
        _ => None,
    }
}
