//! AuthorizationPolicies that select a workload.
//!
//! Policy that we cannot evaluate fails closed: a rule with an address block or port that cannot be read never allows,
//! and always denies.

use ipnet::IpNet;
use mesh_core::model::{
    AuthzAction, AuthzPolicy, AuthzRule, Condition, OperationMatch, Origin, SourceMatch, StringMatch,
};

use super::cluster;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::security::{AuthorizationAction, AuthorizationPolicy, Operation, Rule, Source};
use crate::world::World;

/// The policies of the root namespace and of the pod's own that select it, oldest first.
pub fn policies(world: &World, pod: &Item<'_, Pod>) -> Vec<AuthzPolicy> {
    let root = &world.mesh_config().root_namespace;
    let labels = cluster::labels(pod);
    world
        .oldest_first::<AuthorizationPolicy>()
        .iter()
        .filter(|policy| policy.namespace() == root || policy.namespace() == pod.namespace())
        .filter(|policy| {
            policy.selector.as_ref().is_none_or(|selector| selects(&selector.match_labels, labels))
        })
        .filter(|policy| policy.target_ref.is_none() && policy.target_refs.is_empty())
        .filter_map(policy)
        .collect()
}

fn policy(policy: &Item<'_, AuthorizationPolicy>) -> Option<AuthzPolicy> {
    let action = match policy.action {
        AuthorizationAction::Allow => AuthzAction::Allow,
        AuthorizationAction::Deny => AuthzAction::Deny,
        AuthorizationAction::Custom => AuthzAction::Custom(
            policy.provider.as_ref().map(|provider| provider.name.clone()).unwrap_or_default(),
        ),
        AuthorizationAction::Audit => return None,
    };
    let denies = action != AuthzAction::Allow;
    Some(AuthzPolicy {
        origin: Origin {
            kind: "AuthorizationPolicy".to_owned(),
            namespace: policy.namespace().to_owned(),
            name: policy.name().to_owned(),
            field: String::new(),
        },
        action,
        rules: policy
            .rules
            .iter()
            .filter_map(|entry| rule(entry).or_else(|| denies.then(AuthzRule::default)))
            .collect(),
        dry_run: policy.object.meta.annotation("istio.io/dry-run") == Some("true"),
    })
}

/// `None` when something in the rule cannot be read.
fn rule(rule: &Rule) -> Option<AuthzRule> {
    let condition = |entry: &crate::api::security::Condition| Condition {
        key: entry.key.clone(),
        values: strings(&entry.values),
        not_values: strings(&entry.not_values),
    };
    Some(AuthzRule {
        from: rule.from.iter().map(|from| source(&from.source)).collect::<Option<_>>()?,
        to: rule.to.iter().map(|to| operation(&to.operation)).collect::<Option<_>>()?,
        when: rule.when.iter().map(condition).collect(),
    })
}

fn source(source: &Source) -> Option<SourceMatch> {
    if !source.trust_domains.is_empty() || !source.not_trust_domains.is_empty() {
        return None;
    }
    Some(SourceMatch {
        principals: strings(&source.principals),
        not_principals: strings(&source.not_principals),
        request_principals: strings(&source.request_principals),
        not_request_principals: strings(&source.not_request_principals),
        namespaces: strings(&source.namespaces),
        not_namespaces: strings(&source.not_namespaces),
        service_accounts: source.service_accounts.clone(),
        not_service_accounts: source.not_service_accounts.clone(),
        ip_blocks: blocks(&source.ip_blocks)?,
        not_ip_blocks: blocks(&source.not_ip_blocks)?,
        remote_ip_blocks: blocks(&source.remote_ip_blocks)?,
        not_remote_ip_blocks: blocks(&source.not_remote_ip_blocks)?,
    })
}

fn operation(operation: &Operation) -> Option<OperationMatch> {
    let ports = |list: &[String]| list.iter().map(|port| port.parse().ok()).collect::<Option<Vec<u16>>>();
    Some(OperationMatch {
        hosts: strings(&operation.hosts),
        not_hosts: strings(&operation.not_hosts),
        ports: ports(&operation.ports)?,
        not_ports: ports(&operation.not_ports)?,
        methods: strings(&operation.methods),
        not_methods: strings(&operation.not_methods),
        paths: strings(&operation.paths),
        not_paths: strings(&operation.not_paths),
    })
}

fn strings(list: &[String]) -> Vec<StringMatch> {
    list.iter().map(|text| string(text)).collect()
}

/// `abc`, `abc*`, `*abc` and `*`, which means "not empty" (semantics 34).
fn string(text: &str) -> StringMatch {
    if text == "*" {
        return StringMatch::Present;
    }
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(suffix), _) => StringMatch::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => StringMatch::Prefix(prefix.to_owned()),
        (None, None) => StringMatch::Exact(text.to_owned()),
    }
}

/// Addresses stand for networks of their own.
fn blocks(list: &[String]) -> Option<Vec<IpNet>> {
    let block = |text: &String| {
        text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address)))
    };
    list.iter().map(block).collect()
}
