//! What operators read, checked as they read it.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use fastrand::Rng;

use super::record::{LoggedRequest, ServiceLabels};
use super::*;
use crate::failure::Failure;
use crate::message::{Headers, Method, RequestHead, Scheme, Version};
use crate::model::{AccessLogFormat, Label, Metric, Template, Workload};
use crate::name::Host;

fn head() -> RequestHead {
    let mut headers = Headers::default();
    headers.append("User-Agent", "curl/8\"\n");
    headers.append("x-request-id", "id-1");
    RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        host: Host::parse("reviews").unwrap(),
        authority: Bytes::from_static(b"reviews:9080"),
        path: Bytes::from_static(b"/reviews/0"),
        query: Some(Bytes::from_static(b"a=1")),
        version: Version::Http11,
        headers,
        upgrade: None,
    }
}

fn record() -> Record {
    let workload = |app: &str| {
        let workload = format!("{app}-v1");
        Arc::new(Workload { app: app.into(), workload, namespace: "default".into(), ..Workload::default() })
    };
    let service = ServiceLabels {
        host: "reviews.default.svc.cluster.local".into(),
        name: "reviews".into(),
        namespace: "default".into(),
    };
    Record {
        started: Some(UNIX_EPOCH + Duration::from_millis(1_795_392_728_123)),
        duration: Duration::from_micros(1_500),
        request: Some(LoggedRequest::of(&head(), &Shown::default())),
        status: 200,
        sent: 379,
        source: Some(workload("productpage")),
        destination: Some(workload("reviews")),
        service: Some(Arc::new(service)),
        cluster: Some("outbound|9080|v1|reviews.default.svc.cluster.local".into()),
        upstream: Some("10.244.0.5:9080".parse().unwrap()),
        ..Record::default()
    }
}

#[test]
fn the_text_log_is_istios_and_cannot_be_forged() {
    let line = access_log::line(&AccessLogFormat::Text(None), &record());
    assert_eq!(
        line,
        "[2026-11-23T00:12:08.123Z] \"GET /reviews/0?a=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 379 1 - \"-\" \
         \"curl/8\\\"\\x0a\" \"id-1\" \"reviews:9080\" \"10.244.0.5:9080\" \
         outbound|9080|v1|reviews.default.svc.cluster.local - - - - -\n"
    );
}

#[test]
fn the_details_of_a_denied_request_name_the_policy_and_those_of_another_failure_do_not() {
    let policy = "rbac_access_denied_matched_policy[ns[default]-policy[keep-out]-rule[0]]";
    for (failure, cause, details, transport) in [
        (Failure::Denied, policy, policy, ""),
        (Failure::Denied, "something else", "rbac_access_denied", "something else"),
        (Failure::NoRoute, policy, "route_not_found", policy),
    ] {
        let record = Record { failure: Some(failure), cause: Some(cause.into()), ..record() };
        let object: serde_json::Value =
            serde_json::from_str(&access_log::line(&AccessLogFormat::Json, &record)).unwrap();
        assert_eq!(object["response_code_details"], details);
        assert_eq!(object["upstream_transport_failure_reason"].as_str().unwrap_or_default(), transport);
    }
}

/// S23: time, method, path, code, latency, sizes, trace, source and destination.
#[test]
fn the_json_log_holds_the_whole_observability_record() {
    let line = access_log::line(&AccessLogFormat::Json, &record());
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["source"], "productpage.default.svc");
    assert_eq!(object["destination"], "reviews.default.svc");
    assert_eq!(object["user_agent"], "curl/8\"\n");
    for key in [
        "start_time",
        "method",
        "path",
        "response_code",
        "duration",
        "bytes_received",
        "bytes_sent",
        "trace_id",
    ] {
        assert!(!object[key].is_null(), "{key}");
    }
}

/// Labels of objects are whatever their author wrote.
#[test]
fn names_of_workloads_cannot_forge_a_json_line() {
    let named = Workload { app: "x\",\"y".into(), namespace: "\\\n".into(), ..Workload::default() };
    let record = Record { source: Some(Arc::new(named)), ..record() };
    let line = access_log::line(&AccessLogFormat::Json, &record);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["source"], "x\",\"y.\\\n.svc");
}

