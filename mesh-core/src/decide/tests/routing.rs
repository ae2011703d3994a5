use super::*;
use crate::failure::Failure;

fn reviews(rules: Vec<Value>) -> Snapshot {
    let clusters = ["v1", "v2"].map(cluster);
    let table =
        routes("reviews.default.svc.cluster.local:9080", json!(["reviews", "reviews.default"]), rules);
    snapshot([vec![table, own(json!({}))], clusters.to_vec()].concat())
}

fn to(name: &str, matches: Value) -> Value {
    rule(json!({"name": name, "matches": matches}))
}

#[test]
fn s1_the_first_match_wins_not_the_most_specific() {
    let snapshot = reviews(vec![
        to("first", json!([{"path": {"prefix": "/a"}}])),
        to("longer", json!([{"path": {"prefix": "/a/b"}}])),
        to("rest", json!([])),
    ]);
    assert_eq!(route_of(&snapshot, "GET reviews/a/b", &[]), "first");
    assert_eq!(route_of(&snapshot, "GET reviews/b", &[]), "rest");
}

#[test]
fn s2_prefixes_of_strings_and_of_segments() {
    let snapshot = reviews(vec![
        to("segments", json!([{"path": {"segmentPrefix": "/foo/"}}])),
        to("string", json!([{"path": {"prefix": "/foo"}}])),
    ]);
    for (path, route) in [
        ("/foo", "segments"),
        ("/foo/", "segments"),
        ("/foo/bar", "segments"),
        ("/foobar", "string"),
        ("/fo", "404"),
    ] {
        assert_eq!(route_of(&snapshot, &format!("GET reviews{path}"), &[]), route, "{path}");
    }
}

#[test]
fn s3_presence_and_absence_of_headers() {
    let snapshot = reviews(vec![
        to(
            "without a",
            json!([{"headers": [{"name": "t", "value": "present"}],
            "withoutHeaders": [{"name": "x", "value": {"exact": "a"}}]}]),
        ),
        to("absent", json!([{"withoutHeaders": [{"name": "x", "value": "present"}]}])),
        to("joined", json!([{"headers": [{"name": "x", "value": {"exact": "a,b"}}]}])),
    ]);
    assert_eq!(route_of(&snapshot, "GET reviews/", &[("T", "")]), "without a");
    assert_eq!(route_of(&snapshot, "GET reviews/", &[("t", "1"), ("x", "b")]), "without a");
    assert_eq!(route_of(&snapshot, "GET reviews/", &[("t", "1"), ("X", "a")]), "404");
    assert_eq!(route_of(&snapshot, "GET reviews/", &[]), "absent");
    assert_eq!(route_of(&snapshot, "GET reviews/", &[("x", "a"), ("X", "b")]), "joined");
}

#[test]
fn s4_case_may_be_ignored_for_exact_and_prefix_only() {
    let any_case = |path: Value| json!([{"path": path, "ignorePathCase": true}]);
    let snapshot = reviews(vec![
        to("exact", any_case(json!({"exact": "/Exact"}))),
        to("prefix", any_case(json!({"prefix": "/Pre"}))),
        to("regex", any_case(json!({"regex": "/re.*"}))),
    ]);
    for (path, route) in [
        ("/eXACT", "exact"),
        ("/pREfix", "prefix"),
        ("/regex", "regex"),
        ("/Regex", "404"),
        ("/x/regex", "404"),
    ] {
        assert_eq!(route_of(&snapshot, &format!("GET reviews{path}"), &[]), route, "{path}");
    }
}

#[test]
fn s5_method_scheme_authority_port_and_the_first_query_parameter() {
    let snapshot = reviews(vec![
        to("method", json!([{"method": {"exact": "POST"}}])),
        to("authority", json!([{"authority": {"exact": "reviews:9080"}}])),
        to("other port", json!([{"port": 80}])),
        to("query", json!([{"query": [{"name": "v", "value": {"exact": "2"}}], "port": 9080}])),
        to("https", json!([{"scheme": {"exact": "https"}}])),
    ]);
    for (line, route) in [
        ("POST reviews/", "method"),
        ("GET reviews:9080/", "authority"),
        ("GET reviews/?a=b&v=2", "query"),
        ("GET reviews/?v=1&v=2", "404"),
        ("GET reviews/", "404"),
    ] {
        assert_eq!(route_of(&snapshot, line, &[]), route, "{line}");
    }
}

