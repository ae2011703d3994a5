//! Telemetry and the providers of the mesh configuration, merged for one workload.

use mesh_core::model::{AccessLogFormat, MeshSettings, Metric, PerMillion, Resource, Root, Side};

use super::{closure, pod, sidecar, view};

const PROVIDERS: &str = r#"
    extensionProviders:
    - name: otel
      opentelemetry: {service: otel.default.svc.cluster.local, port: 4317}
    - name: zip
      zipkin: {service: zipkin.default.svc.cluster.local, port: 9411}
    - name: text
      envoyFileAccessLog: {path: /dev/stderr, logFormat: {text: "%REQ(X-A)% %NO_SUCH%"}}
    - name: json
      envoyFileAccessLog: {path: /tmp/j, logFormat: {labels: {code: "%RESPONSE_CODE%", of: {path: "%REQ(:PATH)%"}}}}
    - name: als
      envoyOtelAls: {service: otel.default.svc.cluster.local, port: 4317}
"#;

fn config(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data:\n  mesh: |{PROVIDERS}{more}---\n"
    )
}

fn telemetry(namespace: &str, spec: &str) -> String {
    let name = format!("t{}", spec.len());
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

/// The settings of a workload, and what is told of its Telemetry.
fn merged(objects: &[String]) -> (MeshSettings, Vec<String>) {
    let web = pod("web-1", "app: web", "10.244.0.5");
    let view = view(&[&[web, config("")], objects].concat().concat());
    let resources = closure(&view, &sidecar("web-1"), &Root::Own).unwrap();
    let own = resources.into_iter().find_map(|resource| match resource {
        Resource::Own(own) => Some(own),
        _ => None,
    });
    let told = view.problems().iter().map(|problem| format!("{}: {}", problem.field, problem.message));
    let told = told.filter(|line| !line.starts_with("data.mesh")).collect();
    (own.unwrap().mesh, told)
}

/// Path, side and filter of each log, by path.
fn logs(settings: &MeshSettings) -> Vec<(String, Side, String)> {
    let mut logs: Vec<_> = settings
        .access_logs
        .iter()
        .map(|log| {
            let filter = log.filter.as_ref().map(|filter| filter.as_str().to_owned());
            (log.path.clone(), log.side, filter.unwrap_or_default())
        })
        .collect();
    logs.sort_by(|left, right| left.0.cmp(&right.0));
    logs
}

#[test]
fn access_logs_merge_from_the_mesh_to_the_workload() {
    let json_for_all = ("istio-system", "accessLogging: [{providers: [{name: json}]}]");
    for (objects, expected) in [
        (vec![], vec![("/dev/stdout", Side::Both, "")]),
        (vec![("istio-system", "accessLogging: [{disabled: true}]")], vec![]),
        (
            vec![("istio-system", "accessLogging: [{match: {mode: CLIENT}, disabled: true}]")],
            vec![("/dev/stdout", Side::Server, "")],
        ),
        (
            vec![json_for_all, ("default", "accessLogging: [{providers: [{name: text}, {name: json}]}]")],
            vec![("/dev/stderr", Side::Both, ""), ("/tmp/j", Side::Both, "")],
        ),
        (
            vec![
                json_for_all,
                ("default", "selector: {matchLabels: {app: web}}, accessLogging: [{disabled: true}]"),
            ],
            vec![],
        ),
        (
            vec![(
                "default",
                "accessLogging: [{match: {mode: SERVER}, providers: [{name: text}], \
                 filter: {expression: response.code >= 500}}]",
            )],
            vec![("/dev/stderr", Side::Server, "response.code >= 500")],
        ),
    ] {
        let objects: Vec<_> =
            objects.into_iter().map(|(namespace, spec)| telemetry(namespace, spec)).collect();
        let (settings, told) = merged(&objects);
        let expected: Vec<_> =
            expected.into_iter().map(|(path, side, filter)| (path.into(), side, filter.into())).collect();
        assert_eq!(logs(&settings), expected, "{objects:?}");
        assert_eq!(told, Vec::<String>::new());
    }
}

#[test]
fn labels_become_a_json_log() {
    let (settings, _) = merged(&[telemetry("default", "accessLogging: [{providers: [{name: json}]}]")]);
    let AccessLogFormat::Labels(labels) = &settings.access_logs[0].format else { panic!() };
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["code", "of"]);
}

#[test]
fn tracing_merges_field_by_field_and_by_side() {
    let base = telemetry(
        "istio-system",
        "tracing: [{providers: [{name: otel}], randomSamplingPercentage: 50, \
         customTags: {team: {literal: {value: a}}}}]",
    );
    let (settings, _) = merged(std::slice::from_ref(&base));
    let [both] = &settings.tracing[..] else { panic!("{:?}", settings.tracing) };
    assert_eq!((both.side, both.sampling), (Side::Both, PerMillion::percent(50.0)));
    assert!(both.by_request_id && both.istio_tags && both.tags.contains_key("team"));

    let narrower = "tracing: [{match: {mode: SERVER}, randomSamplingPercentage: 0, enableIstioTags: false}]";
    let (settings, _) = merged(&[base.clone(), telemetry("default", narrower)]);
    let [client, server] = &settings.tracing[..] else { panic!("{:?}", settings.tracing) };
    assert_eq!((client.side, client.sampling), (Side::Client, PerMillion::percent(50.0)));
    // Nothing at all is not the same as not said.
    assert_eq!((server.side, server.sampling, server.istio_tags), (Side::Server, PerMillion::NEVER, false));
    assert_eq!(server.endpoint, client.endpoint);

    let off = "tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}]";
    let (settings, _) = merged(&[base.clone(), telemetry("default", off)]);
    assert!(matches!(&settings.tracing[..], [only] if only.side == Side::Server));

    let kept = "tracing: [{disableSpanReporting: true, disableContextPropagation: true}]";
    let (settings, _) = merged(&[base, telemetry("default", kept)]);
    assert!(matches!(&settings.tracing[..], [only] if only.keep_headers && only.endpoint.is_none()));
}

