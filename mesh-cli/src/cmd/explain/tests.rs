use std::path::{Path, PathBuf};

use super::report::{Fate, Report, Topic};
use super::*;

const BOOKINFO: &str = "deploy/examples/bookinfo";
const JASON: &str = "e2e/fixtures/manifests/05-virtualservice-header-and-weights.yaml";

/// Explains on files of the checkout, with objects that are applied after them.
fn explain(paths: &[&str], more: &str, from: Option<&str>, call: (&str, &str, &[&str])) -> Report {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut paths: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("more.yaml"), more).unwrap();
    paths.push(folder.path().to_owned());
    let change = offline::read(&paths).unwrap();
    let (method, url, headers) = call;
    let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
    journey::explain(&view(change), from, Call::parse(method, url, &headers).unwrap()).unwrap()
}

fn reviews(more: &str, headers: &[&str]) -> Report {
    let call = ("GET", "http://reviews:9080/reviews/0", headers);
    explain(&[BOOKINFO, JASON], more, Some("default/productpage-v1"), call)
}

fn step(report: &Report, topic: Topic) -> &report::Step {
    report
        .steps
        .iter()
        .find(|step| step.topic == topic)
        .unwrap_or_else(|| panic!("no {topic:?} in {report:#?}"))
}

#[test]
fn a_header_leads_to_its_subset_and_the_rule_is_named_with_file_and_line() {
    let report = reviews("", &["end-user: jason"]);
    let rule = step(&report, Topic::Rule);
    assert_eq!(rule.origin.as_ref().unwrap().to_string(), "VirtualService default/reviews spec.http[0]");
    assert!(
        rule.place.as_ref().unwrap().ends_with("05-virtualservice-header-and-weights.yaml:9"),
        "{rule:?}"
    );
    assert!(step(&report, Topic::Cluster).text.starts_with("outbound|9080|v2|reviews."));
    assert_eq!(report.outcome.result, Fate::Served);
    assert!(report.outcome.text.starts_with("default/reviews-v2-0 gets it"), "{report:#?}");
}

#[test]
fn without_the_header_the_rule_is_passed_over_and_all_weights_are_shown() {
    let report = reviews("", &[]);
    assert!(step(&report, Topic::Skipped).text.contains("end-user"), "{report:#?}");
    let weights = &step(&report, Topic::Action).details;
    assert!(weights.iter().any(|line| line.contains("90 of 100 to outbound|9080|v1|")), "{weights:?}");
    assert!(weights.iter().any(|line| line.contains("10 of 100 to outbound|9080|v3|")), "{weights:?}");
    assert_eq!(weights.iter().filter(|line| line.starts_with('→')).count(), 1);
}

#[test]
fn from_outside_the_gateway_takes_it_also_on_the_port_that_mesh_up_opens() {
    for url in ["http://localhost/productpage", "http://localhost:8080/productpage"] {
        let report = explain(&[BOOKINFO], "", None, ("GET", url, &[]));
        assert!(step(&report, Topic::Listener).text.contains("port 80"), "{report:#?}");
        assert!(report.outcome.text.starts_with("default/productpage-v1-0 gets it"), "{report:#?}");
        let inbound = &step(&report, Topic::Inbound).text;
        assert!(inbound.ends_with("/ns/istio-system/sa/istio-ingressgateway-service-account"), "{inbound}");
    }
}

#[test]
fn a_path_that_no_route_has_is_answered_by_the_gateway() {
    let report = explain(&[BOOKINFO], "", None, ("GET", "http://localhost/nothing", &[]));
    assert_eq!((report.outcome.status, report.outcome.flag), (Some(404), Some("NR")));
}

#[test]
fn a_policy_of_the_destination_denies_by_the_callers_identity() {
    let policy = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-productpage}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}]
";
    assert_eq!(reviews(policy, &[]).outcome.result, Fate::Served);
    let call = ("GET", "http://reviews:9080/", &[][..]);
    let report = explain(&[BOOKINFO], policy, Some("default/details-v1"), call);
    assert_eq!(report.outcome.status, Some(403), "{report:#?}");
    assert!(step(&report, Topic::Policy).text.starts_with("denied"), "{report:#?}");
}

#[test]
fn a_caller_without_a_sidecar_is_refused_where_mutual_tls_is_required() {
    let more = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, annotations: {sidecar.istio.io/inject: 'false'}}
spec: {containers: [{name: plain, image: x}]}
";
    let report = explain(&[BOOKINFO], more, Some("plain"), ("GET", "http://ratings:9080/", &[]));
    assert_eq!(report.outcome.result, Fate::Refused, "{report:#?}");
    assert!(report.outcome.text.contains("mutual TLS is required"));
}

#[test]
fn a_subset_without_a_definition_answers_503_and_an_undeclared_host_passes_through() {
    let call = ("GET", "http://reviews:9080/", &["end-user: jason"][..]);
    let paths = ["deploy/examples/bookinfo/reviews.yaml", "deploy/examples/bookinfo/productpage.yaml", JASON];
    let report = explain(&paths, "", Some("productpage"), call);
    assert_eq!((report.outcome.status, report.outcome.flag), (Some(503), Some("NC")), "{report:#?}");
    let call = ("GET", "http://example.com/", &[][..]);
    let report = explain(&[BOOKINFO], "", Some("productpage"), call);
    assert_eq!(report.outcome.result, Fate::PassedThrough, "{report:#?}");
}

/// semantics.md 29
#[test]
fn a_hidden_host_is_said_to_be_hidden_and_by_whom() {
    let sidecar = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: narrow}}\n\
             spec: {{egress: [{{hosts: [./details.default.svc.cluster.local]}}], outboundTrafficPolicy: {{mode: {mode}}}}}\n"
        )
    };
    let call = |mode: &str, host: &str| {
        let url = format!("http://{host}:9080/");
        explain(&[BOOKINFO], &sidecar(mode), Some("productpage"), ("GET", &url, &[]))
    };
    let report = call("REGISTRY_ONLY", "reviews");
    assert!(report.steps[0].text.contains("reviews is hidden by Sidecar default/narrow"), "{report:#?}");
    assert_eq!(report.outcome.status, Some(502), "{report:#?}");
    assert_eq!(call("ALLOW_ANY", "reviews").outcome.result, Fate::PassedThrough);
    assert_eq!(call("REGISTRY_ONLY", "details").outcome.result, Fate::Served);
}

#[test]
fn an_unknown_caller_is_a_finding_that_names_those_there_are() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let change = offline::read(&[root.join(BOOKINFO)]).unwrap();
    let call = Call::parse("GET", "http://reviews:9080/", &[]).unwrap();
    let error = journey::explain(&view(change), Some("shop/cart"), call).unwrap_err();
    assert!(error.to_string().contains("default/ratings-v1-0"), "{error}");
    assert_eq!(crate::cmd::exit_code(&error), 1);
}
