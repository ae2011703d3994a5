//! Delegation against a naive reading of semantics.md 16: random roots and delegates, and every request that they can tell
//! apart. What a match takes is told by trying it; whether one lies within another, by trying all values.

use mesh_core::model::{PathMatch, RouteMatch, Rule, StringMatch};

use super::*;

const PATHS: [&str; 7] = ["/", "/a", "/A/B", "/a/b", "/a/bc", "/a/b/c", "/c"];
/// What a request says of a header: nothing, or one of these.
const VALUES: [Option<&str>; 4] = [None, Some("1"), Some("12"), Some("2")];
const WORLDS: usize = 600;
const PORT: u16 = 80;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Exact(&'static str),
    Prefix(&'static str),
    /// With the values that it takes.
    Expression(&'static str, &'static [&'static str]),
    Present,
}

#[derive(Debug, Clone, Default)]
struct Match {
    name: Option<&'static str>,
    path: Option<Test>,
    any_case: bool,
    header: Option<Test>,
    without: Option<Test>,
    port: Option<u16>,
    /// A label of the caller, which is `app: web`.
    app: Option<&'static str>,
    namespace: Option<&'static str>,
    /// In full.
    gateways: &'static [&'static str],
}

/// A rule, without what it does.
#[derive(Debug)]
struct Route {
    name: &'static str,
    matches: Vec<Match>,
    /// In seconds.
    timeout: Option<u32>,
    attempts: Option<u32>,
    rewrite: Option<&'static str>,
    header: Option<&'static str>,
}

impl Test {
    fn of_paths(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..8) {
            0 | 1 => Self::Exact(["/a", "/a/b", "/c"][random.usize(0..3)]),
            7 => Self::Expression("/a.*", &["/a", "/a/b", "/a/bc", "/a/b/c"]),
            _ => Self::Prefix(["/", "/a", "/a", "/a/b", "/a/b", "/A"][random.usize(0..6)]),
        }
    }

    fn of_headers(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..6) {
            0 | 1 => Self::Exact(["1", "12"][random.usize(0..2)]),
            2 | 3 => Self::Prefix("1"),
            4 => Self::Present,
            _ => Self::Expression("1.*", &["1", "12"]),
        }
    }

    fn takes(self, any_case: bool, value: Option<&str>) -> bool {
        let folded = |text: &str| if any_case { text.to_lowercase() } else { text.to_owned() };
        value.is_some_and(|value| match self {
            Self::Exact(text) => folded(value) == folded(text),
            Self::Prefix(text) => folded(value).starts_with(&folded(text)),
            Self::Expression(_, taken) => taken.contains(&value),
            Self::Present => true,
        })
    }

    /// Of a header that must not be so; one that is missing is empty, but for the question whether it is there.
    fn spares(self, value: Option<&str>) -> bool {
        match self {
            Self::Present => value.is_none(),
            test => !test.takes(false, Some(value.unwrap_or_default())),
        }
    }

    fn yaml(self) -> String {
        match self {
            Self::Exact(text) => format!("{{exact: '{text}'}}"),
            Self::Prefix(text) => format!("{{prefix: '{text}'}}"),
            Self::Expression(text, _) => format!("{{regex: '{text}'}}"),
            Self::Present => "{}".to_owned(),
        }
    }
}

/// Whether both ask and one of them by an expression: that is never compared.
fn are_expressions(outer: Option<Test>, inner: Option<Test>) -> bool {
    let is_expression = |test: Test| matches!(test, Test::Expression(..));
    outer.zip(inner).is_some_and(|(outer, inner)| is_expression(outer) || is_expression(inner))
}

impl Match {
    fn random(random: &mut fastrand::Rng, is_delegate: bool) -> Self {
        let mut one_in = |count: u8| random.u8(0..count) == 0;
        let [path, any_case, header, without, port, app, namespace, gateways, name] =
            [2, 5, 4, 5, 8, 8, 8, 8, 2].map(&mut one_in);
        Self {
            name: name.then_some(if is_delegate { "inner" } else { "outer" }),
            path: (!path).then(|| Test::of_paths(random)),
            any_case,
            header: header.then(|| Test::of_headers(random)),
            without: without.then(|| Test::of_headers(random)),
            port: port.then(|| [80, 80, 81][random.usize(0..3)]),
            app: app.then(|| ["web", "web", "job"][random.usize(0..3)]),
            namespace: namespace.then(|| ["default", "default", "other"][random.usize(0..3)]),
            gateways: if gateways {
                [&["mesh", "default/g"][..], &["mesh"], &["default/g"]][random.usize(0..3)]
            } else {
                &[]
            },
        }
    }

