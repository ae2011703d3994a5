//! Rate limits, address ranges and sizes (semantics.md, "Rate limits").

use super::*;

fn limit(given: Value) -> Value {
    let origin =
        json!({"kind": "RateLimit", "namespace": "default", "name": "few", "field": "spec.rules[0]"});
    let rate = json!({"rate": {"requests": 10, "per": 60_000, "burst": 10}});
    let mut limit =
        json!({"name": "l", "scope": "workload", "amount": rate, "status": 429, "origin": origin});
    merge(&mut limit, given);
    limit
}

fn sidecar(limits: Value) -> Snapshot {
    snapshot(vec![own(json!({"limits": limits}))])
}

fn ask_as(snapshot: &Snapshot, peer: &Peer, entry: Entry<'_>, head: &RequestHead, now: Instant) -> Decision {
    let request = Request { snapshot, entry, peer, head, now };
    Decide::new().step(&request, &mut Dice::seeded(1), &mut Trail::off())
}

fn ask(snapshot: &Snapshot, head: &RequestHead, now: Instant) -> Decision {
    ask_as(snapshot, &peer(None), Entry::Inbound { port: 9080 }, head, now)
}

/// How many of a number of requests are let in.
fn admitted(snapshot: &Snapshot, head: &RequestHead, count: usize, now: Instant) -> usize {
    (0..count).filter(|_| matches!(ask(snapshot, head, now), Decision::Forward(_))).count()
}

#[test]
fn the_eleventh_of_ten_a_minute_is_refused_and_told_when_to_come_again() {
    let (snapshot, now, head) = (sidecar(json!([limit(json!({}))])), Instant::now(), head("GET r/", &[]));
    assert_eq!(admitted(&snapshot, &head, 10, now), 10);
    let answer = answer(ask(&snapshot, &head, now));
    assert_eq!((answer.status, answer.reason.flag()), (429, "RL"));
    assert_eq!(answer.headers.get_str("x-envoy-ratelimited"), Some("true"));
    assert_eq!(answer.headers.get_str("retry-after"), Some("6"));
    assert_eq!(answer.cause.as_deref(), Some("RateLimit default/few spec.rules[0]"));
    assert_eq!(admitted(&snapshot, &head, 2, now + Duration::from_secs(6)), 1);
}

#[test]
fn a_grpc_client_is_refused_in_grpc() {
    let (snapshot, now) = (sidecar(json!([limit(json!({}))])), Instant::now());
    let head = head("POST r/p.S/M", &[("content-type", "application/grpc")]);
    admitted(&snapshot, &head, 10, now);
    let answer = answer(ask(&snapshot, &head, now));
    assert_eq!((answer.status, answer.headers.get_str("grpc-status")), (200, Some("14")));
}

#[test]
fn keys_are_counted_apart_and_other_requests_not_at_all() {
    let matches = json!([{"path": {"prefix": "/orders"}}]);
    let limit = limit(json!({"key": {"header": "x-user"}, "matches": matches}));
    let (snapshot, now) = (sidecar(json!([limit])), Instant::now());
    let of = |user: &str| head("GET r/orders/1", &[("x-user", user)]);
    assert_eq!(admitted(&snapshot, &of("a"), 20, now), 10);
    assert_eq!(admitted(&snapshot, &of("b"), 20, now), 10);
    assert_eq!(admitted(&snapshot, &head("GET r/orders/1", &[]), 20, now), 10);
    assert_eq!(admitted(&snapshot, &head("GET r/", &[]), 20, now), 20);
}

#[test]
fn callers_are_told_apart_by_identity_and_by_the_socket_not_by_what_they_say() {
    let (now, head) = (Instant::now(), head("GET r/", &[("x-forwarded-for", "1.2.3.4")]));
    let web = peer(Some("spiffe://cluster.local/ns/default/sa/web"));
    let entry = Entry::Inbound { port: 9080 };
    let identity = sidecar(json!([limit(json!({"key": "identity"}))]));
    assert_eq!(admitted(&identity, &head, 20, now), 10);
    assert!(matches!(ask_as(&identity, &web, entry, &head, now), Decision::Forward(_)));
    let address = sidecar(json!([limit(json!({"key": "sourceAddress"}))]));
    assert_eq!(admitted(&address, &head, 20, now), 10);
    let other = self::head("GET r/", &[("x-forwarded-for", "9.9.9.9")]);
    assert_eq!(admitted(&address, &other, 20, now), 0);
}