#[test]
fn workers_add_up_in_one_scrape() {
    let sinks = Sinks::default();
    let (one, two) = (Reporter::new(&sinks), Reporter::new(&sinks));
    one.close(&record());
    two.close(&record());
    two.close(&Record { status: 503, failure: Some(Failure::NoHealthyUpstream), ..record() });
    let text = sinks.metrics.expose().unwrap();
    let count = |code: &str| {
        text.lines()
            .find(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains(&format!("response_code=\"{code}\""))
            })
            .and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned)
    };
    assert_eq!(count("200").as_deref(), Some("2"), "{text}");
    assert_eq!(count("503").as_deref(), Some("1"), "{text}");
    assert!(text.contains("response_flags=\"UH\""), "{text}");
    assert!(text.contains("destination_service=\"reviews.default.svc.cluster.local\""), "{text}");
    // Without the last of them Prometheus makes no quantile of any.
    for bound in ["0.5", "1.0", "5.0", "3600000.0", "+Inf"] {
        let bucket = format!("istio_request_duration_milliseconds_bucket{{le=\"{bound}\"");
        assert!(text.contains(&bucket), "no {bucket} in {text}");
    }
}

#[test]
fn inventing_labels_does_not_fill_the_memory() {
    let sinks = Sinks::default();
    let reporter = Reporter::new(&sinks);
    for port in 0..10_050_u32 {
        let service = ServiceLabels { host: port.to_string(), ..ServiceLabels::default() };
        reporter.close(&Record { service: Some(Arc::new(service)), ..record() });
    }
    assert_eq!(sinks.metrics.request_series(), 10_001);
}

#[test]
fn a_trace_goes_on_in_the_format_it_came_in() {
    let mut rng = Rng::with_seed(7);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut w3c = Headers::default();
    w3c.append("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let context = TraceContext::join(&w3c, &mut rng, |_| false);
    assert!(context.sampled && context.parent_id == 0x00f0_67aa_0ba9_02b7);
    let mut sent = Headers::default();
    context.inject(&mut sent);
    assert_eq!(sent.get_str("traceparent"), Some(format!("00-{trace}-{:016x}-01", context.span_id).as_str()));
    assert!(!sent.contains("x-b3-traceid"));

    let mut b3 = Headers::default();
    b3.append("X-B3-TraceId", "a3ce929d0e0e4736");
    b3.append("X-B3-SpanId", "00f067aa0ba902b7");
    b3.append("X-B3-Sampled", "0");
    let context = TraceContext::join(&b3, &mut rng, |_| true);
    assert!(!context.sampled && context.trace_id == 0xa3ce_929d_0e0e_4736);

    let fresh = TraceContext::join(&Headers::default(), &mut rng, |_| true);
    assert!(fresh.is_begun() && fresh.parent_id == 0 && fresh.sampled);
}

#[test]
fn a_malformed_trace_begins_a_new_one() {
    let mut rng = Rng::with_seed(7);
    for value in [
        "",
        "00-0-0-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-x",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        let mut headers = Headers::default();
        headers.append("traceparent", value.to_owned());
        assert_eq!(TraceContext::join(&headers, &mut rng, |_| false).parent_id, 0, "{value}");
    }
}

fn labels(yaml: &[(&str, &str)]) -> AccessLogFormat {
    let label = |text: &str| Label::Text(Template::read(text).0);
    AccessLogFormat::Labels(yaml.iter().map(|(name, text)| ((*name).to_owned(), label(text))).collect())
}

#[test]
fn a_users_json_log_has_numbers_and_nothing_where_a_value_is_missing() {
    let format = labels(&[
        ("code", "%RESPONSE_CODE%"),
        ("flow", "%REQ(:METHOD)% to %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ("agent", "%REQ(USER-AGENT)%"),
        ("none", "%REQ(X-NONE)%"),
        ("when", "%START_TIME(%s)%"),
        ("cut", "%REQ(:PATH):5%"),
        ("cel", "%CEL(response.code < 400 ? 'good' : 'bad')%"),
    ]);
    let object: serde_json::Value = serde_json::from_str(&access_log::line(&format, &record())).unwrap();
    assert_eq!(
        object,
        serde_json::json!({
            "code": 200, "flow": "GET to 10.244.0.5", "agent": "curl/8\"\n", "none": null, "when": "1795392728",
            "cut": "/revi", "cel": "good",
        })
    );
}

#[test]
fn a_filter_lets_lines_through_for_which_it_holds() {
    for (filter, expected) in [
        ("response.code >= 400", false),
        ("response.code == 200 && request.method == 'GET'", true),
        ("request.headers['x-none'] == 'a'", false),
        ("has(request.headers['x-none']) || request.url_path.startsWith('/reviews')", true),
        ("!has(response.grpc_status)", true),
        ("request.useragent.matches('^curl/[0-9]') && request.path.contains('a=1')", true),
        ("downstream_peer.workload in ['x', 'productpage-v1']", true),
        ("connection.mtls", false),
    ] {
        assert_eq!(evaluate::holds(&filter.parse().unwrap(), &record()), expected, "{filter}");
    }
}

fn exposed(changes: Vec<MetricChange>, records: &[Record]) -> String {
    let sinks = Sinks::default();
    sinks.redirect(Outputs { metrics: changes, ..Outputs::default() });
    let reporter = Reporter::new(&sinks);
    records.iter().for_each(|record| reporter.close(record));
    sinks.metrics.expose().unwrap()
}

fn change(metric: Metric, disabled: bool, labels: &[(&str, Option<&str>)]) -> MetricChange {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.map(|it| it.parse().unwrap())));
    MetricChange { metric, side: Side::Client, disabled, labels: labels.collect() }
}

