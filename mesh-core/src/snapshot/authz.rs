//! Authorization policies, compiled: for requests and, separately, for connections that are not HTTP.
//!
//! What cannot be evaluated fails closed: an allow rule with such a part never matches, a deny rule matches as if the part
//! were not there. Rules are kept in the order in which they decide, and found by what they ask for; what a match means is
//! `decide::authz`'s.

mod index;
mod order;
mod source;

use std::sync::Arc;

use ipnet::IpNet;

use super::authorizer::CompiledAuthorizer;
use super::matcher::with_joined;
use super::text::Text;
use super::token::{self, PrincipalTest};
use crate::model::{
    self, AuthzAction, AuthzPolicy, AuthzRule, Condition, OperationMatch, Origin, StringMatch,
};

use order::{Order, Scope};
pub use source::Caller;
use source::{Blocks, Check, Source};

/// All policies that select a workload.
#[derive(Debug, Default)]
pub struct Authorization {
    /// In the order of delivery.
    pub policies: Box<[CompiledPolicy]>,
    /// Whether one of them asks an authorizer.
    pub asks: bool,
    /// Whether one of them is in dry run.
    pub dry_runs: bool,
    in_force: Orders,
    in_dry_run: Orders,
}

/// The same policies for requests and for connections.
#[derive(Debug, Default)]
struct Orders {
    http: Order,
    tcp: Order,
}

impl Orders {
    fn new(policies: &[CompiledPolicy], dry_run: bool) -> Self {
        let order = |http| Order::new(policies, Scope { dry_run, http });
        Self { http: order(true), tcp: order(false) }
    }
}

/// One policy, compiled.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// The user's object.
    pub origin: Origin,
    /// What a match means.
    pub action: AuthzAction,
    /// Who is asked, where the action says so.
    pub authorizer: Option<Arc<CompiledAuthorizer>>,
    /// Evaluated and recorded, without effect.
    pub dry_run: bool,
    http: Box<[CompiledAuthzRule]>,
    tcp: Box<[CompiledAuthzRule]>,
}

impl Authorization {
    /// Compiles the policies of a proxy; the texts say what could not be.
    pub(super) fn new(own: &model::Own) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let domains = TrustDomains::of(&own.mesh);
        let compile = |policy| CompiledPolicy::new(policy, &domains, &mut problems);
        let policies: Box<[CompiledPolicy]> = own.authorization.iter().map(compile).collect();
        let asks = policies.iter().any(|policy| policy.authorizer.is_some());
        let dry_runs = policies.iter().any(|policy| policy.dry_run);
        let (in_force, in_dry_run) = (Orders::new(&policies, false), Orders::new(&policies, true));
        (Self { policies, asks, dry_runs, in_force, in_dry_run }, problems)
    }

    /// The first rule that matches, of those that deny and then of those that allow: its policy, and its index there. Of the
    /// policies in dry run, or else of those in force.
    pub fn first(&self, caller: &Caller<'_>, dry_run: bool) -> Option<(&CompiledPolicy, usize)> {
        self.order(caller, dry_run).first(&self.policies, caller)
    }

    /// Whether the caller is denied unless a policy allows it.
    pub fn must_allow(&self, caller: &Caller<'_>, dry_run: bool) -> bool {
        self.order(caller, dry_run).must_allow
    }

    const fn order(&self, caller: &Caller<'_>, dry_run: bool) -> &Order {
        let orders = if dry_run { &self.in_dry_run } else { &self.in_force };
        if caller.head.is_some() { &orders.http } else { &orders.tcp }
    }
}

impl CompiledPolicy {
    fn new(model: &AuthzPolicy, domains: &TrustDomains<'_>, problems: &mut Vec<String>) -> Self {
        let mut compile = |rules: &mut dyn Iterator<Item = (usize, AuthzRule)>| {
            let mut compiled = Vec::new();
            for (at, rule) in rules {
                let mut compiler = Compiler { domains, policy: model, at, unsupported: false, problems };
                let rule = compiler.rule(&rule);
                if !(compiler.unsupported && model.action == AuthzAction::Allow) {
                    compiled.push(rule);
                }
            }
            compiled.into_boxed_slice()
        };
        let http = compile(&mut model.rules.iter().cloned().enumerate());
        let tcp = compile(&mut model.rules.iter().enumerate().filter_map(|(at, rule)| {
            let narrowed = without_http(rule);
            let dropped = model.action == AuthzAction::Allow && narrowed != *rule;
            (!dropped).then_some((at, narrowed))
        }));
        let authorizer = match &model.action {
            AuthzAction::Custom(authorizer) => match CompiledAuthorizer::new(authorizer) {
                Ok(authorizer) => Some(Arc::new(authorizer)),
                Err(error) => {
                    problems.push(format!("{}: {error}", model.origin));
                    Some(Arc::new(CompiledAuthorizer::unknown(authorizer)))
                }
            },
            AuthzAction::Deny | AuthzAction::Allow => None,
        };
        let (origin, action) = (model.origin.clone(), model.action.clone());
        Self { origin, action, authorizer, dry_run: model.dry_run, http, tcp }
    }