#[test]
fn s6_weights_are_relative() {
    let backends = json!([{"cluster": "v1", "weight": 3}, {"cluster": "v2", "weight": 1}]);
    let snapshot = reviews(vec![rule(json!({"action": {"forward": backends}}))]);
    let (mut dice, head) = (Dice::seeded(3), head("GET reviews/", &[]));
    let second = (0..4000)
        .filter(|_| plan(step(&mut Decide::new(), &snapshot, outbound(), &head, &mut dice)).backend == 1);
    let second = second.count();
    assert!((900..1100).contains(&second), "{second} of 4000");
}

#[test]
fn s7_the_name_of_the_match_follows_the_routes() {
    let snapshot = reviews(vec![to("route", json!([{"name": "get", "method": {"exact": "GET"}}, {}]))]);
    assert_eq!(route_of(&snapshot, "GET reviews/", &[]), "route.get");
    assert_eq!(route_of(&snapshot, "PUT reviews/", &[]), "route");
}

#[test]
fn s11_faults_hit_by_share_and_the_delay_comes_first() {
    let fault = json!({"delay": [2000, 1_000_000], "abort": [{"http": 418}, 1_000_000]});
    let snapshot = reviews(vec![rule(json!({"fault": fault}))]);
    let (mut decide, mut dice, head) = (Decide::new(), Dice::seeded(1), head("GET reviews/", &[]));
    let first = step(&mut decide, &snapshot, outbound(), &head, &mut dice);
    assert!(matches!(first, Decision::Ask(Question::Wait(time)) if time.as_secs() == 2));
    decide.resume(Reply::Waited);
    let aborted = answer(step(&mut decide, &snapshot, outbound(), &head, &mut dice));
    assert_eq!((aborted.status, aborted.reason, aborted.reason.flag()), (418, Reason::Fault, "FI"));

    let never = reviews(vec![rule(json!({"fault": {"abort": [{"http": 500}, 0], "delay": [1000, 0]}}))]);
    plan(super::decide(&never, outbound(), &head));
}

#[test]
fn s11_a_grpc_abort_travels_in_the_headers() {
    let snapshot = reviews(vec![rule(json!({"fault": {"abort": [{"grpc": 14}, 1_000_000]}}))]);
    let aborted = answer(decide(&snapshot, outbound(), &head("POST reviews/", &[])));
    assert_eq!((aborted.status, aborted.headers.get_str("grpc-status")), (200, Some("14")));
}

#[test]
fn s12_mirrors_by_share() {
    let mirrors = json!([{"cluster": "v2", "share": 1_000_000}, {"cluster": "v1", "share": 0}]);
    let snapshot = reviews(vec![rule(json!({"mirrors": mirrors}))]);
    let plan = plan(decide(&snapshot, outbound(), &head("GET reviews/", &[])));
    assert_eq!(
        plan.mirrors.iter().map(|(cluster, _)| cluster.model.name.as_str()).collect::<Vec<_>>(),
        ["v2"]
    );
}