#[test]
fn metrics_merge_label_by_label() {
    let (settings, told) = merged(&[
        telemetry(
            "istio-system",
            "metrics: [{providers: [{name: prometheus}], overrides: [{tagOverrides: \
             {host: {value: request.host}, source_app: {operation: REMOVE}}}]}]",
        ),
        telemetry(
            "default",
            "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, \
             tagOverrides: {host: {operation: REMOVE}}}, {match: {metric: REQUEST_SIZE}, disabled: true}]}]",
        ),
    ]);
    assert_eq!(told, Vec::<String>::new());
    let change = |metric, side| {
        settings.metrics.iter().find(|change| change.metric == metric && change.side == side).unwrap()
    };
    let host = |metric, side| change(metric, side).labels["host"].as_ref().map(|it| it.as_str().to_owned());
    assert_eq!(host(Metric::RequestCount, Side::Client), None);
    assert_eq!(host(Metric::RequestCount, Side::Server).as_deref(), Some("request.host"));
    assert_eq!(host(Metric::BytesSent, Side::Client).as_deref(), Some("request.host"));
    assert!(change(Metric::RequestSize, Side::Server).disabled);
    assert!(!change(Metric::RequestCount, Side::Client).disabled);
    assert_eq!(change(Metric::RequestCount, Side::Client).labels["source_app"], None);
}

#[test]
fn what_of_telemetry_is_not_carried_out_is_told() {
    let metrics = |rest: &str| format!("metrics: [{{overrides: [{{{rest}}}]}}]");
    let at = |field: &str| format!("spec.metrics[0].overrides[0].{field}");
    let filter = "spec.accessLogging[0].filter.expression".to_owned();
    for (spec, field, words) in [
        (
            "accessLogging: [{filter: {expression: response.kode == 1}}]".into(),
            filter.clone(),
            "response.kode",
        ),
        ("accessLogging: [{filter: {expression: request.path}}]".into(), filter, "condition"),
        (
            "accessLogging: [{providers: [{name: als}]}]".into(),
            "spec.accessLogging[0].providers[0].name".into(),
            "no file",
        ),
        (
            "tracing: [{providers: [{name: zip}]}]".into(),
            "spec.tracing[0].providers[0].name".into(),
            "opentelemetry",
        ),
        (
            "tracing: [{customTags: {a: {header: {name: Cookie}}}}]".into(),
            "spec.tracing[0].customTags.a.header.name".into(),
            "credentials",
        ),
        (
            "tracing: [{customTags: {a: {formatter: {value: \"%X%\"}}}}]".into(),
            "spec.tracing[0].customTags.a.formatter.value".into(),
            "%X%",
        ),
        (
            "metrics: [{providers: [{name: stackdriver}]}]".into(),
            "spec.metrics[0].providers[0].name".into(),
            "Prometheus",
        ),
        ("metrics: [{reportingInterval: 5s}]".into(), "spec.metrics[0].reportingInterval".into(), "closes"),
        (metrics("match: {customMetric: x}"), at("match.customMetric"), "standard"),
        (metrics("match: {metric: GRPC_REQUEST_MESSAGES}"), at("match.metric"), "not reported"),
        (metrics("tagOverrides: {a: {value: my-value}}"), at("tagOverrides.a"), "quotes"),
        (metrics("tagOverrides: {a-b: {value: request.host}}"), at("tagOverrides.a-b"), "name"),
    ] {
        let (_, told) = merged(&[telemetry("default", &spec)]);
        let found = told.iter().any(|line| line.starts_with(&format!("{field}: ")) && line.contains(words));
        assert!(found && told.len() == 1, "{spec}: {told:?}");
    }
}

#[test]
fn commands_that_nobody_knows_are_told_with_the_mesh_configuration() {
    let more = "    accessLogFormat: \"%REQ(:PATH)% %DYNAMIC_METADATA(a)%\"\n    defaultProviders: {tracing: [zip]}\n";
    let view = view(&config(more));
    let told: Vec<_> = view.problems().iter().map(|problem| problem.field.clone()).collect();
    let mut expected = [
        "data.mesh.accessLogFormat",
        "data.mesh.extensionProviders[1].zipkin",
        "data.mesh.extensionProviders[2].envoyFileAccessLog.logFormat.text",
        "data.mesh.extensionProviders[4].envoyOtelAls",
        "data.mesh.defaultProviders.tracing[0]",
    ];
    expected.sort_unstable();
    let mut told: Vec<_> = told.iter().map(String::as_str).collect();
    told.sort_unstable();
    assert_eq!(told, expected);
}
