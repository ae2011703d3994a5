//! Which rule takes a request, against a naive reading of semantics.md 1 to 5: random rules, and every request that they can
//! tell apart.

use super::*;

const PATHS: [&str; 6] = ["/", "/a", "/A", "/ab", "/a/b", "/b"];
const METHODS: [&str; 2] = ["GET", "PUT"];
/// What the request says of header `x`: nothing, one value, another, or both.
const HEADERS: [&[&str]; 4] = [&[], &["1"], &["2"], &["1", "2"]];
const QUERIES: [&str; 4] = ["", "?v=1", "?w=1&v=2", "?v=2&v=1"];
const AUTHORITIES: [&str; 2] = ["reviews", "REVIEWS:9080"];
/// Expressions, and the paths that they match as a whole.
const EXPRESSIONS: [(&str, &[&str]); 3] =
    [("/a.*", &["/a", "/ab", "/a/b"]), ("/b|/a", &["/a", "/b"]), ("/", &["/"])];
const WORLDS: usize = 400;
/// The listener's; another one in a match never holds.
const PORT: u16 = 9080;

#[derive(Debug)]
enum Path {
    Exact(usize),
    Prefix(usize),
    Segments(usize),
    Expression(usize),
}

/// A test on one value.
#[derive(Debug)]
enum Test {
    Present,
    Exact(&'static str),
    Prefix(&'static str),
}

#[derive(Debug, Default)]
struct Match {
    path: Option<Path>,
    any_case: bool,
    method: Option<usize>,
    header: Option<Test>,
    without: Option<Test>,
    query: Option<Test>,
    authority: Option<usize>,
    port: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    path: usize,
    method: usize,
    header: usize,
    query: usize,
    authority: usize,
}

impl Path {
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..4) {
            0 => Self::Exact(random.usize(0..PATHS.len())),
            1 => Self::Prefix(random.usize(0..PATHS.len())),
            2 => Self::Segments(random.usize(0..PATHS.len())),
            _ => Self::Expression(random.usize(0..EXPRESSIONS.len())),
        }
    }

    fn matches(&self, any_case: bool, path: &str) -> bool {
        let folded = |text: &str| if any_case { text.to_ascii_lowercase() } else { text.to_owned() };
        match *self {
            Self::Exact(at) => folded(path) == folded(PATHS[at]),
            Self::Prefix(at) => folded(path).starts_with(&folded(PATHS[at])),
            Self::Segments(at) => {
                let wanted = folded(PATHS[at]);
                let wanted: Vec<_> = wanted.split('/').filter(|segment| !segment.is_empty()).collect();
                let path = folded(path);
                let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
                segments.starts_with(&wanted)
            }
            // Case is never ignored for expressions.
            Self::Expression(at) => EXPRESSIONS[at].1.contains(&path),
        }
    }

    fn encoded(&self) -> Value {
        match *self {
            Self::Exact(at) => json!({"exact": PATHS[at]}),
            Self::Prefix(at) => json!({"prefix": PATHS[at]}),
            Self::Segments(at) => json!({"segmentPrefix": PATHS[at]}),
            Self::Expression(at) => json!({"regex": EXPRESSIONS[at].0}),
        }
    }
}

impl Test {
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..4) {
            0 => Self::Present,
            1 => Self::Exact("1"),
            2 => Self::Exact("1,2"),
            _ => Self::Prefix("1"),
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        value.is_some_and(|value| match self {
            Self::Present => true,
            Self::Exact(text) => value == *text,
            Self::Prefix(text) => value.starts_with(text),
        })
    }

    fn encoded(&self, name: &str) -> Value {
        let value = match self {
            Self::Present => json!("present"),
            Self::Exact(text) => json!({"exact": text}),
            Self::Prefix(text) => json!({"prefix": text}),
        };
        json!([{"name": name, "value": value}])
    }
}

impl Match {
    fn random(random: &mut fastrand::Rng) -> Self {
        // Few things at a time, or nothing would ever match.
        let mut one_in = |count: u8| random.u8(0..count) == 0;
        let wanted: [bool; 7] = [2, 4, 4, 5, 5, 6, 8].map(&mut one_in);
        Self {
            path: wanted[0].then(|| Path::random(random)),
            any_case: random.bool(),
            method: wanted[1].then(|| random.usize(0..METHODS.len())),
            header: wanted[2].then(|| Test::random(random)),
            without: wanted[3].then(|| Test::random(random)),
            query: wanted[4].then(|| Test::random(random)),
            authority: wanted[5].then(|| random.usize(0..AUTHORITIES.len())),
            port: wanted[6].then(|| if random.bool() { PORT } else { 80 }),
        }
    }