#[test]
fn s13_timeouts_default_to_none_and_cap_the_clients_grpc_deadline() {
    let timeout = |rule_timeout: Value, deadline: &str| {
        let given = if rule_timeout.is_null() { json!({}) } else { json!({"timeout": rule_timeout}) };
        let snapshot = reviews(vec![rule(given)]);
        let fields = [("content-type", "application/grpc"), ("grpc-timeout", deadline)];
        let fields = if deadline.is_empty() { &[][..] } else { &fields[..] };
        plan(decide(&snapshot, outbound(), &head("POST reviews/", fields))).timeout
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(timeout(Value::Null, ""), None);
    assert_eq!(timeout(json!(0), ""), None, "0 s disables");
    assert_eq!(timeout(json!(5000), ""), seconds(5));
    assert_eq!(timeout(json!(5000), "2S"), seconds(2));
    assert_eq!(timeout(json!(5000), "1M"), seconds(5));
    assert_eq!(timeout(Value::Null, "1M"), seconds(60));
    assert_eq!(timeout(Value::Null, "soon"), None);
}

#[test]
fn s15_a_time_per_try_that_is_not_shorter_than_the_routes_is_ignored() {
    let per_try = |time: u32| {
        let retry = json!({"attempts": 3, "perTryTimeout": time, "on": ["5xx"], "backoff": 25});
        let snapshot = reviews(vec![rule(json!({"timeout": 5000, "retry": retry}))]);
        plan(decide(&snapshot, outbound(), &head("GET reviews/", &[]))).retry.per_try_timeout
    };
    assert_eq!(per_try(2000), Some(Duration::from_secs(2)));
    assert_eq!(per_try(5000), None);
}

#[test]
fn s20_the_most_specific_host_wins_and_ports_are_apart() {
    let table = |name: &str, host: &str| routes(name, json!([host]), vec![rule(json!({"name": host}))]);
    let resources = vec![
        table("c:9080", "*"),
        table("a:9080", "*.example.com"),
        table("b:9080", "*.b.example.com"),
        table("x:80", "x.b.example.com"),
        cluster("v1"),
        own(json!({})),
    ];
    let snapshot = snapshot(resources);
    for (host, route) in
        [("x.b.example.com", "*.b.example.com"), ("X.Y.Example.com", "*.example.com"), ("example.com", "*")]
    {
        assert_eq!(route_of(&snapshot, &format!("GET {host}/"), &[]), route, "{host}");
    }
}

#[test]
fn s24_a_host_for_https_only_redirects_cleartext() {
    let mut table = routes("http.8080", json!(["example.com"]), vec![rule(json!({}))]);
    table["routes"]["virtualHosts"][0]["httpsRedirect"] = json!(true);
    let snapshot = snapshot(vec![table, cluster("v1"), own(json!({"role": "ingress"}))]);
    for (line, location) in [
        ("GET example.com:80/a?b", "https://example.com/a?b"),
        ("GET example.com/", "https://example.com/"),
        ("GET example.com:8080/", "https://example.com:8080/"),
    ] {
        let redirect = answer(decide(&snapshot, gateway(false), &head(line, &[])));
        assert_eq!((redirect.status, super::location(&redirect)), (301, location));
    }
    plan(decide(&snapshot, gateway(true), &head("GET example.com/", &[])));
    let unknown = answer(decide(&snapshot, gateway(false), &head("GET other.com/", &[])));
    assert_eq!(unknown.reason, Reason::Failure(Failure::NoRoute));
}

/// D6 is the second half: the cluster may come.
#[test]
fn s44_a_backend_that_is_invalid_answers_500_and_one_that_nobody_defines_503() {
    let to = |cluster: &str| {
        reviews(vec![rule(json!({"action": {"forward": [{"cluster": cluster, "weight": 1}]}}))])
    };
    let missing = answer(decide(&to("v9"), outbound(), &head("GET reviews/", &[])));
    assert_eq!((missing.status, missing.reason.flag()), (503, "NC"));
    let invalid = answer(decide(&to(""), outbound(), &head("GET reviews/", &[])));
    assert_eq!(invalid.status, 500);
    let grpc = head("POST reviews/", &[("content-type", "application/grpc+proto")]);
    let missing = answer(decide(&to("v9"), outbound(), &grpc));
    assert_eq!((missing.status, missing.headers.get_str("grpc-status")), (200, Some("14")));
}

#[test]
fn an_unknown_host_is_asked_for_and_only_a_no_goes_by_the_address() {
    let address = json!({"address": {"address": SERVICE,
        "destination": {"service": "reviews", "protocol": "http", "cluster": "v1"}}});
    let (host, line) = (Host::parse("other").unwrap(), "GET other/");
    let no_host = || Root::Host { host: host.clone(), port: 9080 };
    let no_address = || Root::Address(SERVICE.parse().unwrap());
    let resources = || vec![own(json!({})), cluster("v1")];

    let nothing = snapshot(resources());
    assert!(
        matches!(decide(&nothing, outbound(), &head(line, &[])), Decision::Need(root) if root == no_host())
    );
    let no_routes = with_absent(resources(), vec![no_host()]);
    assert!(
        matches!(decide(&no_routes, outbound(), &head(line, &[])), Decision::Need(root) if root == no_address())
    );

    let declared = with_absent([resources(), vec![address]].concat(), vec![no_host()]);
    let by_address = plan(decide(&declared, outbound(), &head(line, &[])));
    assert!(matches!(&by_address.target, Target::Cluster(cluster) if cluster.model.name == "v1"));

    let undeclared = with_absent(resources(), vec![no_host(), no_address()]);
    let passed = plan(decide(&undeclared, outbound(), &head(line, &[])));
    assert!(matches!(passed.target, Target::Original(address) if address == SERVICE.parse().unwrap()));

    let strict = vec![own(json!({"outboundPolicy": "registryOnly"})), cluster("v1")];
    let blocked =
        answer(decide(&with_absent(strict, vec![no_host(), no_address()]), outbound(), &head(line, &[])));
    assert_eq!((blocked.status, blocked.reason.flag()), (502, "BH"));
}

#[test]
fn cross_origin_preflights_are_answered_and_responses_marked() {
    let cors = json!({"allowOrigins": [{"exact": "https://a.com"}, {"regex": "https://.*\\.b\\.com"}],
        "allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"], "exposeHeaders": ["x-e"], "maxAge": 86_400_000,
        "allowCredentials": true});
    let snapshot = reviews(vec![rule(json!({"cors": cors}))]);
    let asks =
        |origin| head("OPTIONS reviews/", &[("origin", origin), ("access-control-request-method", "PUT")]);
    let allowed = answer(decide(&snapshot, outbound(), &asks("https://x.b.com")));
    let header = |name| allowed.headers.get_str(name).unwrap();
    assert_eq!(allowed.status, 200);
    assert_eq!(header("access-control-allow-origin"), "https://x.b.com");
    assert_eq!(header("access-control-allow-methods"), "GET,PUT");
    assert_eq!(header("access-control-max-age"), "86400");
    plan(decide(&snapshot, outbound(), &asks("https://evil.com")));

    let mut response = crate::message::ResponseHead::new(200);
    plan(decide(&snapshot, outbound(), &head("GET reviews/", &[("Origin", "https://a.com")])))
        .edit_response(&mut response);
    assert_eq!(response.headers.get_str("access-control-allow-origin"), Some("https://a.com"));
    assert_eq!(response.headers.get_str("access-control-expose-headers"), Some("x-e"));
}

