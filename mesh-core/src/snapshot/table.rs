//! Route tables, compiled rule by rule.

use std::sync::Arc;

use hashbrown::HashMap;

use super::compile::Problem;
use super::hosts::HostIndex;
use super::rule::CompiledRule;
use super::rule_index::RuleIndex;
use super::token::Claims;
use crate::message::RequestHead;
use crate::model::{self, Host, HostPattern, Key, Kind, Origin, Resource};

/// A route table.
#[derive(Debug)]
pub struct RouteTable {
    /// Its name.
    pub name: String,
    hosts: HostIndex<Arc<VirtualHost>>,
    virtual_hosts: Box<[Arc<VirtualHost>]>,
    pub(super) source: Arc<Resource>,
}

/// The rules of some hosts.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name in logs.
    pub name: Arc<str>,
    /// Which hosts.
    pub hosts: Box<[HostPattern]>,
    /// In order; the first match wins.
    pub rules: Box<[Arc<CompiledRule>]>,
    /// Cleartext requests are answered with a redirect to HTTPS.
    pub https_redirect: bool,
    /// Where there are many rules.
    index: Option<RuleIndex>,
}

/// The rule that takes a request.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    /// The rule.
    pub rule: &'a Arc<CompiledRule>,
    /// Its name in logs, with the match's.
    pub route_name: &'a Arc<str>,
    /// Which of its matches.
    pub index: usize,
}

impl RouteTable {
    /// The virtual host that serves `host`.
    pub fn host(&self, host: &Host) -> Option<&Arc<VirtualHost>> {
        self.hosts.get(host)
    }

    /// All virtual hosts, as delivered.
    pub fn virtual_hosts(&self) -> &[Arc<VirtualHost>] {
        &self.virtual_hosts
    }

    /// The listener's port when the table is one of a sidecar: what follows the last colon of its name.
    pub(super) fn port(&self) -> Option<u16> {
        self.name.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    pub(super) fn compile(
        model: &model::Routes,
        source: &Arc<Resource>,
        previous: Option<&Self>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let before = Before::of(previous);
        let mut hosts = HostIndex::default();
        let compile = |virtual_host: &model::VirtualHost| {
            let compiled = Arc::new(VirtualHost::compile(virtual_host, &before, &mut |reason| {
                let key = Key { kind: Kind::Routes, name: model.name.clone() };
                problems.push(Problem { key, reason });
            }));
            for pattern in &compiled.hosts {
                hosts.insert(pattern, Arc::clone(&compiled));
            }
            compiled
        };
        let virtual_hosts = model.virtual_hosts.iter().map(compile).collect();
        Self { name: model.name.clone(), hosts, virtual_hosts, source: Arc::clone(source) }
    }
}

impl VirtualHost {
    /// The first rule that matches.
    pub fn rule(&self, head: &RequestHead, port: u16, token: Option<&Claims>) -> Option<Matched<'_>> {
        let Some(index) = &self.index else {
            return self.rules.iter().find_map(|rule| {
                let (route_name, index) = rule.matching(head, port, token)?;
                Some(Matched { rule, route_name, index })
            });
        };
        let holds = |rule: usize, at| self.rules[rule].passes(at, head, port, token);
        let (rule, index) = index.find(&head.path, holds)?;
        let rule = &self.rules[rule];
        Some(Matched { rule, route_name: rule.route_name(index), index })
    }

    fn compile(model: &model::VirtualHost, before: &Before<'_>, problem: &mut impl FnMut(String)) -> Self {
        let compile = |rule: &model::Rule| {
            if let Some(unchanged) = before.unchanged(&model.name, rule) {
                return Some(Arc::clone(unchanged));
            }
            match CompiledRule::new(rule) {
                Ok(compiled) => Some(Arc::new(compiled)),
                Err(error) => {
                    problem(format!("{}: {error}", rule.origin));
                    before.last_good(&model.name, rule).or_else(|| CompiledRule::refused(rule).map(Arc::new))
                }
            }
        };
        let rules: Box<[_]> = model.rules.iter().filter_map(compile).collect();
        Self {
            name: model.name.as_str().into(),
            hosts: model.hosts.as_slice().into(),
            index: RuleIndex::of(&rules),
            rules,
            https_redirect: model.https_redirect,
        }
    }
}

/// The rules of the table before, by virtual host, origin and name.
#[derive(Default)]
struct Before<'a> {
    compiled: HashMap<(&'a str, &'a Origin, &'a str), &'a Arc<CompiledRule>>,
    models: HashMap<(&'a str, &'a Origin, &'a str), &'a model::Rule>,
}

impl<'a> Before<'a> {
    fn of(previous: Option<&'a RouteTable>) -> Self {
        let mut before = Self::default();
        let Some(previous) = previous else { return before };
        for host in &previous.virtual_hosts {
            for rule in &host.rules {
                before.compiled.insert((&host.name, &rule.origin, &rule.name), rule);
            }
        }
        if let Resource::Routes(routes) = &*previous.source {
            for host in &routes.virtual_hosts {
                for rule in &host.rules {
                    before.models.insert((&host.name, &rule.origin, &rule.name), rule);
                }
            }
        }
        before
    }

    fn unchanged(&self, host: &'a str, rule: &'a model::Rule) -> Option<&'a Arc<CompiledRule>> {
        let key = (host, &rule.origin, &*rule.name);
        let same = self.models.get(&key).is_some_and(|model| **model == *rule);
        let compiled = self.compiled.get(&key).copied();
        compiled.filter(|compiled| same && !compiled.outdated)
    }

    fn last_good(&self, host: &'a str, rule: &'a model::Rule) -> Option<Arc<CompiledRule>> {
        let before = self.compiled.get(&(host, &rule.origin, &*rule.name))?;
        Some(Arc::new(CompiledRule { outdated: true, ..CompiledRule::clone(before) }))
    }
}