#[test]
fn a_denied_request_is_not_counted() {
    let origin = json!({"kind": "AuthorizationPolicy", "namespace": "default", "name": "p", "field": ""});
    let deny =
        json!({"origin": origin, "action": "deny", "rules": [{"to": [{"paths": [{"prefix": "/no"}]}]}]});
    let own = own(json!({"limits": [limit(json!({}))], "authorization": [deny]}));
    let (snapshot, now) = (snapshot(vec![own]), Instant::now());
    assert_eq!(admitted(&snapshot, &head("GET r/no", &[]), 20, now), 0);
    assert_eq!(admitted(&snapshot, &head("GET r/", &[]), 20, now), 10);
}

/// What has been counted outlives a change of anything else, and of the limit itself.
#[test]
fn a_change_of_configuration_gives_nobody_a_new_burst() {
    let compiled = |previous: Option<&Snapshot>, limits: Value| {
        let own = serde_json::from_value::<Resource>(own(json!({"limits": limits}))).unwrap();
        compile(previous, &[own].into_iter().collect()).0
    };
    let (now, head) = (Instant::now(), head("GET r/", &[]));
    let first = compiled(None, json!([limit(json!({}))]));
    assert_eq!(admitted(&first, &head, 20, now), 10);
    let second = compiled(Some(&first), json!([limit(json!({"status": 503}))]));
    assert_eq!(answer(ask(&second, &head, now)).status, 503);
    let bad = json!([limit(json!({"matches": [{"path": {"regex": "("}}]}))]);
    assert_eq!(
        answer(ask(&compiled(Some(&second), bad), &head, now)).status,
        503,
        "the last good version stays"
    );
}

fn ingress(limits: Value, admission: Value) -> Snapshot {
    let mesh = json!({"trustDomain": "cluster.local", "drainTimeout": 0, "trustedProxies": 1});
    snapshot(vec![
        own(json!({"role": "ingress", "limits": limits, "mesh": mesh})),
        routes("http.8080", json!(["r"]), vec![rule(json!({"admission": admission}))]),
        cluster("v1"),
    ])
}

fn through(snapshot: &Snapshot, client: &str, now: Instant) -> Decision {
    // The last entry is the trusted proxy, which the gateway itself has added.
    let forwarded = format!("{client}, 192.0.2.9");
    let head = head("GET r/", &[("x-forwarded-for", &forwarded), ("content-length", "100")]);
    ask_as(snapshot, &peer(None), gateway(false), &head, now)
}

#[test]
fn a_limit_of_a_rule_counts_clients_before_the_trusted_proxies_and_spares_some() {
    let limit =
        limit(json!({"scope": "rule", "key": "sourceAddress", "exempt": ["10.0.0.0/8"], "status": 503}));
    let (snapshot, now) = (ingress(json!([limit]), json!({"limits": ["l"]})), Instant::now());
    let admitted =
        |client| (0..20).filter(|_| matches!(through(&snapshot, client, now), Decision::Forward(_))).count();
    assert_eq!((admitted("1.1.1.1"), admitted("2.2.2.2"), admitted("10.1.2.3")), (10, 10, 20));
    assert_eq!(answer(through(&snapshot, "1.1.1.1", now)).status, 503);
    // Of one network, and so of one client.
    assert_eq!((admitted("2001:db8::1"), admitted("2001:db8::2"), admitted("2001:db8:0:1::1")), (10, 0, 10));
}

#[test]
fn requests_under_way_are_counted_until_their_plan_is_dropped() {
    let limit = limit(json!({"scope": "rule", "amount": {"concurrent": 1}, "key": "sourceAddress"}));
    let (snapshot, now) = (ingress(json!([limit]), json!({"limits": ["l"]})), Instant::now());
    let first = plan(through(&snapshot, "1.1.1.1", now));
    assert_eq!(answer(through(&snapshot, "1.1.1.1", now)).status, 429);
    plan(through(&snapshot, "2.2.2.2", now));
    drop(first);
    plan(through(&snapshot, "1.1.1.1", now));
}

#[test]
fn a_rule_says_who_may_come_and_with_how_much() {
    let status =
        |admission: Value, client| match through(&ingress(json!([]), admission), client, Instant::now()) {
            Decision::Answer(answer) => answer.status,
            _ => 200,
        };
    let allow = json!({"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]});
    assert_eq!(status(allow.clone(), "10.1.1.1"), 200);
    assert_eq!((status(allow.clone(), "11.1.1.1"), status(allow, "10.9.1.1")), (403, 403));
    assert_eq!(status(json!({"allow": []}), "10.1.1.1"), 403);
    assert_eq!(
        (status(json!({"maxBody": 99}), "1.1.1.1"), status(json!({"maxBody": 100}), "1.1.1.1")),
        (413, 200)
    );
}