#[test]
fn inbound_goes_to_the_application_and_retries_only_what_was_not_sent() {
    let port = json!({"port": 9080, "protocol": "grpc", "mtls": "strict", "service": "r", "serviceName": "r",
        "serviceNamespace": "d"});
    let snapshot = snapshot(vec![own(json!({"inbound": [port]}))]);
    let inbound = |port| plan(decide(&snapshot, Entry::Inbound { port }, &head("GET reviews/", &[])));
    assert!(
        matches!(inbound(80).target, Target::Original(address) if address == "10.0.0.1:9080".parse().unwrap())
    );
    assert_eq!(inbound(80).retry, crate::snapshot::Retry::inbound());
    assert_eq!(inbound(9080).retry.attempts, 0, "never for gRPC");
    assert_eq!(snapshot.mtls_mode(9080), crate::model::MtlsMode::Strict);
    assert_eq!(snapshot.mtls_mode(80), crate::model::MtlsMode::Permissive);
    assert_eq!(Snapshot::default().mtls_mode(80), crate::model::MtlsMode::Strict);
}

#[test]
fn the_trail_says_why() {
    let snapshot = reviews(vec![
        to("v2 only", json!([{"headers": [{"name": "v", "value": {"exact": "2"}}]}])),
        rule(json!({})),
    ]);
    let (peer, head, mut trail) = (peer(None), head("GET reviews/", &[]), Trail::on());
    let request =
        Request { snapshot: &snapshot, entry: outbound(), peer: &peer, head: &head, now: Instant::now() };
    plan(Decide::new().step(&request, &mut Dice::seeded(1), &mut trail));
    let kinds: Vec<_> = trail.notes().iter().map(|note| note.kind).collect();
    assert_eq!(kinds, [NoteKind::Lookup, NoteKind::Skipped, NoteKind::Matched, NoteKind::Backend]);
    assert_eq!(trail.notes()[1].text, "route \"v2 only\" match 0: header v does not match");
    assert_eq!(trail.notes()[2].origin.as_ref().unwrap().to_string(), "VirtualService default/vs");
}

#[test]
fn s45_a_host_of_another_tls_server_is_misdirected() {
    let origin = json!({"kind": "Gateway", "namespace": "d", "name": "g", "field": ""});
    let server = |host: &str, routes: &str| json!({"hosts": [host], "tls": {"mode": "simple", "secret": "d/s"}, "routes": routes, "origin": origin});
    let servers = [server("*.a.com", "http.8080"), server("x.a.com", "other")];
    let own =
        own(json!({"role": "ingress", "listeners": [{"port": 8080, "protocol": "tls", "servers": servers}]}));
    let snapshot =
        snapshot(vec![routes("http.8080", json!(["*.a.com"]), vec![rule(json!({}))]), cluster("v1"), own]);
    let status = |line| match decide(&snapshot, gateway(true), &head(line, &[])) {
        Decision::Answer(answer) => answer.status,
        _ => 200,
    };
    assert_eq!(["GET y.a.com/", "GET x.a.com/", "GET b.com/"].map(status), [200, 421, 404]);
}