    /// The index of the first rule that matches.
    pub fn matching(&self, caller: &Caller<'_>) -> Option<usize> {
        self.rules(caller.head.is_some()).iter().find(|rule| rule.matches(caller)).map(|rule| rule.at)
    }

    /// The rules for requests, or those for connections.
    const fn rules(&self, http: bool) -> &[CompiledAuthzRule] {
        if http { &self.http } else { &self.tcp }
    }
}

/// A rule without what only requests have (semantics.md 33).
fn without_http(rule: &AuthzRule) -> AuthzRule {
    let mut rule = rule.clone();
    for source in &mut rule.from {
        source.request_principals.clear();
        source.not_request_principals.clear();
    }
    for operation in &mut rule.to {
        let ports = (std::mem::take(&mut operation.ports), std::mem::take(&mut operation.not_ports));
        *operation = OperationMatch { ports: ports.0, not_ports: ports.1, ..OperationMatch::default() };
    }
    rule.when.retain(|condition| !condition.key.starts_with("request."));
    rule
}

/// All three lists must match; an empty one matches everything.
#[derive(Debug)]
struct CompiledAuthzRule {
    at: usize,
    from: Box<[Source]>,
    to: Box<[Operation]>,
    when: Box<[When]>,
}

impl CompiledAuthzRule {
    fn matches(&self, caller: &Caller<'_>) -> bool {
        (self.from.is_empty() || self.from.iter().any(|source| source.matches(caller)))
            && (self.to.is_empty() || self.to.iter().any(|operation| operation.matches(caller)))
            && self.when.iter().all(|condition| condition.matches(caller))
    }
}

#[derive(Debug)]
struct Operation {
    hosts: Check<Text>,
    methods: Check<Text>,
    paths: Check<Text>,
    ports: Check<u16>,
}

impl Operation {
    fn matches(&self, caller: &Caller<'_>) -> bool {
        let http = caller.head.is_none_or(|head| {
            // Hosts keep their port and lose their case (semantics.md 34).
            self.hosts.passes(|host| host.matches_any_case(&head.authority))
                && self.methods.passes(|method| method.matches(head.method.as_bytes()))
                && self.paths.passes(|path| path.matches(&head.path))
        });
        http && self.ports.passes(|&port| port == caller.port)
    }
}

/// A `when` entry.
#[derive(Debug)]
enum When {
    Header(Box<str>, Check<Text>),
    Source(Source),
    DestinationIp(Blocks),
    DestinationPort(Check<u16>),
    Sni(Check<Text>),
    /// A claim of the verified token, or one of its list.
    Claim(Box<[Box<str>]>, Check<Text>),
}

impl When {
    fn matches(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Header(name, check) => caller
                .head
                .is_some_and(|head| with_joined(&head.headers, name, |value| check.passes_optional(value))),
            Self::Source(source) => source.matches(caller),
            Self::DestinationIp(blocks) => blocks.passes(caller.local),
            Self::DestinationPort(check) => check.passes(|&port| port == caller.port),
            Self::Sni(check) => check.passes_optional(caller.sni.map(|sni| sni.as_str().as_bytes())),
            Self::Claim(path, check) => check
                .passes(|test| caller.token.is_some_and(|token| token.any(path, |text| test.matches(text)))),
        }
    }
}

/// The mesh's own trust domain and the others that count as ours.
struct TrustDomains<'a>(Vec<&'a str>);

impl<'a> TrustDomains<'a> {
    fn of(mesh: &'a model::MeshSettings) -> Self {
        let aliases = mesh.trust_domain_aliases.iter().map(String::as_str);
        Self(std::iter::once(mesh.trust_domain.as_str()).chain(aliases).collect())
    }

    /// A principal of one of our trust domains stands for the same one in each of them (semantics.md 34).
    fn expand(&self, tests: &[StringMatch]) -> Vec<StringMatch> {
        let expand = |test: &StringMatch| {
            let (text, make): (_, fn(String) -> StringMatch) = match test {
                StringMatch::Exact(text) => (text, StringMatch::Exact),
                StringMatch::Prefix(text) => (text, StringMatch::Prefix),
                StringMatch::Suffix(_) | StringMatch::Regex(_) | StringMatch::Present => {
                    return vec![test.clone()];
                }
            };
            let text = text.strip_prefix("spiffe://").unwrap_or(text);
            match text.split_once('/') {
                Some((domain, rest)) if self.0.contains(&domain) => {
                    self.0.iter().map(|domain| make(format!("{domain}/{rest}"))).collect()
                }
                _ => vec![make(text.to_owned())],
            }
        };
        tests.iter().flat_map(expand).collect()
    }
}

/// Compiles one rule, noting what it cannot.
struct Compiler<'a> {
    domains: &'a TrustDomains<'a>,
    policy: &'a AuthzPolicy,
    at: usize,
    unsupported: bool,
    problems: &'a mut Vec<String>,
}

