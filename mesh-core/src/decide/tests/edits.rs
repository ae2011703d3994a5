use super::*;
use crate::message::ResponseHead;

fn edited(given: Value, line: &str, fields: &[(&str, &str)]) -> RequestHead {
    let table = routes("r:9080", json!(["reviews"]), vec![rule(given)]);
    let snapshot = snapshot(vec![table, cluster("v1"), cluster("v2"), own(json!({}))]);
    let mut head = head(line, fields);
    plan(decide(&snapshot, outbound(), &head)).edit_request(&mut head);
    head
}

fn target(head: &RequestHead) -> String {
    let query = head.query.as_ref().map(|query| format!("?{}", String::from_utf8_lossy(query)));
    format!("{}{}", String::from_utf8_lossy(&head.path), query.unwrap_or_default())
}

#[test]
fn s8_and_s46_prefix_rewrites() {
    let string = json!([{"path": {"prefix": "/foo"}}]);
    let segments = json!([{"path": {"segmentPrefix": "/foo"}}]);
    let exact = json!([{"path": {"exact": "/foo/bar"}}]);
    for (matches, rewrite, wanted) in [
        (&string, json!({"path": "/"}), "//bar?q"),
        (&string, json!({"path": "/new"}), "/new/bar?q"),
        (&segments, json!({"segments": "/"}), "/bar?q"),
        (&segments, json!({"segments": "/new/"}), "/new/bar?q"),
        (&segments, json!({"path": "/"}), "/bar?q"),
        (&exact, json!({"path": "/new"}), "/new?q"),
        (&segments, json!({"fullPath": "/all"}), "/all?q"),
        (&string, json!({"regex": ["^/(\\w+)/(\\w+)", "/\\2/\\1"]}), "/bar/foo?q"),
        (&string, json!({"path": "/x?y="}), "/x?y=/bar&q"),
    ] {
        let head = edited(json!({"matches": matches, "rewrite": rewrite}), "GET reviews/foo/bar?q", &[]);
        assert_eq!(target(&head), wanted, "{matches} {rewrite}");
        assert_eq!(head.headers.get_str("x-envoy-original-path"), Some("/foo/bar?q"));
    }
    let whole = edited(json!({"matches": segments, "rewrite": {"segments": "/"}}), "GET reviews/foo", &[]);
    assert_eq!(target(&whole), "/");
}

#[test]
fn s9_redirects() {
    let table = |redirect: Value, matches: Value| {
        let mut action = json!({"status": 301});
        merge(&mut action, redirect);
        let rules = vec![rule(json!({"matches": matches, "action": {"redirect": action}}))];
        snapshot(vec![routes("http.8080", json!(["*"]), rules), own(json!({"role": "ingress"}))])
    };
    let segments = json!([{"path": {"segmentPrefix": "/foo"}}]);
    for (redirect, line, wanted) in [
        (json!({"path": "/new"}), "GET a.com/foo?q", "http://a.com/new?q"),
        (json!({"path": "/new?z"}), "GET a.com/foo?q", "http://a.com/new?z"),
        (json!({"authority": "b.com"}), "GET a.com:81/foo", "http://b.com/foo"),
        (json!({"scheme": "https"}), "GET a.com:80/foo", "https://a.com/foo"),
        (json!({"scheme": "https"}), "GET a.com:81/foo", "https://a.com:81/foo"),
        (json!({"scheme": "https", "port": {"exactly": 443}}), "GET a.com:81/foo", "https://a.com/foo"),
        (json!({"port": {"exactly": 8443}}), "GET a.com/foo", "http://a.com:8443/foo"),
        (json!({"port": "listener"}), "GET a.com/foo", "http://a.com:8080/foo"),
        (json!({"port": "schemeDefault"}), "GET a.com:81/foo", "http://a.com/foo"),
        (json!({"prefix": "/"}), "GET a.com/foo/bar", "http://a.com/bar"),
        (json!({"prefix": "/"}), "GET a.com/foo", "http://a.com/"),
    ] {
        let snapshot = table(redirect.clone(), segments.clone());
        let answer = answer(decide(&snapshot, gateway(false), &head(line, &[])));
        assert_eq!((answer.status, location(&answer)), (301, wanted), "{redirect} {line}");
    }
}

#[test]
fn s10_removals_come_first_and_names_lose_their_case() {
    let edits = json!({"remove": ["X-Gone", "x-set"], "set": [["x-set", "new"]], "add": [["x-add", "2"]]});
    let fields = [("x-gone", "1"), ("X-Set", "old"), ("x-add", "1")];
    let head = edited(json!({"requestHeaders": edits}), "GET reviews/", &fields);
    let seen: Vec<_> = head.headers.iter().map(|field| field.value.clone()).collect();
    assert_eq!(seen, ["1", "new", "2"]);
}

#[test]
fn s10_one_destination_has_the_last_word_and_of_several_the_route_has() {
    let backend = |cluster: &str| json!({"cluster": cluster, "weight": 1, "requestHeaders": {"set": [["x", "destination"]]}});
    let x = |backends: Value| {
        let given = json!({"action": {"forward": backends}, "requestHeaders": {"set": [["x", "route"]]}});
        edited(given, "GET reviews/", &[]).headers.get_str("x").unwrap().to_owned()
    };
    assert_eq!(x(json!([backend("v1")])), "destination");
    assert_eq!(x(json!([backend("v1"), backend("v2")])), "route");
}

#[test]
fn s10_the_authority_of_the_route_wins_over_the_destinations() {
    let authority = |given: Value| edited(given, "GET reviews/", &[]).authority;
    let backend = json!([{"cluster": "v1", "weight": 1, "requestHeaders": {"authority": "destination"}}]);
    assert_eq!(authority(json!({"action": {"forward": backend}})), "destination");
    let route = json!({"authority": "route"});
    assert_eq!(authority(json!({"action": {"forward": backend}, "requestHeaders": route})), "route");
    assert_eq!(authority(json!({"rewrite": {"authority": "rewrite"}, "requestHeaders": route})), "rewrite");
}

#[test]
fn framing_and_pseudo_headers_cannot_be_edited() {
    let edits = json!({"set": [[":path", "/evil"], ["Content-Length", "0"], ["transfer-encoding", "x"]], "remove": ["Host"]});
    assert!(edited(json!({"requestHeaders": edits}), "GET reviews/", &[]).headers.is_empty());
}

#[test]
fn responses_are_edited_also_when_the_proxy_gives_them() {
    let given = json!({"responseHeaders": {"set": [["x", "1"]]}, "action": {"respond": {"status": 418, "body": "tea"}}});
    let table = routes("r:9080", json!(["reviews"]), vec![rule(given)]);
    let direct = answer(decide(&snapshot(vec![table]), outbound(), &head("GET reviews/", &[])));
    assert_eq!((direct.status, &direct.body[..], direct.reason), (418, &b"tea"[..], Reason::Direct));
    assert_eq!(direct.headers.get_str("x"), Some("1"));

    let table =
        routes("r:9080", json!(["reviews"]), vec![rule(json!({"responseHeaders": {"remove": ["server"]}}))]);
    let snapshot = snapshot(vec![table, cluster("v1")]);
    let mut response = ResponseHead::new(200);
    response.headers.append("Server", "x");
    plan(decide(&snapshot, outbound(), &head("GET reviews/", &[]))).edit_response(&mut response);
    assert!(response.headers.is_empty());
}
