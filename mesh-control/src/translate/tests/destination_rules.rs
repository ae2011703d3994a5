//! Search and merging of DestinationRules against an oracle that follows the words of docs/semantics.md.

use mesh_core::model::{Cluster, LoadBalancer, Resource, Role};
use proptest::prelude::*;

use super::{closure, host_root, proxy, service, view};

/// In the order in which they are searched by a caller of the first, for a service of the second.
const NAMESPACES: [&str; 3] = ["caller", "default", "istio-system"];
/// The most specific first; the last is another service's.
const HOSTS: [&str; 4] = [
    "web.default.svc.cluster.local",
    "'*.default.svc.cluster.local'",
    "'*.local'",
    "other.default.svc.cluster.local",
];

/// One level of a policy: the blocks that it has.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Blocks {
    connections: Option<u32>,
    random: Option<bool>,
    outlier: bool,
}

#[derive(Debug, Clone, Copy)]
struct Policy {
    blocks: Blocks,
    /// Settings for port 80, the one that is looked at.
    port: Option<Blocks>,
}

/// A rule; its subset `v1` may have a policy.
#[derive(Debug, Clone, Copy)]
struct Rule {
    namespace: usize,
    host: usize,
    policy: Option<Policy>,
    subset: Option<Option<Policy>>,
    selector: Selector,
}

/// For whom a rule of the caller's namespace is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Selector {
    All,
    /// The caller, among others.
    Caller,
    /// The caller, in other words.
    CallerToo,
    Others,
}

fn blocks() -> impl Strategy<Value = Blocks> {
    let parts = (prop::option::of(1_u32..100), prop::option::of(any::<bool>()), any::<bool>());
    parts.prop_map(|(connections, random, outlier)| Blocks { connections, random, outlier })
}

fn policy() -> impl Strategy<Value = Policy> {
    (blocks(), prop::option::of(blocks())).prop_map(|(blocks, port)| Policy { blocks, port })
}

fn rule() -> impl Strategy<Value = Rule> {
    use Selector::{All, Caller, CallerToo, Others};
    let subset = prop::option::of(prop::option::of(policy()));
    let selector = prop::sample::select(vec![All, All, All, Caller, CallerToo, Others]);
    (0..NAMESPACES.len(), 0..HOSTS.len(), prop::option::of(policy()), subset, selector).prop_map(
        |(namespace, host, policy, subset, selector)| Rule { namespace, host, policy, subset, selector },
    )
}

impl Blocks {
    fn yaml(self) -> String {
        let pool = |count| format!("connectionPool: {{tcp: {{maxConnections: {count}}}}}");
        let name = |random| if random { "RANDOM" } else { "ROUND_ROBIN" };
        let balancer = |random| format!("loadBalancer: {{simple: {}}}", name(random));
        let outlier = self.outlier.then(|| "outlierDetection: {consecutive5xxErrors: 3}".to_owned());
        let all = [self.connections.map(pool), self.random.map(balancer), outlier];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Policy {
    fn yaml(self) -> String {
        let level = |number: u16, blocks: Blocks| match blocks.yaml() {
            text if text.is_empty() => format!("{{port: {{number: {number}}}}}"),
            text => format!("{{port: {{number: {number}}}, {text}}}"),
        };
        let other = level(81, Blocks { connections: Some(1_000), ..Blocks::default() });
        let ports = [Some(other), self.port.map(|blocks| level(80, blocks))];
        let ports =
            format!("portLevelSettings: [{}]", ports.into_iter().flatten().collect::<Vec<_>>().join(", "));
        let parts = [self.blocks.yaml(), ports];
        format!(
            "trafficPolicy: {{{}}}",
            parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ")
        )
    }
}

impl Rule {
    fn yaml(&self, number: usize) -> String {
        let subset = self.subset.map(|policy| {
            let policy = policy.map(|policy| format!(", {}", policy.yaml())).unwrap_or_default();
            format!("subsets: [{{name: v1, labels: {{version: v1}}{policy}}}]")
        });
        let host = Some(format!("host: {}", HOSTS[self.host]));
        let labels = match self.selector {
            Selector::All => None,
            Selector::Caller => Some("app: caller"),
            Selector::CallerToo => Some("app: caller, tier: front"),
            Selector::Others => Some("app: other"),
        };
        let selector = labels.map(|labels| format!("workloadSelector: {{matchLabels: {{{labels}}}}}"));
        let spec: Vec<_> =
            [host, selector, self.policy.map(Policy::yaml), subset].into_iter().flatten().collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: r{number}, namespace: {}}}\nspec: {{{}}}\n---\n",
            NAMESPACES[self.namespace],
            spec.join(", ")
        )
    }
}

