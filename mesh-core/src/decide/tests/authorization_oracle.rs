//! The order and meaning of policies against a naive reading of semantics.md 32 to 34: random policies, and every request
//! and connection that they can tell apart.

use super::*;

const METHODS: [&str; 2] = ["GET", "PUT"];
const PATHS: [&str; 3] = ["/a", "/ab", "/b"];
/// The first caller has no identity.
const CALLERS: [Option<(&str, &str)>; 4] = [None, Some(("a", "web")), Some(("a", "job")), Some(("b", "web"))];
const ADDRESSES: [&str; 2] = ["10.0.0.9", "10.0.1.9"];
const NAMESPACES: [&str; 2] = ["a", "b"];
/// The second is a range that holds both addresses.
const BLOCKS: [&str; 2] = ["10.0.1.0/24", "10.0.0.0/23"];
const PORTS: [u16; 2] = [9080, 9090];
/// What a request says of header `x`.
const HEADERS: [Option<&str>; 3] = [None, Some("1"), Some("2")];
const WORLDS: usize = 600;

/// Values that must be there, and values that must not; nothing is asked where a list is empty.
#[derive(Debug, Default)]
struct Lists {
    values: Vec<usize>,
    not: Vec<usize>,
}

#[derive(Debug)]
struct Source {
    principals: Lists,
    namespaces: Lists,
    blocks: Lists,
}

#[derive(Debug)]
struct Operation {
    methods: Lists,
    /// Prefixes.
    paths: Lists,
    ports: Lists,
}

/// Any of the sources, any of the operations, all of the conditions; nothing is asked where a list is empty.
#[derive(Debug)]
struct Rule {
    from: Vec<Source>,
    to: Vec<Operation>,
    when: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    /// Header `x`, which is part of HTTP; values are indices of [`HEADERS`].
    Header(Lists),
    Port(Lists),
}

#[derive(Debug)]
struct Policy {
    deny: bool,
    dry_run: bool,
    rules: Vec<Rule>,
}

/// Indices of what is asked for; nothing of HTTP on a connection.
#[derive(Debug, Clone, Copy)]
struct Case {
    caller: usize,
    address: usize,
    port: usize,
    http: Option<(usize, usize)>,
    header: usize,
}

impl Lists {
    fn random(random: &mut fastrand::Rng, most: usize) -> Self {
        let mut list = |share| {
            let count = if random.u8(0..100) < share { random.usize(1..=2) } else { 0 };
            (0..count).map(|_| random.usize(0..most)).collect()
        };
        Self { values: list(30), not: list(15) }
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not.is_empty()
    }

    fn pass(&self, is: impl Fn(usize) -> bool) -> bool {
        (self.values.is_empty() || self.values.iter().any(|&value| is(value)))
            && !self.not.iter().any(|&value| is(value))
    }

    /// Adds both lists to a match, as they travel.
    fn put(&self, into: &mut Value, name: [&str; 2], value: impl Fn(usize) -> Value) {
        for (name, list) in name.into_iter().zip([&self.values, &self.not]) {
            into[name] = list.iter().map(|&at| value(at)).collect();
        }
    }
}

impl Source {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            principals: Lists::random(random, CALLERS.len() - 1),
            namespaces: Lists::random(random, 2),
            blocks: Lists::random(random, BLOCKS.len()),
        }
    }

    fn matches(&self, case: Case) -> bool {
        let caller = CALLERS[case.caller];
        self.principals.pass(|at| caller.is_some() && caller == CALLERS[at + 1])
            && self.namespaces.pass(|at| caller.is_some_and(|(namespace, _)| namespace == NAMESPACES[at]))
            && self.blocks.pass(|block| block == 1 || case.address == 1)
    }

    fn encoded(&self) -> Value {
        let mut from = json!({});
        let principal = |at: usize| {
            let (namespace, account) = CALLERS[at + 1].unwrap();
            json!({"exact": format!("cluster.local/ns/{namespace}/sa/{account}")})
        };
        self.principals.put(&mut from, ["principals", "notPrincipals"], principal);
        self.namespaces.put(
            &mut from,
            ["namespaces", "notNamespaces"],
            |at| json!({"exact": NAMESPACES[at]}),
        );
        self.blocks.put(&mut from, ["ipBlocks", "notIpBlocks"], |at| json!(BLOCKS[at]));
        from
    }
}