    fn matches(&self, case: Case) -> bool {
        let values = HEADERS[case.header];
        let joined = values.join(",");
        let header = (!values.is_empty()).then_some(joined.as_str());
        // Of several parameters of one name the first counts.
        let first = ["", "1", "2", "2"][case.query];
        let query = (case.query > 0).then_some(first);
        self.path.as_ref().is_none_or(|path| path.matches(self.any_case, PATHS[case.path]))
            && self.method.is_none_or(|method| method == case.method)
            && self.header.as_ref().is_none_or(|test| test.matches(header))
            && self.without.as_ref().is_none_or(|test| match test {
                Test::Present => header.is_none(),
                test => !test.matches(Some(header.unwrap_or_default())),
            })
            && self.query.as_ref().is_none_or(|test| test.matches(query))
            && self.authority.is_none_or(|authority| authority == case.authority)
            && self.port.is_none_or(|port| port == PORT)
    }

    fn encoded(&self) -> Value {
        let mut encoded = json!({"ignorePathCase": self.any_case});
        let fields = [
            ("path", self.path.as_ref().map(Path::encoded)),
            ("method", self.method.map(|at| json!({"exact": METHODS[at]}))),
            ("headers", self.header.as_ref().map(|test| test.encoded("x"))),
            ("withoutHeaders", self.without.as_ref().map(|test| test.encoded("x"))),
            ("query", self.query.as_ref().map(|test| test.encoded("v"))),
            ("authority", self.authority.map(|at| json!({"exact": AUTHORITIES[at]}))),
            ("port", self.port.map(|port| json!(port))),
        ];
        for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            encoded[name] = value;
        }
        encoded
    }
}

/// The first rule one of whose matches holds; a rule without matches takes everything.
fn oracle(rules: &[Vec<Match>], case: Case) -> Option<usize> {
    rules.iter().position(|matches| matches.is_empty() || matches.iter().any(|each| each.matches(case)))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, method, header) in (0..48).map(|at| (at % 6, at / 6 % 2, at / 12)) {
        let rest = (0..8).map(|at| (at % 4, at / 4));
        cases.extend(rest.map(|(query, authority)| Case { path, method, header, query, authority }));
    }
    cases
}

fn decided(snapshot: &Snapshot, case: Case) -> String {
    let (authority, path) = (AUTHORITIES[case.authority], PATHS[case.path]);
    let line = format!("{} {authority}{path}{}", METHODS[case.method], QUERIES[case.query]);
    let fields: Vec<_> = HEADERS[case.header].iter().map(|value| ("x", *value)).collect();
    route_of(snapshot, &line, &fields)
}

#[test]
fn s1_every_request_takes_the_oracles_rule() {
    let mut random = fastrand::Rng::with_seed(1);
    let (cases, mut places) = (cases(), [0usize; 5]);
    for _ in 0..WORLDS {
        let rules: Vec<Vec<Match>> = (0..random.usize(1..=4))
            .map(|_| (0..random.usize(0..3)).map(|_| Match::random(&mut random)).collect())
            .collect();
        let encoded = rules.iter().enumerate().map(|(at, matches)| {
            let matches: Vec<_> = matches.iter().map(Match::encoded).collect();
            rule(json!({"name": at.to_string(), "matches": matches}))
        });
        let table = routes("reviews.default.svc.cluster.local:9080", json!(["reviews"]), encoded.collect());
        let snapshot = snapshot(vec![table, own(json!({})), cluster("v1")]);
        for &case in &cases {
            let expected = oracle(&rules, case);
            let named = expected.map_or_else(|| "404".to_owned(), |at| at.to_string());
            assert_eq!(decided(&snapshot, case), named, "{case:?} {rules:#?}");
            places[expected.unwrap_or(4)] += 1;
        }
    }
    // Later rules, and none, are not rare.
    assert!(places.iter().all(|&count| count > WORLDS), "{places:?}");
}
