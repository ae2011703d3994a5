use std::net::IpAddr;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Authorization;
use super::*;
use crate::identity::SpiffeId;
use crate::message::{Headers, Method, RequestHead, Scheme, Version};
use crate::model::{self, Host};

const WORLDS: usize = 400;
const PATHS: [&str; 7] = ["/", "/a", "/ab", "/a/b", "/a/c", "/b", "/A"];
const PATH_TESTS: [&str; 6] = ["/a", "/a/", "/", "/b", "b", ""];
const EXPRESSIONS: [&str; 4] = ["/a/[bc]", "/a|/b", "/a.*", "/ab?"];
const HOSTS: [&str; 4] = ["shop.example", "SHOP.example:80", "shop", "web.example"];
const CALLERS: [Option<(&str, &str)>; 6] = [
    None,
    Some(("a", "web")),
    Some(("a", "web-2")),
    Some(("ab", "web")),
    Some(("b", "job")),
    Some(("b", "web")),
];

/// At most two of the texts, now and then none.
fn tests(random: &mut fastrand::Rng, texts: &[&str]) -> Value {
    let count = [0, 0, 1, 1, 2][random.usize(0..5)];
    let test = |random: &mut fastrand::Rng| {
        let text = *random.choice(texts).unwrap();
        match random.u8(0..9) {
            0..=3 => json!({"exact": text}),
            4..=5 => json!({"prefix": text}),
            6 => json!({"suffix": text}),
            7 => json!({"regex": random.choice(EXPRESSIONS).unwrap()}),
            _ => json!("present"),
        }
    };
    (0..count).map(|_| test(random)).collect()
}

fn rarely(random: &mut fastrand::Rng, tests: Value) -> Value {
    if random.u8(0..6) == 0 { tests } else { json!([]) }
}

fn source(random: &mut fastrand::Rng) -> Value {
    let principals = CALLERS.map(|caller| {
        let (namespace, account) = caller.unwrap_or(("a", "we"));
        format!("cluster.local/ns/{namespace}/sa/{account}")
    });
    let principals = principals.each_ref().map(String::as_str);
    let (not_principals, not_namespaces) = (tests(random, &principals), tests(random, &["a", "b", "ab"]));
    let accounts = ["web", "b/web", "a/web-2", "a/job"];
    let accounts: Vec<_> = (0..random.usize(0..3)).map(|_| *random.choice(&accounts).unwrap()).collect();
    match random.u8(0..4) {
        0 => {
            json!({"principals": tests(random, &principals), "notNamespaces": rarely(random, not_namespaces)})
        }
        1 => {
            json!({"namespaces": tests(random, &["a", "b", "ab"]), "notPrincipals": rarely(random, not_principals)})
        }
        2 => json!({"serviceAccounts": accounts}),
        _ => json!({"ipBlocks": [random.choice(["10.0.0.0/24", "10.0.1.0/24"]).unwrap()]}),
    }
}

fn operation(random: &mut fastrand::Rng) -> Value {
    let not_paths = tests(random, &PATH_TESTS);
    match random.u8(0..4) {
        0..=1 => {
            json!({"paths": tests(random, &PATH_TESTS), "methods": rarely(random, json!([{"exact": "PUT"}]))})
        }
        2 => json!({"hosts": tests(random, &HOSTS), "notPaths": rarely(random, not_paths)}),
        _ => json!({"ports": [random.choice([80, 81]).unwrap()]}),
    }
}

fn condition(random: &mut fastrand::Rng) -> Value {
    match random.u8(0..4) {
        0 => json!({"key": "request.headers[x-team]", "values": [{"exact": "red"}]}),
        1 => json!({"key": "source.namespace", "values": tests(random, &["a", "b"])}),
        2 => json!({"key": "source.principal", "notValues": [{"exact": "cluster.local/ns/a/sa/web"}]}),
        _ => json!({"key": "nobody.knows", "values": [{"exact": "x"}]}),
    }
}