impl Operation {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            methods: Lists::random(random, METHODS.len()),
            paths: Lists::random(random, PATHS.len()),
            ports: Lists::random(random, PORTS.len()),
        }
    }

    /// Where there is no HTTP, what is asked of it holds in a rule that denies and never in one that allows.
    fn matches(&self, deny: bool, case: Case) -> bool {
        let http = match case.http {
            Some((method, path)) => {
                self.methods.pass(|at| at == method)
                    && self.paths.pass(|at| PATHS[path].starts_with(PATHS[at]))
            }
            None => deny || (self.methods.is_empty() && self.paths.is_empty()),
        };
        http && self.ports.pass(|at| at == case.port)
    }

    fn encoded(&self) -> Value {
        let mut to = json!({});
        self.methods.put(&mut to, ["methods", "notMethods"], |at| json!({"exact": METHODS[at]}));
        self.paths.put(&mut to, ["paths", "notPaths"], |at| json!({"prefix": PATHS[at]}));
        self.ports.put(&mut to, ["ports", "notPorts"], |at| json!(PORTS[at]));
        to
    }
}

impl Condition {
    fn random(random: &mut fastrand::Rng) -> Self {
        // It must ask for something.
        let mut lists = |most| match Lists::random(random, most) {
            lists if lists.is_empty() => Lists { values: vec![0], not: Vec::new() },
            lists => lists,
        };
        let (header, port) = (lists(HEADERS.len() - 1), lists(PORTS.len()));
        if random.bool() { Self::Header(header) } else { Self::Port(port) }
    }

    fn is_http(&self) -> bool {
        matches!(self, Self::Header(_))
    }

    fn holds(&self, deny: bool, case: Case) -> bool {
        match self {
            Self::Port(lists) => lists.pass(|at| at == case.port),
            Self::Header(_) if case.http.is_none() => deny,
            Self::Header(lists) => lists.pass(|at| at + 1 == case.header),
        }
    }

    fn encoded(&self) -> Value {
        let mut when = match self {
            Self::Header(_) => json!({"key": "request.headers[x]"}),
            Self::Port(_) => json!({"key": "destination.port"}),
        };
        match self {
            Self::Header(lists) => {
                lists.put(
                    &mut when,
                    ["values", "notValues"],
                    |at| json!({"exact": HEADERS[at + 1].unwrap()}),
                );
            }
            Self::Port(lists) => {
                lists.put(&mut when, ["values", "notValues"], |at| json!({"exact": PORTS[at].to_string()}));
            }
        }
        when
    }
}

impl Rule {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            from: (0..random.usize(0..3)).map(|_| Source::random(random)).collect(),
            to: (0..random.usize(0..3)).map(|_| Operation::random(random)).collect(),
            when: (0..[0, 0, 0, 1, 2][random.usize(0..5)]).map(|_| Condition::random(random)).collect(),
        }
    }

    fn matches(&self, deny: bool, case: Case) -> bool {
        // A rule that allows and has anything of HTTP in it does not hold where there is none, not even by another operation.
        let is_http = self.to.iter().any(|to| !to.methods.is_empty() || !to.paths.is_empty())
            || self.when.iter().any(Condition::is_http);
        (case.http.is_some() || deny || !is_http)
            && (self.from.is_empty() || self.from.iter().any(|from| from.matches(case)))
            && (self.to.is_empty() || self.to.iter().any(|to| to.matches(deny, case)))
            && self.when.iter().all(|condition| condition.holds(deny, case))
    }

    fn encoded(&self) -> Value {
        let from: Vec<_> = self.from.iter().map(Source::encoded).collect();
        let to: Vec<_> = self.to.iter().map(Operation::encoded).collect();
        let when: Vec<_> = self.when.iter().map(Condition::encoded).collect();
        json!({"from": from, "to": to, "when": when})
    }
}