#[test]
fn labels_of_one_metric_can_be_added_replaced_and_removed() {
    let changes = vec![
        change(
            Metric::RequestCount,
            false,
            &[("request_host", Some("request.host")), ("reporter", None), ("response_flags", Some("'x'"))],
        ),
        change(Metric::RequestSize, true, &[]),
    ];
    let server = Record { reporting: Reporting::Destination, ..record() };
    let text = exposed(changes, &[record(), record(), server]);
    let lines = |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let counts = lines("istio_requests_total{");
    let changed: Vec<_> =
        counts.iter().filter(|line| line.contains("request_host=\"reviews:9080\"")).collect();
    assert!(matches!(&changed[..], [line] if line.ends_with(" 2") && !line.contains("reporter=")), "{text}");
    assert!(changed[0].contains("response_flags=\"x\""), "{text}");
    assert!(counts.iter().any(|line| line.contains("reporter=\"destination\"")), "{text}");
    let durations = lines("istio_request_duration_milliseconds_count{");
    assert!(durations.len() == 2 && durations.iter().all(|line| !line.contains("request_host")), "{text}");
    assert_eq!(lines("istio_request_bytes_count{").len(), 1, "{text}");
}

#[test]
fn series_go_on_when_other_metrics_change_and_go_with_their_labels() {
    let sinks = Sinks::default();
    let reporter = Reporter::new(&sinks);
    let count = || {
        let text = sinks.metrics.expose().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    reporter.close(&record());
    assert_eq!(count(), ["1"]);
    sinks.redirect(Outputs { metrics: vec![change(Metric::BytesSent, true, &[])], ..Outputs::default() });
    reporter.close(&record());
    assert_eq!(count(), ["2"]);
    let other = vec![change(Metric::RequestCount, false, &[("reporter", None)])];
    sinks.redirect(Outputs { metrics: other, ..Outputs::default() });
    reporter.close(&record());
    assert_eq!(count(), ["1"]);
}

#[test]
fn a_value_that_clients_choose_does_not_fill_the_memory() {
    let label = ("path", Some("request.url_path"));
    let changes = Metric::ALL.map(|metric| change(metric, false, &[label])).to_vec();
    let long = Record {
        request: record().request.map(|it| LoggedRequest { path: vec![b'a'; 5000].into(), ..it }),
        ..record()
    };
    let text = exposed(changes, &[long]);
    assert!(text.contains(&format!("path=\"{}\"", "a".repeat(256))), "{text}");
}

#[test]
fn a_request_id_decides_alike_everywhere() {
    assert_eq!(trace::roll_of(b"00000001-57c3-4d4e-8bd5-000000000000"), Some(1));
    for odd in ["", "id-1", "0000001-57c3", "0000000z-57c3", "+0000001-57c3", "000000012-57c3"] {
        assert_eq!(trace::roll_of(odd.as_bytes()), None, "{odd}");
    }
}