fn policy(random: &mut fastrand::Rng, at: usize) -> Value {
    let origin =
        json!({"kind": "AuthorizationPolicy", "namespace": "a", "name": at.to_string(), "field": ""});
    let rule = |random: &mut fastrand::Rng| {
        let from: Vec<_> = (0..random.usize(0..3)).map(|_| source(random)).collect();
        let to: Vec<_> = (0..random.usize(0..3)).map(|_| operation(random)).collect();
        let when: Vec<_> = (0..usize::from(random.u8(0..4) == 0)).map(|_| condition(random)).collect();
        json!({"from": from, "to": to, "when": when})
    };
    let rules: Vec<_> = (0..random.usize(0..12)).map(|_| rule(random)).collect();
    let custom = json!({"custom": {"name": "x", "cluster": null, "protocol": {"grpc": "x"}, "timeout": 600,
        "statusOnError": 403}});
    let action = [json!("allow"), json!("allow"), json!("deny"), custom][random.usize(0..4)].clone();
    json!({"origin": origin, "action": action, "rules": rules, "dryRun": random.u8(0..5) == 0})
}

fn authorization(policies: &[Value]) -> Authorization {
    let own: model::Own = serde_json::from_value(json!({"role": "sidecar", "workload": {},
        "identity": "spiffe://cluster.local/ns/default/sa/web", "outboundPolicy": "allowAny",
        "mesh": {"trustDomain": "cluster.local", "drainTimeout": 5000}, "authorization": policies}))
    .unwrap();
    Authorization::new(&own).0
}

fn head(path: &str, method: &str, host: &'static str, team: Option<&'static str>) -> RequestHead {
    let mut headers = Headers::default();
    team.into_iter().for_each(|team| headers.append("x-team", team));
    RequestHead {
        method: Method::parse(Bytes::from(method.to_owned())).unwrap(),
        scheme: Scheme::Http,
        host: Host::parse_authority(host).unwrap().0,
        authority: host.into(),
        path: Bytes::from(path.to_owned()),
        query: None,
        version: Version::Http11,
        upgrade: None,
        headers,
    }
}

/// Every rule of every policy, in the order of semantics.md 32.
fn walked<'a>(
    authorization: &'a Authorization,
    dry_run: bool,
    caller: &Caller<'_>,
) -> Option<(&'a CompiledPolicy, usize)> {
    let of = |action: fn(&AuthzAction) -> bool| {
        let chosen = authorization.policies.iter().filter(move |policy| policy.dry_run == dry_run);
        chosen.filter(move |policy| action(&policy.action))
    };
    let custom = of(|action| matches!(action, AuthzAction::Custom(_)));
    let custom = custom.filter(|_| caller.head.is_none() && !dry_run);
    let (deny, allow) =
        (of(|action| *action == AuthzAction::Deny), of(|action| *action == AuthzAction::Allow));
    custom.chain(deny).chain(allow).find_map(|policy| Some((policy, policy.matching(caller)?)))
}

/// semantics.md 32: what is looked up is what a walk over all rules comes to.
#[test]
fn the_first_rule_that_decides_is_found_as_by_a_walk() {
    let mut random = fastrand::Rng::with_seed(32);
    let (mut found, mut indexed) = ([0usize; 2], 0);
    for _ in 0..WORLDS {
        let policies: Vec<_> = (0..random.usize(1..6)).map(|at| policy(&mut random, at)).collect();
        let authorization = authorization(&policies);
        indexed += usize::from(authorization.in_force.http.index.is_some());
        for _ in 0..60 {
            let path = *random.choice(&PATHS).unwrap();
            let (method, host) = (*random.choice(&["GET", "PUT"]).unwrap(), *random.choice(&HOSTS).unwrap());
            let head = head(path, method, host, *random.choice(&[None, Some("red")]).unwrap());
            let identity = random
                .choice(CALLERS)
                .unwrap()
                .map(|(namespace, account)| SpiffeId::new("cluster.local", namespace, account).unwrap());
            let address: IpAddr = random.choice(["10.0.0.9", "10.0.1.9"]).unwrap().parse().unwrap();
            let caller = Caller {
                identity: identity.as_ref(),
                address,
                remote: address,
                local: address,
                port: random.choice([80, 81]).unwrap(),
                sni: None,
                head: (random.u8(0..4) > 0).then_some(&head),
                token: None,
            };
            for dry_run in [false, true] {
                let name = |(policy, rule): (&CompiledPolicy, usize)| (policy.origin.name.clone(), rule);
                let first = authorization.first(&caller, dry_run).map(name);
                let walked = walked(&authorization, dry_run, &caller).map(name);
                assert_eq!(first, walked, "{caller:?} {policies:#?}");
                found[usize::from(first.is_some())] += 1;
            }
        }
    }
    assert!(indexed > WORLDS / 2, "{indexed}");
    assert!(found.iter().all(|&count| count > WORLDS * 10), "{found:?}");
}