impl Compiler<'_> {
    fn rule(&mut self, model: &AuthzRule) -> CompiledAuthzRule {
        CompiledAuthzRule {
            at: self.at,
            from: model.from.iter().map(|source| self.source(source)).collect(),
            to: model.to.iter().map(|operation| self.operation(operation)).collect(),
            when: model.when.iter().filter_map(|condition| self.condition(condition)).collect(),
        }
    }

    fn source(&mut self, model: &model::SourceMatch) -> Source {
        let principals = (self.domains.expand(&model.principals), self.domains.expand(&model.not_principals));
        let namespace = &self.policy.origin.namespace;
        let account = |name: &String| source::service_account(name, namespace);
        Source {
            principals: self.texts(&principals.0, &principals.1),
            request_principals: self.principals(&model.request_principals, &model.not_request_principals),
            namespaces: self.texts(&model.namespaces, &model.not_namespaces),
            service_accounts: Check {
                values: model.service_accounts.iter().map(account).collect(),
                not: model.not_service_accounts.iter().map(account).collect(),
            },
            ip_blocks: Blocks::new(&model.ip_blocks, &model.not_ip_blocks),
            remote_ip_blocks: Blocks::new(&model.remote_ip_blocks, &model.not_remote_ip_blocks),
        }
    }

    fn operation(&mut self, model: &OperationMatch) -> Operation {
        Operation {
            hosts: self.texts(&model.hosts, &model.not_hosts),
            methods: self.texts(&model.methods, &model.not_methods),
            paths: self.texts(&model.paths, &model.not_paths),
            ports: Check { values: model.ports.as_slice().into(), not: model.not_ports.as_slice().into() },
        }
    }

    /// `None` leaves the condition out; an allow rule is then dropped as a whole.
    fn condition(&mut self, model: &Condition) -> Option<When> {
        let (values, not) = (model.values.as_slice(), model.not_values.as_slice());
        let source = |source| Some(When::Source(source));
        match model.key.as_str() {
            "source.ip" => source(Source { ip_blocks: self.blocks(values, not)?, ..Source::default() }),
            "remote.ip" => {
                source(Source { remote_ip_blocks: self.blocks(values, not)?, ..Source::default() })
            }
            "source.namespace" => source(Source { namespaces: self.texts(values, not), ..Source::default() }),
            "source.principal" => {
                let (values, not) = (self.domains.expand(values), self.domains.expand(not));
                source(Source { principals: self.texts(&values, &not), ..Source::default() })
            }
            "destination.ip" => Some(When::DestinationIp(self.blocks(values, not)?)),
            "destination.port" => {
                let (values, not) = (self.parsed(values)?, self.parsed(not)?);
                Some(When::DestinationPort(Check { values, not }))
            }
            "connection.sni" => Some(When::Sni(self.texts(values, not))),
            "request.auth.principal" => {
                source(Source { request_principals: self.principals(values, not), ..Source::default() })
            }
            key => match (bracketed(key, "request.headers"), token::path_of_condition(key)) {
                (Some(name), _) => Some(When::Header(name.into(), self.texts(values, not))),
                (None, Some(path)) => Some(When::Claim(path, self.texts(values, not))),
                (None, None) => self.refuse(&format!("condition {key:?} is not known")),
            },
        }
    }

    fn texts(&mut self, values: &[StringMatch], not: &[StringMatch]) -> Check<Text> {
        let mut compile = |tests: &[StringMatch]| {
            Text::all(tests).or_else(|error| self.refuse(&error.to_string()).ok_or(error)).unwrap_or_default()
        };
        Check { values: compile(values), not: compile(not) }
    }

    fn principals(&mut self, values: &[StringMatch], not: &[StringMatch]) -> Check<PrincipalTest> {
        let mut compile = |tests: &[StringMatch]| {
            let tests = tests.iter().map(PrincipalTest::new).collect::<Result<_, _>>();
            tests.or_else(|error| self.refuse(&error.to_string()).ok_or(error)).unwrap_or_default()
        };
        Check { values: compile(values), not: compile(not) }
    }

    fn blocks(&mut self, values: &[StringMatch], not: &[StringMatch]) -> Option<Blocks> {
        let nets = |parsed: Box<[source::Net]>| -> Vec<IpNet> { parsed.iter().map(|net| net.0).collect() };
        let (values, not) = (nets(self.parsed(values)?), nets(self.parsed(not)?));
        Some(Blocks::new(&values, &not))
    }

    fn parsed<T: std::str::FromStr>(&mut self, tests: &[StringMatch]) -> Option<Box<[T]>> {
        let parse = |test: &StringMatch| match test {
            StringMatch::Exact(text) => text.parse().ok(),
            _ => None,
        };
        let parsed: Option<Box<[T]>> = tests.iter().map(parse).collect();
        parsed.or_else(|| self.refuse("a value is not a number or address"))
    }

    fn refuse<T>(&mut self, reason: &str) -> Option<T> {
        self.unsupported = true;
        self.problems.push(format!("{} rules[{}]: {reason}", self.policy.origin, self.at));
        None
    }
}

fn bracketed<'a>(key: &'a str, attribute: &str) -> Option<&'a str> {
    key.strip_prefix(attribute)?.strip_prefix('[')?.strip_suffix(']')
}
