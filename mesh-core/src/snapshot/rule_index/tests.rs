use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::message::{Headers, Method, RequestHead, Scheme, Version};
use crate::model::{self, Host};

/// Short and alike, so that what should not match almost does.
const PATHS: [&str; 14] = [
    "/", "/a", "/A", "/a/", "/ab", "/a/b", "/a/B/c", "/a/b/c/d", "/aB", "/b", "/b/a", "/\u{e4}", "/a//b", "*",
];
const EXPRESSIONS: [&str; 10] =
    ["/a.*", "/a/?", "/ab?", "/a|/b", "(?i)/A", "/.*b", "^/a$", "/b/[a-c]", "/\u{e4}*", ".*"];
const WORLDS: usize = 300;

fn compiled(rules: &[Value]) -> Vec<Arc<CompiledRule>> {
    let compile = |(at, matches): (usize, &Value)| {
        let origin = json!({"kind": "VirtualService", "namespace": "d", "name": "vs", "field": ""});
        let rule = json!({"name": at.to_string(), "matches": matches, "origin": origin,
            "action": {"forward": [{"cluster": "c", "weight": 1}]}});
        let model: model::Rule = serde_json::from_value(rule).unwrap();
        Arc::new(CompiledRule::new(&model).unwrap())
    };
    rules.iter().enumerate().map(compile).collect()
}

fn head(path: &str, method: &str, team: Option<&'static str>) -> RequestHead {
    let mut headers = Headers::default();
    team.into_iter().for_each(|team| headers.append("x-team", team));
    RequestHead {
        method: Method::parse(Bytes::from(method.to_owned())).unwrap(),
        scheme: Scheme::Http,
        host: Host::parse("h").unwrap(),
        authority: "h".into(),
        path: Bytes::from(path.to_owned()),
        query: None,
        version: Version::Http11,
        upgrade: None,
        headers,
    }
}

fn walked(rules: &[Arc<CompiledRule>], head: &RequestHead) -> Option<(usize, usize)> {
    rules.iter().enumerate().find_map(|(at, rule)| Some((at, rule.matching(head, 80, None)?.1)))
}

fn looked_up(rules: &[Arc<CompiledRule>], head: &RequestHead) -> Option<(usize, usize)> {
    let holds = |rule: usize, at| rules[rule].passes(at, head, 80, None);
    RuleIndex::new(rules).find(&head.path, holds)
}

fn random_match(random: &mut fastrand::Rng) -> Value {
    let mut each = json!({"ignorePathCase": random.u8(0..4) == 0});
    let text = *random.choice(&PATHS).unwrap();
    match random.u8(0..9) {
        0..=2 => each["path"] = json!({"exact": text}),
        3..=4 => each["path"] = json!({"prefix": text}),
        5..=6 => each["path"] = json!({"segmentPrefix": text}),
        7 => each["path"] = json!({"regex": random.choice(&EXPRESSIONS).unwrap()}),
        _ => {}
    }
    if random.u8(0..3) == 0 {
        each["method"] = json!({"exact": "PUT"});
    }
    if random.u8(0..2) == 0 {
        each["headers"] =
            json!([{"name": "x-team", "value": {"exact": random.choice(["red", "blue"]).unwrap()}}]);
    }
    if random.u8(0..8) == 0 {
        each["port"] = json!(81);
    }
    each
}

/// semantics.md 1: the first match wins, whichever way it is found.
#[test]
fn every_lookup_is_a_walk_over_all_rules() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut taken = [0usize; 2];
    for _ in 0..WORLDS {
        let count = random.usize(1..30);
        let rules: Vec<Value> = (0..count)
            .map(|_| {
                // A rule without matches takes everything: rare, or nothing would be behind it.
                let matches = if random.u8(0..20) == 0 { 0 } else { random.usize(1..4) };
                (0..matches).map(|_| random_match(&mut random)).collect()
            })
            .collect();
        let compiled = compiled(&rules);
        for at in 0..PATHS.len() * 6 {
            let (path, method) = (PATHS[at / 6], ["GET", "PUT"][at % 2]);
            let head = head(path, method, [None, Some("red"), Some("blue")][at % 3]);
            let walked = walked(&compiled, &head);
            assert_eq!(looked_up(&compiled, &head), walked, "{head:?} {rules:#?}");
            taken[usize::from(walked.is_some_and(|(rule, _)| rule > 3))] += 1;
        }
    }
    // Late rules are not rare.
    assert!(taken.iter().all(|&count| count > WORLDS), "{taken:?}");
}

#[test]
fn traps() {
    let path = |kind: &str, text: &str| json!([{"path": {kind: text}}]);
    let any_case = |kind: &str, text: &str| json!([{"path": {kind: text}, "ignorePathCase": true}]);
    let team = json!([{"headers": [{"name": "x-team", "value": {"exact": "red"}}]}]);
    let rules = compiled(&[
        /* 0 */ path("segmentPrefix", "/shop/"),
        /* 1 */ path("prefix", "/shopping/cart"),
        /* 2 */ any_case("exact", "/Login"),
        /* 3 */ path("exact", "/login"),
        /* 4 */ team,
        /* 5 */
        json!([{"path": {"exact": "/x"}}, {"path": {"prefix": "/y"}}, {"method": {"exact": "PUT"}}]),
        /* 6 */ path("prefix", "/"),
        /* 7 */ path("exact", "/late"),
        /* 8 */ json!([]),
    ]);
    let cases = [
        ("/shop", None, (0, 0)),
        ("/shop/a", None, (0, 0)),
        ("/shopping", None, (6, 0)),
        ("/shopping/carts", None, (1, 0)),
        ("/login", None, (2, 0)),
        ("/LOGIN", Some("red"), (2, 0)),
        ("/late", None, (6, 0)),
        ("/late", Some("red"), (4, 0)),
        ("/x", None, (5, 0)),
        ("/y/z", None, (5, 1)),
        ("*", None, (8, 0)),
    ];
    for (path, team, expected) in cases {
        let head = head(path, "GET", team);
        assert_eq!(looked_up(&rules, &head), Some(expected), "{path} {team:?}");
        assert_eq!(walked(&rules, &head), Some(expected), "{path} {team:?}");
    }
    assert_eq!(looked_up(&rules, &head("/zz", "PUT", None)), Some((5, 2)));
}

#[test]
fn short_tables_are_walked() {
    let rules: Vec<_> = (0..WALKED - 1).map(|at| json!([{"path": {"exact": format!("/{at}")}}])).collect();
    assert!(RuleIndex::of(&compiled(&rules)).is_none());
    let rules: Vec<_> = rules.into_iter().chain([json!([])]).collect();
    assert!(RuleIndex::of(&compiled(&rules)).is_some());
}
