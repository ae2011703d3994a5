mod golden;

use std::path::PathBuf;

use super::*;

fn checkout(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn lint(paths: &[&str]) -> Report {
    let paths: Vec<PathBuf> = paths.iter().map(|path| checkout(path)).collect();
    report(offline::read(&paths).unwrap())
}

fn report(change: Change) -> Report {
    Report::of(crate::cmd::world(change), None)
}

#[test]
fn problems_of_other_namespaces_are_left_out_when_one_is_named() {
    let paths = [checkout("e2e/fixtures/manifests/05-virtualservice-header-and-weights.yaml")];
    let of = |namespace: &str| {
        Report::of(crate::cmd::world(offline::read(&paths).unwrap()), Some(namespace)).problems.len()
    };
    assert!(of("default") > 0);
    assert_eq!(of("elsewhere"), 0);
}

#[test]
fn the_example_has_no_problems() {
    let report = lint(&["deploy/examples/bookinfo"]);
    assert_eq!(report.summary(), "no problems", "{:?}", report.problems);
}

/// D6.
#[test]
fn a_subset_that_nobody_defines_is_an_error_with_file_and_line() {
    let report = lint(&[
        "deploy/examples/bookinfo/reviews.yaml",
        "e2e/fixtures/manifests/05-virtualservice-header-and-weights.yaml",
    ]);
    assert_eq!(report.errors, 3, "{:?}", report.problems);
    let first = report.problems.iter().find(|problem| problem.severity == Severity::Error).unwrap();
    assert_eq!(first.field, "spec.http[0].route[0].destination.subset");
    assert_eq!(first.line, Some(16));
    let text = line(first);
    assert!(text.contains("05-virtualservice-header-and-weights.yaml:16: VirtualService default/reviews:"));
    assert!(text.contains("\"v2\""), "{text}");
}

#[test]
fn routes_to_the_gateways_that_every_mesh_has_are_no_problem() {
    let report = lint(&["e2e/fixtures/manifests/11-ingress-into-gateway.yaml"]);
    let gateway = |problem: &&Problem| problem.message.contains("istio-ingressgateway");
    assert_eq!(report.problems.iter().find(gateway), None);
}

#[test]
fn a_path_that_does_not_exist_is_wrong_usage() {
    let error = offline::read(&[PathBuf::from("nowhere.yaml")]).unwrap_err();
    assert_eq!(crate::cmd::exit_code(&error), 2);
}

#[test]
fn the_summary_counts_each_severity() {
    let report = Report { version: 1, errors: 1, warnings: 2, infos: 0, problems: Vec::new() };
    assert_eq!(report.summary(), "1 error, 2 warnings");
}