    /// Whether a request of the caller is taken: `app: web` of `default`, to port 80, through its sidecar. Where gateways are
    /// named, nothing is asked of the caller.
    fn takes(&self, path: &str, value: Option<&str>, names_gateways: bool) -> bool {
        self.path.is_none_or(|test| test.takes(self.any_case, Some(path)))
            && self.header.is_none_or(|test| test.takes(false, value))
            && self.without.is_none_or(|test| test.spares(value))
            && self.port.is_none_or(|port| port == PORT)
            && (names_gateways || self.app.is_none_or(|app| app == "web"))
            && (names_gateways || self.namespace.is_none_or(|namespace| namespace == "default"))
            && (self.gateways.is_empty() || self.gateways.contains(&"mesh"))
    }

    /// Whether it asks for no more than `outer` allows, property by property, where both ask.
    fn is_within(&self, outer: &Self) -> bool {
        let paths = self.path.is_none() || outer.path.is_none() || {
            let within = |path: &&str| {
                !self.path.unwrap().takes(self.any_case, Some(path))
                    || outer.path.unwrap().takes(outer.any_case, Some(path))
            };
            self.any_case == outer.any_case && PATHS.iter().all(within)
        };
        let headers = self.header.is_none() || outer.header.is_none() || {
            let takes = |test: Option<Test>, value: &Option<&str>| test.unwrap().takes(false, *value);
            VALUES.iter().all(|value| !takes(self.header, value) || takes(outer.header, value))
        };
        let without = self.without.is_none() || outer.without.is_none() || {
            let spares = |test: Option<Test>, value: &Option<&str>| test.unwrap().spares(*value);
            VALUES.iter().all(|value| !spares(self.without, value) || spares(outer.without, value))
        };
        let expressions = are_expressions(outer.path, self.path)
            || are_expressions(outer.header, self.header)
            || are_expressions(outer.without, self.without);
        let agree =
            |outer: Option<&str>, inner: Option<&str>| outer.is_none() || inner.is_none() || outer == inner;
        let gateways = self.gateways.iter().all(|gateway| outer.gateways.contains(gateway));
        paths
            && headers
            && without
            && !expressions
            && (self.port.is_none() || outer.port.is_none() || self.port == outer.port)
            && agree(outer.app, self.app)
            && agree(outer.namespace, self.namespace)
            && (self.gateways.is_empty() || outer.gateways.is_empty() || gateways)
    }

    /// In a namespace that is not the gateway's its full name is needed.
    fn yaml(&self, is_at_home: bool) -> String {
        let quoted = |text: &str| format!("'{text}'");
        let gateways = self.gateways.join(", ");
        let gateways = if is_at_home { gateways.replace("default/", "") } else { gateways };
        let fields = [
            ("name", self.name.map(quoted)),
            ("uri", self.path.map(Test::yaml)),
            ("ignoreUriCase", self.any_case.then(|| "true".to_owned())),
            ("headers", self.header.map(|test| format!("{{x: {}}}", test.yaml()))),
            ("withoutHeaders", self.without.map(|test| format!("{{x: {}}}", test.yaml()))),
            ("port", self.port.map(|port| port.to_string())),
            ("sourceLabels", self.app.map(|app| format!("{{app: {app}}}"))),
            ("sourceNamespace", self.namespace.map(quoted)),
            ("gateways", (!gateways.is_empty()).then(|| format!("[{gateways}]"))),
        ];
        braces(fields)
    }
}

/// A map of the fields that are there.
fn braces<const N: usize>(fields: [(&str, Option<String>); N]) -> String {
    let written = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    format!("{{{}}}", written.collect::<Vec<_>>().join(", "))
}

