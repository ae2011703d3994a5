use super::*;

fn checkout(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Tests on the example, with more objects.
fn test(more: &str, tests: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let (objects, file) = (folder.path().join("more.yaml"), folder.path().join("tests.yaml"));
    std::fs::write(&objects, more).unwrap();
    std::fs::write(&file, tests).unwrap();
    let names = ["details", "ratings", "reviews", "productpage", "gateway", "reviews-split"];
    let mut manifests: Vec<_> =
        names.iter().map(|name| checkout(&format!("deploy/examples/bookinfo/{name}.yaml"))).collect();
    manifests.push(objects);
    report(&[file], &manifests, true).unwrap()
}

const PRODUCTPAGE: &str =
    "{tests: [{from: default/productpage-v1, request: {url: 'http://reviews:9080/a'}, expect: ";

fn differences(more: &str, expect: &str) -> Vec<(String, String)> {
    let report = test(more, &format!("{PRODUCTPAGE}{expect}}}]}}"));
    let found = report.cases.iter().flat_map(|case| &case.differences);
    found.map(|difference| (difference.field.clone(), difference.found.clone())).collect()
}

#[test]
fn the_example_passes() {
    let report = report(&[checkout("deploy/examples/bookinfo-tests.yaml")], &[], true).unwrap();
    assert_eq!((report.failed, report.passed), (0, 4), "{:#?}", report.cases);
    assert_eq!(report.unreached, Some(BTreeSet::new()));
}

#[test]
fn shares_are_exact_and_a_split_is_not_one_destination() {
    let found = differences("", "{destination: {host: reviews, subset: v1}}");
    let split = "90 of 100 to reviews.default.svc.cluster.local:9080 subset v1, \
                 10 of 100 to reviews.default.svc.cluster.local:9080 subset v2";
    assert_eq!(found, [("destination".to_owned(), split.to_owned())]);
    let nine_to_one = "[{host: reviews, subset: v2, weight: 1}, {host: reviews, subset: v1, weight: 9}]";
    assert_eq!(differences("", &format!("{{destinations: {nine_to_one}}}")), []);
    let ninety = nine_to_one.replace("weight: 9", "weight: 8");
    assert_eq!(differences("", &format!("{{destinations: {ninety}}}")).len(), 1);
}

const DENY_V2: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-canary, namespace: default}
spec:
  selector: {matchLabels: {version: v2, app: reviews}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}]}]
";

#[test]
fn a_destination_with_a_tenth_of_the_requests_is_judged_by_its_own_policy() {
    let found = differences(DENY_V2, "{result: served}");
    assert_eq!(found, [("result".to_owned(), "answered".to_owned())]);
}

#[test]
fn a_denial_names_its_policy_and_a_failure_its_reasons() {
    let tests = format!("{PRODUCTPAGE}{{result: served}}}}]}}");
    let report = test(DENY_V2, &tests);
    assert!(report.cases[0].because.iter().any(|line| line.contains("default/no-canary")), "{report:#?}");
    let all = DENY_V2.replace("version: v2, ", "");
    assert_eq!(differences(&all, "{status: 403, deniedBy: no-canary, flag: UAEX}"), []);
    let xml = junit::document(&report);
    assert!(xml.contains("<failure message=\"result\">") && xml.contains("failures=\"1\""), "{xml}");
}

const EDITS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: old
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, redirectCode: 302}
  - name: all
    timeout: 3s
    retries: {attempts: 1, perTryTimeout: 1s}
    rewrite: {uri: /b, authority: other}
    headers: {request: {set: {x-a: '1'}, remove: [x-b]}, response: {set: {x-c: '2'}}}
    mirror: {host: ratings}
    mirrorPercentage: {value: 25}
    fault: {abort: {httpStatus: 418, percentage: {value: 10}}}
    route: [{destination: {host: reviews, subset: v1}}]
";

#[test]
fn all_that_a_route_does_can_be_expected() {
    let as_written = "{route: all, path: /b, authority: other, timeout: 3s, workload: reviews-v1, \
        retries: {attempts: 1, perTryTimeout: 1s}, destination: {host: reviews, subset: v1, port: 9080}, \
        requestHeaders: {set: {x-a: '1'}, absent: [x-b]}, responseHeaders: {set: {x-c: '2'}}, \
        mirrors: [{host: ratings, percentage: 25}], fault: {abort: 418, abortPercentage: 10}}";
    assert_eq!(differences(EDITS, as_written), []);
    let otherwise = as_written.replace("timeout: 3s", "timeout: 4s").replace("25", "26").replace("/b", "/c");
    let fields: Vec<_> = differences(EDITS, &otherwise).into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["path", "timeout", "mirrors"]);
}

#[test]
fn faults_that_some_requests_get_are_a_matter_of_the_test() {
    let injected = "{status: 418, flag: FI}, replies: {faults: injected}";
    assert_eq!(differences(EDITS, injected), []);
    assert_eq!(differences(EDITS, "{result: served}"), []);
}

#[test]
fn a_redirect_is_known_by_its_location_and_untested_rules_are_named() {
    let tests = PRODUCTPAGE.replace("/a", "/old/x");
    let report = test(EDITS, &format!("{tests}{{status: 302, redirect: 'http://reviews:9080/new'}}}}]}}"));
    assert_eq!(report.failed, 0, "{report:#?}");
    let unreached = report.unreached.unwrap();
    assert!(unreached.contains("VirtualService default/reviews spec.http[1]"), "{unreached:?}");
    assert!(!unreached.contains("VirtualService default/reviews spec.http[0]"), "{unreached:?}");
}

#[test]
fn files_that_say_nothing_or_too_much_are_refused_with_their_line() {
    let refusal = |text: &str| file::parse(Path::new("t.yaml"), text).unwrap_err();
    let unknown = "tests:\n- request: {url: http://a/}\n  expect:\n    status: 200\n    statsu: 200\n";
    assert_eq!(refusal(unknown), "t.yaml:5: tests[0].expect.statsu: unknown field");
    let nothing = "tests:\n- request: {url: http://a/}\n";
    assert!(refusal(nothing).starts_with("t.yaml:2: tests[0].expect: missing"), "{}", refusal(nothing));
    assert!(refusal("tests: []").contains("at least one"));
    assert!(refusal("tests: [").contains("not valid YAML"));
}