/// The rules that hold for a caller in the first namespace: those of the first namespace that has any for the host, and of
/// those the ones whose host is the most specific. Of those, rules for chosen callers come before rules for all, and rules
/// add up with those for the same callers only. A rule chooses among callers of its own namespace. Oldest first.
fn that_hold(rules: &[Rule]) -> Vec<Rule> {
    let holds = |rule: &Rule| {
        rule.host < 3
            && match rule.selector {
                Selector::All => true,
                Selector::Caller | Selector::CallerToo => rule.namespace == 0,
                Selector::Others => false,
            }
    };
    let matching = |namespace: usize| -> Vec<Rule> {
        rules.iter().copied().filter(|rule| rule.namespace == namespace && holds(rule)).collect()
    };
    let found = (0..NAMESPACES.len()).map(matching).find(|found| !found.is_empty()).unwrap_or_default();
    let best = found.iter().map(|rule| rule.host).min();
    let best: Vec<Rule> = found.into_iter().filter(|rule| Some(rule.host) == best).collect();
    let first = best.iter().find(|rule| rule.selector != Selector::All).or_else(|| best.first()).copied();
    best.into_iter().filter(|rule| first.is_some_and(|first| first.selector == rule.selector)).collect()
}

/// A level upon a level: settings for the port replace everything; otherwise each block that is there does.
fn upon(below: Blocks, policy: Option<Policy>) -> Blocks {
    match policy {
        None => below,
        Some(Policy { port: Some(blocks), .. }) => blocks,
        Some(Policy { blocks, .. }) => Blocks {
            connections: blocks.connections.or(below.connections),
            random: blocks.random.or(below.random),
            outlier: blocks.outlier || below.outlier,
        },
    }
}

fn seen(cluster: &Cluster) -> Blocks {
    let random = match cluster.load_balancer {
        LoadBalancer::Random => Some(true),
        LoadBalancer::RoundRobin => Some(false),
        _ => None,
    };
    Blocks { connections: cluster.pool.max_connections, random, outlier: cluster.outlier.is_some() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// semantics.md 25 and 26.
    #[test]
    fn s26_rules_are_searched_and_merged_as_documented(rules in prop::collection::vec(rule(), 0..9)) {
        let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: w}\n\
            spec: {hosts: [web], http: [{route: [{destination: {host: web}, weight: 1}, \
            {destination: {host: web, subset: v1}, weight: 1}]}]}\n---\n";
        let written: String = rules.iter().enumerate().map(|(number, rule)| rule.yaml(number)).collect();
        let pod = super::pod("x", "app: caller, tier: front", "10.244.8.8").replace("  uid:", "  namespace: caller\n  uid:");
        let view = view(&(service("web", 80, &["v1"]) + &pod + route + &written));
        let caller = proxy(Role::Sidecar, NAMESPACES[0], "x");
        let resources = closure(&view, &caller, &host_root("web.default", 80)).expect("the host is known");
        let cluster = |subset: Option<&str>| {
            resources.iter().find_map(|resource| match resource {
                Resource::Cluster(cluster) if cluster.subset.as_deref() == subset => Some(seen(cluster)),
                _ => None,
            })
        };

        let hold = that_hold(&rules);
        let whole = upon(Blocks::default(), hold.iter().find_map(|rule| rule.policy));
        prop_assert_eq!(cluster(None), Some(whole));
        if let Some(policy) = hold.iter().find_map(|rule| rule.subset) {
            prop_assert_eq!(cluster(Some("v1")), Some(upon(whole, policy)));
        }
    }
}