impl Route {
    fn random(random: &mut fastrand::Rng, names: [&'static str; 2]) -> Self {
        let is_delegate = names[0] == "d0";
        let count = random.usize(0..3);
        Self {
            name: if random.bool() { names[random.usize(0..2)] } else { "" },
            matches: (0..count).map(|_| Match::random(random, is_delegate)).collect(),
            timeout: random.bool().then(|| random.u32(1..9)),
            attempts: random.bool().then(|| random.u32(1..9)),
            rewrite: random.bool().then(|| ["/r", "/s"][random.usize(0..2)]),
            header: random.bool().then(|| ["h", "i"][random.usize(0..2)]),
        }
    }

    fn yaml(&self, is_at_home: bool, does: &'static str, what: &str) -> String {
        let matches: Vec<_> = self.matches.iter().map(|each| each.yaml(is_at_home)).collect();
        braces([
            ("name", Some(format!("'{}'", self.name))),
            ("match", Some(format!("[{}]", matches.join(", ")))),
            ("timeout", self.timeout.map(|seconds| format!("{seconds}s"))),
            ("retries", self.attempts.map(|attempts| format!("{{attempts: {attempts}}}"))),
            ("rewrite", self.rewrite.map(|path| format!("{{uri: {path}}}"))),
            ("headers", self.header.map(|name| format!("{{request: {{remove: [{name}]}}}}"))),
            (does, Some(what.to_owned())),
        ])
    }
}

/// What is seen of the rule that takes a request: its name with its match's, and its values.
type Seen = (String, Option<u32>, u32, Option<String>, Vec<String>);

fn joined(outer: &str, inner: &str) -> String {
    [outer, inner].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join("-")
}

/// The name of the pair of matches that takes a request; a delegate's rule of which any match lies within none of the
/// root's is no rule.
fn pair(root: &Route, delegate: &Route, path: &str, value: Option<&str>) -> Option<String> {
    let alone = |matches: &[Match]| {
        let first = matches.iter().find(|each| each.takes(path, value, !each.gateways.is_empty()))?;
        Some(first.name.unwrap_or_default().to_owned())
    };
    match (root.matches.as_slice(), delegate.matches.as_slice()) {
        ([], []) => return Some(String::new()),
        ([], matches) | (matches, []) => return alone(matches),
        _ => {}
    }
    let within = |inner: &Match| root.matches.iter().any(|outer| inner.is_within(outer));
    if !delegate.matches.iter().all(within) {
        return None;
    }
    let pairs =
        delegate.matches.iter().flat_map(|inner| root.matches.iter().map(move |outer| (outer, inner)));
    let both = |(outer, inner): &(&Match, &Match)| {
        let names_gateways = !outer.gateways.is_empty() || !inner.gateways.is_empty();
        inner.is_within(outer)
            && outer.takes(path, value, names_gateways)
            && inner.takes(path, value, names_gateways)
    };
    let (outer, inner) = pairs.into_iter().find(both)?;
    Some(joined(outer.name.unwrap_or_default(), inner.name.unwrap_or_default()))
}

fn oracle(roots: &[Route], delegates: &[Vec<Route>], path: &str, value: Option<&str>) -> Option<Seen> {
    let rules = roots
        .iter()
        .zip(delegates)
        .flat_map(|(root, delegate)| delegate.iter().map(move |rule| (root, rule)));
    let mut taken = rules.filter_map(|(root, rule)| Some((root, rule, pair(root, rule, path, value)?)));
    let (root, rule, name) = taken.next()?;
    Some((
        format!("{}.{name}", joined(root.name, rule.name)),
        rule.timeout.or(root.timeout),
        rule.attempts.or(root.attempts).unwrap_or(2),
        rule.rewrite.or(root.rewrite).map(str::to_owned),
        rule.header.or(root.header).map(str::to_owned).into_iter().collect(),
    ))
}

/// Tries the rules as they were translated.
fn found(rules: &[Rule], path: &str, value: Option<&str>) -> Option<Seen> {
    let holds = |each: &RouteMatch| {
        let test = match &each.path {
            None => None,
            Some(PathMatch::Exact(text)) => Some(StringMatch::Exact(text.clone())),
            Some(PathMatch::Prefix(text)) => Some(StringMatch::Prefix(text.clone())),
            Some(PathMatch::Regex(text)) => Some(StringMatch::Regex(text.clone())),
            Some(other) => panic!("{other:?}"),
        };
        test.is_none_or(|test| read(&test).takes(each.ignore_path_case, Some(path)))
            && each.headers.iter().all(|header| read(&header.value).takes(false, value))
            && each.without_headers.iter().all(|header| read(&header.value).spares(value))
    };
    let taken = rules.iter().find_map(|rule| match rule.matches.iter().find(|each| holds(each)) {
        Some(each) => Some((rule, each.name.clone().unwrap_or_default())),
        None => rule.matches.is_empty().then(|| (rule, String::new())),
    });
    let (rule, name) = taken?;
    Some((
        format!("{}.{name}", rule.name),
        rule.timeout.map(|timeout| u32::try_from(timeout.milliseconds() / 1000).unwrap()),
        rule.retry.attempts,
        rule.rewrite.as_ref().and_then(|rewrite| rewrite.path.clone()),
        rule.request_headers.remove.clone(),
    ))
}

/// A test of the model as one of ours.
fn read(test: &StringMatch) -> Test {
    let known = |text: &str| -> &'static str {
        let texts = ["/", "/a", "/a/b", "/c", "/A", "1", "12"];
        texts.into_iter().find(|known| *known == text).expect("a text out of the lists above")
    };
    match test {
        StringMatch::Exact(text) => Test::Exact(known(text)),
        StringMatch::Prefix(text) => Test::Prefix(known(text)),
        StringMatch::Regex(text) if text == "1.*" => Test::Expression("1.*", &["1", "12"]),
        StringMatch::Regex(_) => Test::Expression("/a.*", &["/a", "/a/b", "/a/bc", "/a/b/c"]),
        StringMatch::Present => Test::Present,
        other => panic!("{other:?}"),
    }
}