#[test]
fn a_hashing_cluster_goes_by_what_the_request_brings_or_gives_it_a_cookie() {
    let hashing = |key: Value| {
        let mut hashing = cluster("v1");
        hashing["cluster"]["loadBalancer"] =
            json!({"consistentHash": {"key": key, "table": {"maglev": {"size": null}}}});
        snapshot(vec![routes("r:9080", json!(["reviews"]), vec![rule(json!({}))]), hashing])
    };
    let planned = |key: &Value, line: &str, fields: &[(&str, &str)]| {
        plan(decide(&hashing(key.clone()), outbound(), &head(line, fields)))
    };
    for (key, line, fields) in [
        (json!({"header": "x-user"}), "GET reviews/", &[("X-User", "a")][..]),
        (json!({"queryParameter": "u"}), "GET reviews/?u=a", &[]),
        (
            json!({"cookie": {"name": "s", "path": null, "ttl": null}}),
            "GET reviews/",
            &[("cookie", "t=b; s=a")],
        ),
    ] {
        assert_eq!(planned(&key, line, fields).hash, Some(xxhash_rust::xxh64::xxh64(b"a", 0)), "{key}");
        assert_eq!(planned(&key, "GET reviews/", &[]).hash, None, "{key}");
    }
    assert!(planned(&json!("sourceAddress"), "GET reviews/", &[]).hash.is_some());

    let key = json!({"cookie": {"name": "s", "path": "/", "ttl": 60_000}});
    let (first, mut response) = (planned(&key, "GET reviews/", &[]), crate::message::ResponseHead::new(200));
    first.edit_response(&mut response);
    let set = response.headers.get_str("set-cookie").unwrap();
    assert!(set.ends_with("; Max-Age=60; Path=/; HttpOnly"), "{set}");
    let again = planned(&key, "GET reviews/", &[("cookie", set.split(';').next().unwrap())]);
    assert_eq!((again.hash, again.cookie.is_none()), (first.hash, true));
}

#[test]
fn a_session_cookie_has_the_attributes_and_the_mark_that_are_asked_for() {
    let set = |extra: Value, scheme: Scheme| {
        let mut key = json!({"name": "s", "path": null, "ttl": 0});
        key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let mut hashing = cluster("v1");
        hashing["cluster"]["loadBalancer"] =
            json!({"consistentHash": {"key": {"cookie": key}, "table": {"maglev": {"size": null}}}});
        let snapshot = snapshot(vec![routes("r:9080", json!(["reviews"]), vec![rule(json!({}))]), hashing]);
        let head = RequestHead { scheme, ..head("GET reviews/", &[]) };
        let cookie = plan(decide(&snapshot, outbound(), &head)).cookie?;
        Some(String::from_utf8(cookie.to_vec()).unwrap())
    };
    let attributes = json!({"attributes": [["SameSite", "Lax"], ["Partitioned", ""]], "mark": "c-", "secureOverTls": true});
    let plain = set(attributes.clone(), Scheme::Http).unwrap();
    assert!(
        plain.starts_with("s=\"c-") && plain.ends_with("; HttpOnly; SameSite=Lax; Partitioned"),
        "{plain}"
    );
    assert!(set(attributes, Scheme::Https).unwrap().ends_with("; Partitioned; Secure"));
    assert_eq!(set(json!({"attributes": [["Domain", "x\r\ny: z"]]}), Scheme::Http), None);
}

#[test]
fn a_session_stays_with_its_side_of_a_weighted_split() {
    let side = |name: &str| {
        let mut side = cluster(name);
        let (key, table) = (json!({"header": "x-user"}), json!({"maglev": {"size": null}}));
        side["cluster"]["loadBalancer"] = json!({"consistentHash": {"key": key, "table": table}});
        side
    };
    let split = |v2: u32| {
        let mut split = rule(json!({}));
        let backend = |cluster: &str, weight: u32| json!({"cluster": cluster, "weight": weight});
        split["action"] = json!({"forward": [backend("v1", 100 - v2), backend("v2", v2)]});
        snapshot(vec![routes("r:9080", json!(["reviews"]), vec![split]), side("v1"), side("v2")])
    };
    let (ten, twenty) = (split(10), split(20));
    let backend = |snapshot: &Snapshot, user: &str, seed: u64| {
        let head = head("GET reviews/", &[("x-user", user)]);
        plan(step(&mut Decide::new(), snapshot, outbound(), &head, &mut Dice::seeded(seed))).backend
    };
    let users: Vec<String> = (0..2_000).map(|user| format!("user-{user}")).collect();
    assert!(users.iter().all(|user| backend(&ten, user, 1) == backend(&ten, user, 2)));
    let canaries = users.iter().filter(|user| backend(&ten, user, 1) == 1).count();
    assert!((150..250).contains(&canaries), "{canaries} of 2000 instead of a tenth");
    let back = users.iter().filter(|user| backend(&ten, user, 1) == 1 && backend(&twenty, user, 1) == 0);
    assert_eq!(back.count(), 0, "who has seen the new version stays with it when its share grows");
}
