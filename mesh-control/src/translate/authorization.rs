//! AuthorizationPolicies that select a workload (semantics.md 32 to 35). What cannot be read fails closed.

use ipnet::IpNet;
use mesh_core::model::{
    AuthzAction, AuthzPolicy, AuthzRule, Condition, OperationMatch, SourceMatch, StringMatch,
};

use super::scope::Scope;
use super::{origin, provider};
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::security::{self, AuthorizationAction, AuthorizationPolicy};
use crate::problem::Problem;

/// The policies for a pod: the root namespace's and its own namespace's, the oldest first.
pub fn policies(scope: &Scope<'_>, pod: &Item<'_, Pod>) -> Vec<AuthzPolicy> {
    let world = scope.world;
    let root = &world.mesh_config().root_namespace;
    let selects_pod = |policy: &Item<'_, AuthorizationPolicy>| {
        let labels = policy.spec.selector.as_ref().map(|selector| &selector.match_labels);
        (policy.namespace() == root || policy.namespace() == pod.namespace())
            && targets_pod(policy.spec)
            && labels.is_none_or(|labels| selects(labels, &pod.object.meta.labels))
    };
    let policies = world.oldest_first::<AuthorizationPolicy>().into_iter().filter(selects_pod);
    policies.filter_map(|policy| translate(scope, &policy, &mut Vec::new())).collect()
}

/// Policies attached to other objects are not for pods.
fn targets_pod(policy: &AuthorizationPolicy) -> bool {
    policy.target_ref.is_none() && policy.target_refs.is_empty()
}

/// One policy; `None` for AUDIT, which changes no decision.
pub fn translate(
    scope: &Scope<'_>,
    policy: &Item<'_, AuthorizationPolicy>,
    report: &mut Vec<Problem>,
) -> Option<AuthzPolicy> {
    if !targets_pod(policy.spec) {
        report.push(
            Problem::error("spec.targetRefs", "not supported; the policy has no effect")
                .with_fix("use selector"),
        );
    }
    let action = match policy.spec.action {
        AuthorizationAction::Allow => AuthzAction::Allow,
        AuthorizationAction::Deny => AuthzAction::Deny,
        AuthorizationAction::Custom => {
            let name = policy.spec.provider.as_ref().map(|provider| provider.name.as_str());
            AuthzAction::Custom(Box::new(provider::authorizer(scope, name.unwrap_or_default(), report)))
        }
        AuthorizationAction::Audit => {
            report.push(Problem::warning("spec.action", "AUDIT is not supported; has no effect"));
            return None;
        }
    };
    let rules = policy.spec.rules.iter().enumerate();
    let rules = rules
        .filter_map(|(at, rule)| translate_rule(rule, &format!("spec.rules[{at}]"), &action, report))
        .collect();
    let dry_run = policy.object.meta.annotation("istio.io/dry-run") == Some("true");
    Some(AuthzPolicy { origin: origin(policy.object, ""), action, rules, dry_run })
}

/// A rule with a part that cannot be read never allows, and denies as if the part were not there.
fn translate_rule(
    rule: &security::Rule,
    field: &str,
    action: &AuthzAction,
    report: &mut Vec<Problem>,
) -> Option<AuthzRule> {
    let mut unreadable = Vec::new();
    let mut reader = Reader { unreadable: &mut unreadable };
    let from = rule.from.iter().enumerate();
    let to = rule.to.iter().enumerate();
    let translated = AuthzRule {
        from: from
            .map(|(at, from)| reader.source(&from.source, &format!("{field}.from[{at}].source")))
            .collect(),
        to: to
            .map(|(at, to)| reader.operation(&to.operation, &format!("{field}.to[{at}].operation")))
            .collect(),
        when: rule.when.iter().map(condition).collect(),
    };
    let dropped = !unreadable.is_empty() && *action == AuthzAction::Allow;
    report.append(&mut unreadable);
    (!dropped).then_some(translated)
}

struct Reader<'r> {
    unreadable: &'r mut Vec<Problem>,
}