fn object(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

#[test]
fn s16_requests_are_handed_on_as_the_oracle_says() {
    let mut random = fastrand::Rng::with_seed(16);
    let (mut taken, mut paired, mut dropped) = ([0; 2], 0, 0);
    for _ in 0..WORLDS {
        let roots: Vec<_> =
            (0..random.usize(1..=2)).map(|_| Route::random(&mut random, ["r0", "r1"])).collect();
        let delegates: Vec<Vec<_>> = roots
            .iter()
            .map(|_| (0..random.usize(1..=2)).map(|_| Route::random(&mut random, ["d0", "d1"])).collect())
            .collect();
        let namespace = ["default", "other"][random.usize(0..2)];
        let mut yaml = service("web", 80, &["v1"]);
        let mut rules = Vec::new();
        for (at, (root, delegate)) in roots.iter().zip(&delegates).enumerate() {
            rules.push(root.yaml(true, "delegate", &format!("{{name: d{at}, namespace: {namespace}}}")));
            let to = "[{destination: {host: web.default.svc.cluster.local}}]";
            let theirs: Vec<_> =
                delegate.iter().map(|rule| rule.yaml(namespace == "default", "route", to)).collect();
            yaml += &object(&format!("d{at}"), namespace, &format!("http: [{}]", theirs.join(", ")));
            for (inner, outer) in delegate
                .iter()
                .flat_map(|rule| &rule.matches)
                .flat_map(|inner| root.matches.iter().map(move |outer| (inner, outer)))
            {
                *if inner.is_within(outer) { &mut paired } else { &mut dropped } += 1;
            }
        }
        let spec = format!("hosts: [web], gateways: [mesh, g], http: [{}]", rules.join(", "));
        let yaml = yaml + &object("r", "default", &spec);
        let resources = closure(&view(&yaml), &sidecar("web-v1"), &host_root("web", PORT)).unwrap();
        let rules = &tables(&resources)[0].virtual_hosts[0].rules;
        for (path, value) in PATHS.iter().flat_map(|path| VALUES.map(|value| (*path, value))) {
            let expected = oracle(&roots, &delegates, path, value);
            assert_eq!(found(rules, path, value), expected, "{path} {value:?}\n{yaml}");
            taken[usize::from(expected.is_some())] += 1;
        }
    }
    assert!(
        taken.iter().all(|&count| count > 5 * WORLDS) && paired > WORLDS / 4 && dropped > WORLDS / 4,
        "{taken:?} {paired} {dropped}"
    );
}

/// Where the root names gateways these are of its own namespace, wherever the delegate is.
#[test]
fn gateways_of_the_root_are_of_its_namespace() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n\
        spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}]}\n---\n";
    let root = "hosts: [a.example.com], gateways: [g, mesh], \
        http: [{match: [{gateways: [g]}], delegate: {name: d, namespace: other}}]";
    let delegate = "http: [{name: d, match: [{uri: {prefix: /x}}], directResponse: {status: 204}}]";
    let yaml = gateway.to_owned()
        + &gateway_pod("ingressgateway")
        + &object("r", "default", root)
        + &object("d", "other", delegate);
    let resources = closure(&view(&yaml), &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    assert_eq!(tables(&resources)[0].virtual_hosts[0].rules.len(), 1);
}

/// A delegate has no hosts, is exported to the root's namespace, and delegates nothing.
#[test]
fn what_is_no_delegate_is_left_out_and_told() {
    let answer = "http: [{directResponse: {status: 204}}]";
    let again = "http: [{delegate: {name: e}}]";
    for (delegate, told) in [
        (answer.to_owned(), None),
        (format!("hosts: [other], {answer}"), Some("has hosts")),
        (format!("exportTo: ['.'], {answer}"), Some("not exported")),
        (format!("exportTo: [nowhere], {answer}"), Some("not exported")),
        (format!("exportTo: [default], {answer}"), None),
        (again.to_owned(), Some("one level only")),
    ] {
        let yaml = service("web", 80, &["v1"])
            + &object("r", "default", "hosts: [web], http: [{delegate: {name: d, namespace: other}}]")
            + &object("d", "other", &delegate)
            + &object("e", "other", answer);
        let view = view(&yaml);
        let resources = closure(&view, &sidecar("web-v1"), &host_root("web", PORT)).unwrap();
        assert_eq!(tables(&resources)[0].virtual_hosts[0].rules.is_empty(), told.is_some(), "{delegate}");
        let problems: Vec<_> = view.problems().iter().map(|problem| problem.to_string()).collect();
        let found = told.is_none_or(|told| problems.iter().any(|problem| problem.contains(told)));
        assert!(found, "{delegate}: {problems:?}");
    }
}
