use super::*;

#[test]
fn what_users_write_is_read() {
    for condition in [
        "response.code >= 400",
        "response.code >= 500 || response.code == 0",
        "!has(response.code) || response.code >= 400",
        "connection.mtls && request.url_path.contains('v1beta3')",
        "request.headers['x-debug'] == 'true' && !(request.method in [\"GET\", 'HEAD'])",
        "'x-debug' in request.headers",
        "has(request.headers.foo)",
        "request.path.startsWith('/api') && request.path.matches('^/api/v[0-9]+')",
        "size(request.host) > 3 && request.useragent.size() != -1",
        "(response.code == 404) ? true : false",
        "filter_state.downstream_peer.workload == 'frontend'",
    ] {
        let read: Result<Expression, _> = condition.parse();
        assert!(read.as_ref().is_ok_and(Expression::is_condition), "{condition}: {read:?}");
    }
    for value in [
        "request.host",
        "string(destination.port)",
        "'v' + request.headers['x-version']",
        "response.code < 400 ? 'good' : 'bad'",
        "source.workload.namespace",
        "downstream_peer.namespace",
    ] {
        let read: Result<Expression, _> = value.parse();
        assert!(read.as_ref().is_ok_and(|read| !read.is_condition()), "{value}: {read:?}");
    }
}

#[test]
fn what_is_outside_is_refused_and_named() {
    for (text, named) in [
        ("", "ends too early"),
        ("response.code >=", "ends too early"),
        ("response.code >= 'x'", "takes a number"),
        ("response.code", ""),
        ("response.kode == 1", "response.kode"),
        ("my-service", "my"),
        ("request.time > timestamp('2026')", "request.time"),
        ("request.headers.exists(h, h == 'x')", "not expected"),
        ("request.path.lowerAscii() == 'x'", "lowerAscii"),
        ("request.path.matches('(')", "regular expression"),
        ("request.headers['Authorization'] != ''", "credentials"),
        ("1.5 < 2", "whole number"),
        ("response.code % 2 == 0", "'%'"),
        ("response.code == 1 response.code", "not expected"),
        ("'a", "does not end"),
        (&"(".repeat(200), "within each other"),
        (&"!".repeat(5000), "longer"),
    ] {
        match text.parse::<Expression>() {
            Ok(read) => assert!(named.is_empty() && !read.is_condition(), "{text}"),
            Err(error) => assert!(!named.is_empty() && error.to_string().contains(named), "{text}: {error}"),
        }
    }
}