impl Reader<'_> {
    fn source(&mut self, source: &security::Source, field: &str) -> SourceMatch {
        for (domains, name) in
            [(&source.trust_domains, "trustDomains"), (&source.not_trust_domains, "notTrustDomains")]
        {
            if !domains.is_empty() {
                self.refuse(format!("{field}.{name}"), "not supported; the rule fails closed");
            }
        }
        SourceMatch {
            principals: texts(&source.principals),
            not_principals: texts(&source.not_principals),
            request_principals: texts(&source.request_principals),
            not_request_principals: texts(&source.not_request_principals),
            namespaces: texts(&source.namespaces),
            not_namespaces: texts(&source.not_namespaces),
            service_accounts: source.service_accounts.clone(),
            not_service_accounts: source.not_service_accounts.clone(),
            ip_blocks: self.blocks(&source.ip_blocks, &format!("{field}.ipBlocks")),
            not_ip_blocks: self.blocks(&source.not_ip_blocks, &format!("{field}.notIpBlocks")),
            remote_ip_blocks: self.blocks(&source.remote_ip_blocks, &format!("{field}.remoteIpBlocks")),
            not_remote_ip_blocks: self
                .blocks(&source.not_remote_ip_blocks, &format!("{field}.notRemoteIpBlocks")),
        }
    }

    fn operation(&mut self, operation: &security::Operation, field: &str) -> OperationMatch {
        OperationMatch {
            hosts: texts(&operation.hosts),
            not_hosts: texts(&operation.not_hosts),
            ports: self.ports(&operation.ports, &format!("{field}.ports")),
            not_ports: self.ports(&operation.not_ports, &format!("{field}.notPorts")),
            methods: texts(&operation.methods),
            not_methods: texts(&operation.not_methods),
            paths: paths(&operation.paths),
            not_paths: paths(&operation.not_paths),
        }
    }

    fn blocks(&mut self, texts: &[String], field: &str) -> Vec<IpNet> {
        let parse = |text: &String| {
            text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()))
        };
        self.each(texts, field, "is not an address or a range; the rule fails closed", parse)
    }

    fn ports(&mut self, texts: &[String], field: &str) -> Vec<u16> {
        self.each(texts, field, "is not a port; the rule fails closed", |text| text.parse().ok())
    }

    fn each<T>(
        &mut self,
        texts: &[String],
        field: &str,
        why: &str,
        parse: impl Fn(&String) -> Option<T>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            match parse(text) {
                Some(value) => values.push(value),
                None => self.refuse(format!("{field}[{at}]"), format!("{text:?} {why}")),
            }
        }
        values
    }

    fn refuse(&mut self, field: String, message: impl Into<String>) {
        self.unreadable.push(Problem::error(field, message));
    }
}

fn condition(condition: &security::Condition) -> Condition {
    Condition {
        key: condition.key.clone(),
        values: texts(&condition.values),
        not_values: texts(&condition.not_values),
    }
}

fn texts(texts: &[String]) -> Vec<StringMatch> {
    texts.iter().map(|text| string_match(text)).collect()
}

/// `abc`, `abc*`, `*abc`, and `*` for "there and not empty" (semantics.md 34).
fn string_match(text: &str) -> StringMatch {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => StringMatch::Regex(".+".to_owned()),
        (Some(suffix), _) => StringMatch::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => StringMatch::Prefix(prefix.to_owned()),
        (None, None) => StringMatch::Exact(text.to_owned()),
    }
}

/// Paths may be templates: `{*}` stands for one segment, `{**}` for the rest.
fn paths(paths: &[String]) -> Vec<StringMatch> {
    paths.iter().map(|path| if path.contains("{*") { template(path) } else { string_match(path) }).collect()
}

fn template(path: &str) -> StringMatch {
    let mut regex = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{**}") {
            regex.push_str(".*");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{*}") {
            regex.push_str("[^/]+");
            rest = after;
        } else {
            let mut chars = rest.chars();
            if let Some(next) = chars.next() {
                if next.is_ascii_punctuation() && next != '/' {
                    regex.push('\\');
                }
                regex.push(next);
            }
            rest = chars.as_str();
        }
    }
    StringMatch::Regex(regex)
}