impl Policy {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            deny: random.bool(),
            dry_run: random.u8(0..5) == 0,
            rules: (0..random.usize(0..3)).map(|_| Rule::random(random)).collect(),
        }
    }

    fn matches(&self, case: Case) -> bool {
        self.rules.iter().any(|rule| rule.matches(self.deny, case))
    }

    fn encoded(&self) -> Value {
        let origin = json!({"kind": "AuthorizationPolicy", "namespace": "default", "name": "p", "field": ""});
        let rules: Vec<_> = self.rules.iter().map(Rule::encoded).collect();
        let action = if self.deny { "deny" } else { "allow" };
        json!({"origin": origin, "action": action, "rules": rules, "dryRun": self.dry_run})
    }
}

fn oracle(policies: &[Policy], case: Case) -> bool {
    let (denying, allowing): (Vec<_>, Vec<_>) =
        policies.iter().filter(|policy| !policy.dry_run).partition(|policy| policy.deny);
    !denying.iter().any(|policy| policy.matches(case))
        && (allowing.is_empty() || allowing.iter().any(|policy| policy.matches(case)))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (caller, address, port) in (0..16).map(|at| (at % 4, at / 4 % 2, at / 8)) {
        let requests = (0..6).map(|at| Some((at % 2, at / 2)));
        let requests = requests.flat_map(|http| [0, 1, 2].map(|header| (http, header)));
        let all = requests.chain([(None, 0)]);
        cases.extend(all.map(|(http, header)| Case { caller, address, port, http, header }));
    }
    cases
}

fn decided(snapshot: &Snapshot, case: Case) -> bool {
    let identity = CALLERS[case.caller]
        .map(|(namespace, account)| format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"));
    let address = format!("{}:40000", ADDRESSES[case.address]).parse().unwrap();
    let peer = Peer { address, ..peer(identity.as_deref()) };
    let entry = Entry::Inbound { port: PORTS[case.port] };
    let (mut dice, mut trail) = (Dice::seeded(1), Trail::off());
    let Some((method, path)) = case.http else {
        let decision = decide_connection(snapshot, entry, &peer, None, &mut dice, &mut trail);
        return matches!(decision, ConnectionDecision::Forward(_));
    };
    let fields: Vec<_> = HEADERS[case.header].map(|value| ("x", value)).into_iter().collect();
    let head = head(&format!("{} r{}", METHODS[method], PATHS[path]), &fields);
    let request = Request { snapshot, entry, peer: &peer, head: &head, now: Instant::now() };
    matches!(Decide::new().step(&request, &mut dice, &mut trail), Decision::Forward(_))
}

/// semantics.md 33 and 34 as well.
#[test]
fn s32_every_decision_is_the_oracles() {
    let mut random = fastrand::Rng::with_seed(32);
    let (cases, mut allowed) = (cases(), [0usize; 2]);
    for _ in 0..WORLDS {
        let policies: Vec<_> = (0..random.usize(0..4)).map(|_| Policy::random(&mut random)).collect();
        let encoded: Vec<_> = policies.iter().map(Policy::encoded).collect();
        let snapshot = snapshot(vec![own(json!({"authorization": encoded}))]);
        for &case in &cases {
            let decided = decided(&snapshot, case);
            assert_eq!(decided, oracle(&policies, case), "{case:?} {policies:#?}");
            allowed[usize::from(decided)] += 1;
        }
    }
    // Neither answer is rare.
    assert!(allowed.iter().all(|&count| count > WORLDS * cases.len() / 5), "{allowed:?}");
}
