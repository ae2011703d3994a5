//! The rules of one path: redirects, our own gateway, canaries, and plain forwarding.

use mesh_core::model::{
    Action, Backend, DirectResponse, HeaderEdits, HostPattern, PathMatch, Redirect, RedirectPort, Rewrite,
    RouteMatch, Rule, Weight,
};

use super::paths::Path;
use super::upstream::{self, Part};
use super::{annotations, authentication};
use crate::translate::gateway::Hosts;
use crate::translate::origin;

/// Where the rules of a path are to stand.
pub(super) struct Place<'a> {
    pub(super) pattern: &'a HostPattern,
    /// The hosts of Gateways on a port.
    pub(super) behind: &'a dyn Fn(u16) -> Hosts,
    pub(super) is_tls: bool,
    /// Whether the host is meant for HTTPS too.
    pub(super) is_secured: bool,
}

impl Path<'_> {
    /// The rules for the path at a host, in their order.
    pub(super) fn rules(&self, place: &Place<'_>) -> Vec<Rule> {
        if !place.is_tls && self.wants_https(place.is_secured) {
            return vec![self.rule(Action::Redirect(to_https()))];
        }
        if let Some((status, target)) = self.redirect() {
            return vec![self.rule(Action::Redirect(redirect(status, target)))];
        }
        let root = self.app_root();
        root.into_iter().chain(self.served(place)).collect()
    }

    /// As ingress-nginx: where the host is meant for HTTPS, unless told otherwise; elsewhere only by force; and never for
    /// what an authority asks for before there is a certificate.
    fn wants_https(&self, is_secured: bool) -> bool {
        let is = |name: &str, word: &str| self.annotation(name) == Some(word);
        let wants = is("force-ssl-redirect", "true") || is_secured && !is("ssl-redirect", "false");
        wants && !self.is_challenge()
    }

    /// Whether the path is below that of ACME's HTTP challenge (RFC 8555, section 8.3).
    fn is_challenge(&self) -> bool {
        const BELOW: &str = "/.well-known/acme-challenge";
        match &self.matching {
            Some(PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::SegmentPrefix(path)) => {
                path.strip_prefix(BELOW).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Some(PathMatch::Regex(_)) | None => false,
        }
    }

    fn served(&self, place: &Place<'_>) -> Vec<Rule> {
        if let Some(port) = self.to_gateway {
            let hosts = (place.behind)(port);
            let Some(rules) = hosts.covering(place.pattern) else {
                return vec![self.rule(Action::Respond(DirectResponse { status: 404, body: String::new() }))];
            };
            let mut rules = narrowed(rules, self.matching.as_ref());
            for rule in &mut rules {
                rule.admission = self.policy.admission.clone();
                rule.mirrors.extend(self.policy.mirror.clone());
            }
            return rules.into_iter().map(|rule| authentication::guarded(&self.ingress, rule)).collect();
        }
        match &self.canary {
            None => {
                let cluster = upstream::backend(&self.ingress, &self.service, Part::Backend);
                vec![self.rule(Action::Forward(vec![backend(&cluster, 1)]))]
            }
            Some(canary) => canary.rules(self, |action| self.rule(action)),
        }
    }

    fn rule(&self, action: Action) -> Rule {
        let path = self.matching.clone();
        let authority = self.annotation("upstream-vhost");
        let rewrite = Rewrite { authority: authority.map(str::to_owned), ..self.rewrite() };
        let policy = &self.policy;
        let rule = Rule {
            name: format!("{}/{}", self.ingress.namespace(), self.ingress.name()),
            matches: path
                .map(|path| RouteMatch { path: Some(path), ..RouteMatch::default() })
                .into_iter()
                .collect(),
            action,
            request_headers: policy.request_headers.clone(),
            response_headers: policy.response_headers.clone(),
            rewrite: (rewrite != Default::default()).then_some(rewrite),
            timeout: None,
            retry: policy.retry.clone(),
            fault: None,
            mirrors: policy.mirror.iter().cloned().collect(),
            cors: policy.cors.clone(),
            authorizer: None,
            admission: policy.admission.clone(),
            origin: origin(self.ingress.object, self.field.clone()),
        };
        authentication::guarded(&self.ingress, rule)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        annotations::get(&self.ingress, name).filter(|value| !value.is_empty())
    }

    /// The target takes the place of the whole path; `$1` is the first group of the path's expression.
    fn rewrite(&self) -> Rewrite {
        match (self.annotation("rewrite-target"), &self.expression) {
            (Some(target), Some(path)) if target.contains('$') => {
                let pattern = format!("(?i)^(?:{path}).*$");
                Rewrite { regex: Some((pattern, groups(target))), ..Rewrite::default() }
            }
            (target, _) => Rewrite { full_path: target.map(str::to_owned), ..Rewrite::default() },
        }
    }

    fn redirect(&self) -> Option<(u16, &str)> {
        let code = |name: &str, default: u16| {
            let given = self.annotation(name).and_then(|code| code.trim().parse().ok());
            given.filter(|code| matches!(code, 300..=308)).unwrap_or(default)
        };
        let permanent = self.annotation("permanent-redirect");
        let permanent = permanent.map(|target| (code("permanent-redirect-code", 301), target));
        permanent.or_else(|| {
            self.annotation("temporal-redirect").map(|target| (code("temporal-redirect-code", 302), target))
        })
    }

    /// A redirect of the root alone.
    fn app_root(&self) -> Option<Rule> {
        let root = self.annotation("app-root").filter(|root| root.starts_with('/'))?;
        let takes_root = self.matching.is_none();
        let root_only = PathMatch::Exact("/".to_owned());
        takes_root.then(|| Rule {
            matches: vec![RouteMatch { path: Some(root_only), ..RouteMatch::default() }],
            ..self.rule(Action::Redirect(redirect(302, root)))
        })
    }
}

/// `$1` as expressions of ours write it; what has a meaning there is escaped.
fn groups(target: &str) -> String {
    let mut text = String::new();
    let mut chars = target.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push_str("\\\\"),
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => text.push('\\'),
            c => text.push(c),
        }
    }
    text
}

/// A redirect of everything to another host, path and query kept.
pub(super) fn to_host(host: &str, path: &Path<'_>) -> Rule {
    let target = Redirect { scheme: None, authority: Some(host.to_owned()), ..to_https() };
    let target = Redirect { status: 308, port: RedirectPort::Unchanged, ..target };
    Rule { matches: Vec::new(), ..path.rule(Action::Redirect(target)) }
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
