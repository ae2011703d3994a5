use super::*;

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn policy(action: Value, rules: Value) -> Value {
    let origin = json!({"kind": "AuthorizationPolicy", "namespace": "default", "name": "p", "field": ""});
    json!({"origin": origin, "action": action, "rules": rules})
}

fn workload(policies: &[Value]) -> Snapshot {
    let mesh =
        json!({"trustDomain": "cluster.local", "trustDomainAliases": ["old.local"], "drainTimeout": 0});
    let own = own(json!({"authorization": policies, "mesh": mesh}));
    let (snapshot, _) =
        compile(None, &[serde_json::from_value::<Resource>(own).unwrap()].into_iter().collect());
    snapshot
}

/// The denying policy, or `allowed`.
fn verdict(policies: &[Value], identity: Option<&str>, head: &RequestHead) -> String {
    let (snapshot, peer) = (workload(policies), peer(identity));
    let entry = Entry::Inbound { port: 9080 };
    let request = Request { snapshot: &snapshot, entry, peer: &peer, head, now: Instant::now() };
    match Decide::new().step(&request, &mut Dice::seeded(1), &mut Trail::off()) {
        Decision::Forward(_) => "allowed".into(),
        Decision::Answer(answer) => {
            assert_eq!((answer.status, &answer.body[..]), (403, &b"RBAC: access denied"[..]));
            answer.denial.unwrap().to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn allows(policies: &[Value], identity: Option<&str>, line: &str) -> bool {
    verdict(policies, identity, &head(line, &[])) == "allowed"
}

fn of_connection(policies: &[Value], identity: Option<&str>) -> bool {
    let decision = decide_connection(
        &workload(policies),
        Entry::Inbound { port: 9080 },
        &peer(identity),
        None,
        &mut Dice::seeded(1),
        &mut Trail::off(),
    );
    matches!(decision, ConnectionDecision::Forward(_))
}

#[test]
fn s32_deny_goes_before_allow_and_without_allow_policies_all_is_allowed() {
    let gets = json!([{"to": [{"methods": [{"exact": "GET"}]}]}]);
    let admin = json!([{"to": [{"paths": [{"prefix": "/admin"}]}]}]);
    let (allow, deny) = (policy(json!("allow"), gets), policy(json!("deny"), admin));
    assert!(allows(&[], None, "PUT r/"));
    assert!(allows(std::slice::from_ref(&deny), None, "PUT r/"));
    assert!(allows(&[allow.clone(), deny.clone()], None, "GET r/"));
    assert!(!allows(&[allow.clone(), deny.clone()], None, "PUT r/"));
    assert!(!allows(&[allow, deny], None, "GET r/admin/x"));
}

#[test]
fn s32_no_rules_never_match_and_an_empty_rule_always_does() {
    let get = "GET r/";
    assert!(!allows(&[policy(json!("allow"), json!([]))], None, get), "allow nothing");
    assert!(allows(&[policy(json!("deny"), json!([]))], None, get));
    assert!(allows(&[policy(json!("allow"), json!([{}]))], None, get));
    assert!(!allows(&[policy(json!("deny"), json!([{}]))], None, get));
    assert!(
        !allows(
            &[policy(
                json!({"custom": {"name": "nobody", "cluster": null, "protocol": {"grpc": "nobody"}, "timeout": 600, "statusOnError": 403}}),
                json!([{}])
            )],
            None,
            get
        ),
        "unknown provider"
    );
}

#[test]
fn denials_name_the_policy_and_the_rule() {
    let deny = policy(
        json!("deny"),
        json!([{"to": [{"paths": [{"exact": "/x"}]}]}, {"to": [{"paths": [{"exact": "/y"}]}]}]),
    );
    let details = verdict(&[deny], None, &head("GET r/y", &[]));
    assert_eq!(details, "rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[1]]");
    let details = verdict(&[policy(json!("allow"), json!([]))], None, &head("GET r/y", &[]));
    assert_eq!(details, "rbac_access_denied_matched_policy[none]");
}

#[test]
fn s33_on_connections_http_rules_never_allow_and_deny_wider() {
    let gets = json!([{"to": [{"methods": [{"exact": "GET"}], "ports": [9080]}]}]);
    let other_port = json!([{"to": [{"methods": [{"exact": "GET"}], "ports": [80]}]}]);
    assert!(!of_connection(&[policy(json!("allow"), gets.clone())], None));
    assert!(!of_connection(&[policy(json!("deny"), gets)], None));
    assert!(of_connection(&[policy(json!("deny"), other_port)], None));
    let web = policy(
        json!("allow"),
        json!([{"from": [{"principals": [{"exact": "cluster.local/ns/default/sa/web"}]}]}]),
    );
    assert!(of_connection(std::slice::from_ref(&web), Some(WEB)));
    assert!(!of_connection(&[web], None));
}

#[test]
fn s34_who_is_calling() {
    let old = "spiffe://old.local/ns/default/sa/web";
    let foreign = "spiffe://else.local/ns/default/sa/web";
    for (source, allowed) in [
        (json!({"principals": [{"exact": "cluster.local/ns/default/sa/web"}]}), [true, true, false, false]),
        (json!({"principals": [{"exact": "old.local/ns/default/sa/web"}]}), [true, true, false, false]),
        (json!({"principals": [{"suffix": "/sa/web"}]}), [true, true, true, false]),
        (json!({"principals": ["present"]}), [true, true, true, false]),
        (json!({"notPrincipals": ["present"]}), [false, false, false, true]),
        (json!({"namespaces": [{"exact": "default"}]}), [true, true, true, false]),
        (json!({"notNamespaces": [{"exact": "default"}]}), [false, false, false, true]),
        (json!({"serviceAccounts": ["web", "x/y"]}), [true, true, true, false]),
        (json!({"serviceAccounts": ["other/web"]}), [false; 4]),
        (json!({"ipBlocks": ["10.0.0.0/24"]}), [true; 4]),
        (json!({"notIpBlocks": ["10.0.0.0/24"]}), [false; 4]),
        (json!({"requestPrincipals": ["present"]}), [false; 4]),
    ] {
        let policy = policy(json!("allow"), json!([{"from": [source]}]));
        let seen = [Some(WEB), Some(old), Some(foreign), None]
            .map(|who| allows(std::slice::from_ref(&policy), who, "GET r/"));
        assert_eq!(seen, allowed, "{source}");
    }
}

#[test]
fn s34_hosts_ignore_case_but_not_the_port_and_paths_have_no_query() {
    let to = |operation: Value| [policy(json!("allow"), json!([{"to": [operation]}]))];
    let host = to(json!({"hosts": [{"exact": "Example.com"}]}));
    assert!(allows(&host, None, "GET example.COM/"));
    assert!(!allows(&host, None, "GET example.com:8080/"));
    assert!(allows(&to(json!({"paths": [{"exact": "/a"}]})), None, "GET r/a?b"));
    assert!(!allows(&to(json!({"notPaths": [{"exact": "/a"}]})), None, "GET r/a?b"));
}

#[test]
fn conditions() {
    let when = |key: &str, value: &str| {
        [policy(json!("allow"), json!([{"when": [{"key": key, "values": [{"exact": value}]}]}]))]
    };
    let fields = [("X-Token", "t"), ("x-forwarded-for", "1.1.1.1, 2.2.2.2")];
    for (key, value, allowed) in [
        ("request.headers[x-token]", "t", true),
        ("request.headers[x-token]", "u", false),
        ("source.ip", "10.0.0.9", true),
        ("source.ip", "10.0.1.0/24", false),
        ("remote.ip", "2.2.2.2", true),
        ("remote.ip", "1.1.1.1", false),
        ("source.namespace", "default", true),
        ("source.principal", "old.local/ns/default/sa/web", true),
        ("destination.port", "9080", true),
        ("destination.ip", "10.0.0.1", true),
        ("connection.sni", "a.com", false),
        ("request.auth.claims[group]", "admin", false),
        ("experimental.unheard.of", "x", false),
    ] {
        let seen = verdict(&when(key, value), Some(WEB), &head("GET r/", &fields)) == "allowed";
        assert_eq!(seen, allowed, "{key} {value}");
    }
}

#[test]
fn what_cannot_be_evaluated_fails_closed() {
    let rule = json!([{"to": [{"paths": [{"regex": "("}], "methods": [{"exact": "GET"}]}]}]);
    assert!(!allows(&[policy(json!("allow"), rule.clone())], None, "GET r/"), "never allows");
    assert!(!allows(&[policy(json!("deny"), rule.clone())], None, "GET r/"), "denies wider");
    assert!(allows(&[policy(json!("deny"), rule)], None, "PUT r/"), "but not wider than the rest says");
    let unknown = json!([{"when": [{"key": "no.such", "notValues": [{"exact": "x"}]}]}]);
    assert!(!allows(&[policy(json!("deny"), unknown)], None, "GET r/"));
}

#[test]
fn s37_dry_run_has_no_effect_but_is_noted() {
    let mut shadow = policy(json!("deny"), json!([{}]));
    shadow["dryRun"] = json!(true);
    let (snapshot, peer, head, mut trail) =
        (workload(&[shadow]), peer(None), head("GET r/", &[]), Trail::on());
    let entry = Entry::Inbound { port: 9080 };
    let request = Request { snapshot: &snapshot, entry, peer: &peer, head: &head, now: Instant::now() };
    plan(Decide::new().step(&request, &mut Dice::seeded(1), &mut trail));
    assert_eq!(trail.notes()[0].kind, NoteKind::DryRun);
    assert!(trail.notes()[0].text.contains("would deny"), "{:?}", trail.notes());
}

/// semantics.md 35: gateways have added their peer before this is asked.
#[test]
fn s35_the_client_is_before_the_trusted_proxies() {
    use crate::decide::client::client_address;
    let gateway = Entry::Gateway { port: 80, routes: "", tls: false };
    let inbound = Entry::Inbound { port: 9080 };
    let outbound = Entry::Outbound { destination: "10.0.0.1:80".parse().unwrap() };
    for (entry, trusted, forwarded, client) in [
        (gateway, 0, "1.1.1.1,10.0.0.9", "10.0.0.9"),
        (gateway, 1, "1.1.1.1,2.2.2.2,10.0.0.9", "2.2.2.2"),
        (gateway, 2, "1.1.1.1,2.2.2.2,10.0.0.9", "1.1.1.1"),
        (gateway, 3, "1.1.1.1,2.2.2.2,10.0.0.9", "10.0.0.9"),
        (gateway, 1, "2001:db8::1, 10.0.0.9", "2001:db8::1"),
        (gateway, 1, "unknown,10.0.0.9", "10.0.0.9"),
        (inbound, 0, "1.1.1.1,2.2.2.2", "2.2.2.2"),
        (inbound, 1, "1.1.1.1,2.2.2.2", "1.1.1.1"),
        (outbound, 1, "1.1.1.1,2.2.2.2", "10.0.0.9"),
    ] {
        let head = head("GET r/", &[("x-forwarded-for", forwarded)]);
        let found = client_address(&head, entry, &peer(None), trusted);
        assert_eq!(found.to_string(), client, "{entry:?}, {trusted} of {forwarded}");
    }
}
