use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::change::{Held, Pass};
use super::files::{Reader, load, load_text};
use super::{Change, Loaded, REVISION_FILE, watch};
use crate::api::networking::{HttpRoute, VirtualService};
use crate::api::{Content, Kind, Spec, StringMatch};

fn text(yaml: &str) -> Loaded {
    load_text(Path::new("a.yaml"), yaml)
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(|problem| format!("{}: {problem}", problem.severity)).collect()
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.objects.iter().map(|object| object.key.to_string()).collect()
}

fn manifest(name: &str) -> Loaded {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/fixtures/manifests");
    let mut loaded = load(&[folder.join(name)]);
    for problem in &mut loaded.problems {
        problem.file = Some(PathBuf::from("f").into());
    }
    loaded
}

const NO_PATH_TYPE: &str = "missing; a cluster refuses this, read as Prefix (fix: pathType: Prefix)";

/// The line of the path, and of the service below it.
fn path_warnings(name: &str, path: usize, rule: usize, path_line: u32, service: &str) -> Vec<String> {
    let at = format!("Ingress default/{name}: spec.rules[{rule}].http.paths[{path}]");
    let service_line = path_line + 2;
    vec![
        format!("warning: f:{path_line}: {at}.pathType: {NO_PATH_TYPE}"),
        format!(
            "warning: f:{service_line}: {at}.backend.service.port: missing; a cluster refuses this, read as the only \
             port of service {service} (fix: port: {{number: …}} of the service)"
        ),
    ]
}

#[test]
fn the_twelve_manifests_load_as_they_stand() {
    let ingress = "Ingress default/";
    for (file, objects, problems) in [
        ("01-ingress-hosts-and-paths.yaml", vec!["my-ingress"], vec![]),
        (
            "02-ingress-hosts.yaml",
            vec!["domain-routing"],
            [
                path_warnings("domain-routing", 0, 0, 10, "api-service"),
                path_warnings("domain-routing", 0, 1, 17, "web-service"),
            ]
            .concat(),
        ),
        (
            "03-ingress-paths.yaml",
            vec!["path-routing"],
            [
                path_warnings("path-routing", 0, 0, 10, "api-service"),
                path_warnings("path-routing", 1, 0, 14, "admin-service"),
                path_warnings("path-routing", 2, 0, 18, "frontend-service"),
            ]
            .concat(),
        ),
        ("04-ingress-tls.yaml", vec!["tls-ingress"], path_warnings("tls-ingress", 0, 0, 14, "web-service")),
        (
            "09-ingress-canary-weight.yaml",
            vec!["canary", "production"],
            [path_warnings("canary", 0, 0, 13, "app-v2"), path_warnings("production", 0, 0, 27, "app-v1")]
                .concat(),
        ),
    ] {
        let loaded = manifest(file);
        assert_eq!(names(&loaded), objects.iter().map(|o| format!("{ingress}{o}")).collect::<Vec<_>>());
        assert_eq!(lines(&loaded), problems, "{file}");
    }
    for (file, objects) in [
        ("05-virtualservice-header-and-weights.yaml", vec!["VirtualService default/reviews"]),
        ("06-peerauthentication-strict.yaml", vec!["PeerAuthentication production/default"]),
        ("07-authorizationpolicy-allow.yaml", vec!["AuthorizationPolicy default/database-policy"]),
        ("10-virtualservice-canary.yaml", vec!["VirtualService default/app", "DestinationRule default/app"]),
        (
            "12-egress-tls-origination.yaml",
            vec![
                "ServiceEntry default/yahoo-ext",
                "Gateway default/yahoo-egressgateway",
                "DestinationRule default/originate-tls-for-yahoo-com",
                "VirtualService default/direct-yahoo-through-egress-gateway",
            ],
        ),
    ] {
        let loaded = manifest(file);
        assert_eq!(
            (names(&loaded), lines(&loaded)),
            (objects.iter().map(|o| o.to_string()).collect(), vec![])
        );
    }
}

#[test]
fn manifests_with_old_or_unknown_spellings_say_so() {
    assert_eq!(
        lines(&manifest("08-timeouts-retries-outliers.yaml")),
        [
            "warning: f:26: DestinationRule default/ratings: spec.trafficPolicy.outlierDetection.consecutiveErrors: \
             deprecated, and without effect in Istio; read as consecutive5xxErrors and consecutiveGatewayErrors \
             (fix: consecutive5xxErrors)"
        ]
    );
    let loaded = manifest("11-ingress-into-gateway.yaml");
    assert_eq!(
        names(&loaded),
        [
            "Ingress default/external-ingress",
            "Gateway default/api-gateway",
            "VirtualService default/api-routes"
        ]
    );
    assert_eq!(
        lines(&loaded),
        [
            "warning: f:6: Ingress default/external-ingress: \
             metadata.annotations[\"nginx.ingress.kubernetes.io/rate-limit\"]: not an annotation of ingress-nginx; \
             read as limit-rps (fix: nginx.ingress.kubernetes.io/limit-rps: \"100\")"
                .to_owned(),
            format!(
                "warning: f:16: Ingress default/external-ingress: spec.rules[0].http.paths[0].pathType: \
                 {NO_PATH_TYPE}"
            ),
        ]
    );
}

fn routes(loaded: &Loaded) -> &[HttpRoute] {
    &VirtualService::of(&loaded.objects[0].spec).unwrap().http
}

#[test]
fn fields_are_read_into_their_types() {
    let loaded = manifest("05-virtualservice-header-and-weights.yaml");
    let routes_of_reviews = routes(&loaded);
    assert_eq!(routes_of_reviews[0].matches[0].headers["end-user"], StringMatch::Exact("jason".to_owned()));
    assert_eq!(routes_of_reviews[1].route.iter().map(|r| r.weight).collect::<Vec<_>>(), [90, 10]);
    let loaded = manifest("08-timeouts-retries-outliers.yaml");
    assert_eq!(routes(&loaded)[0].timeout.unwrap().get(), Duration::from_secs(5));
    let Spec::DestinationRule(rule) = &loaded.objects[1].spec else { panic!() };
    let outliers = rule.traffic_policy.as_ref().unwrap().outlier_detection.as_ref().unwrap();
    assert_eq!(outliers.consecutive_errors, Some(5));
}

#[test]
fn one_bad_document_costs_no_other() {
    let loaded = text(
        "kind: Service\napiVersion: v1\nmetadata: {name: a}\n---\nkind: [oops\n--- # next\nkind: Service\n\
         apiVersion: v1\nmetadata: {name: b}\n...\n---\n# nothing\n---\nspec: {}\n",
    );
    assert_eq!(names(&loaded), ["Service default/a", "Service default/b"]);
    assert_eq!(loaded.objects[1].origin.line, 7);
    let told = lines(&loaded);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("error: a.yaml:") && told[0].contains("not valid YAML: "), "{}", told[0]);
    assert_eq!(told[1], "error: a.yaml:14: kind: missing; every document needs apiVersion and kind");
}

#[test]
fn bad_inputs_are_told_in_one_line_each() {
    let service = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: x\nspec:\n{rest}"
        )
    };
    for (yaml, line) in [
        (
            service("  http:\n  - timeout: 5\n"),
            "error: a.yaml:7: VirtualService default/x: spec.http[0].timeout: expected a duration, such \
             as 1.5s or 100ms, found 5",
        ),
        (
            service("  http:\n  - route: []\n    redirect: {}\n"),
            "error: a.yaml:7: VirtualService default/x: spec.http[0]: only one of route, redirect, directResponse, \
             delegate may be set, found route and redirect",
        ),
        (
            service("  hosts: [a]\n  http:\n  - foo: 1\n"),
            "warning: a.yaml:8: VirtualService default/x: spec.http[0].foo: unknown field",
        ),
        (
            "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: x}".to_owned(),
            "error: a.yaml:1: VirtualService x: apiVersion: networking.istio.io/v2 VirtualService is not known; \
             allowed for VirtualService: networking.istio.io/v1, networking.istio.io/v1beta1, \
             networking.istio.io/v1alpha3",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: Policy\nmetadata: {name: x}".to_owned(),
            "error: a.yaml:1: Policy x: apiVersion: security.istio.io/v1 Policy is not known; security.istio.io has \
             no kind Policy",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x}".to_owned(),
            "warning: a.yaml:2: HTTPRoute x: kind: HTTPRoute (gateway.networking.k8s.io/v1) has no effect yet",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: A_b}".to_owned(),
            "error: a.yaml:3: Service A_b: metadata.name: \"A_b\" is not a name; allowed are a-z, 0-9, - and . \
             inside, at most 253",
        ),
        (
            "apiVersion: v1\nkind: Service\n".to_owned(),
            "error: a.yaml:1: Service : metadata: missing; every object needs metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  ports:\n  - port: 80\n    targetPort: 1.5"
                .to_owned(),
            "error: a.yaml:7: Service default/x: spec.ports[0].targetPort: expected a port number or a port's name, \
             found 1.5",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x}\nspec:\n  mtls:\n    \
             mode: ON"
                .to_owned(),
            "error: a.yaml:6: PeerAuthentication default/x: spec.mtls.mode: \"ON\" is not allowed; one of UNSET, \
             DISABLE, PERMISSIVE, STRICT",
        ),
    ] {
        assert_eq!(lines(&text(&yaml)), [line], "{yaml}");
    }
}

#[test]
fn a_key_that_is_another_certificates_is_told() {
    let pair = || rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let (one, other) = (pair(), pair());
    let secret = |key: String| {
        let data = serde_json::json!({"tls.crt": one.cert.pem(), "tls.key": key});
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {data}\n")
    };
    assert_eq!(lines(&text(&secret(one.signing_key.serialize_pem()))), [] as [&str; 0]);
    let told = lines(&text(&secret(other.signing_key.serialize_pem())));
    let expected =
        "warning: a.yaml:1: Secret default/a: data[\"tls.key\"]: certificate and key cannot be used together";
    assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
}

#[test]
fn of_two_objects_with_one_name_the_last_counts() {
    let yaml = |value: &str| {
        format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: a}}\ndata: {{k: {value}}}\n---\n")
    };
    let loaded = text(&(yaml("one") + &yaml("two")));
    let Spec::ConfigMap(map) = &loaded.objects[0].spec else { panic!() };
    assert_eq!((loaded.objects.len(), map.data["k"].as_str()), (1, "two"));
    assert_eq!(
        lines(&loaded),
        ["warning: a.yaml:1: ConfigMap default/a: written again at a.yaml:6; the last one counts"]
    );
}

#[test]
fn lists_and_json_are_read() {
    let item = |name: &str| {
        format!(r#"{{"apiVersion": "v1", "kind": "Namespace", "metadata": {{"name": "{name}"}}}}"#)
    };
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}, {}]}}"#, item("a"), item("b"));
    let loaded = text(&list);
    assert_eq!(
        (names(&loaded), lines(&loaded)),
        (vec!["Namespace a".to_owned(), "Namespace b".to_owned()], vec![])
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        yaml += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let loaded = text(&yaml);
    assert!(
        loaded.objects.is_empty() && lines(&loaded)[0].contains("not valid YAML"),
        "{:?}",
        lines(&loaded)
    );
}

#[test]
fn folders_are_read_in_order_without_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, name: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
            .unwrap();
    };
    write("b.yaml", "b");
    write("a/z.yml", "z");
    write("a/.hidden.yaml", "h");
    write("..data/c.yaml", "c");
    write("notes.txt", "n");
    let loaded = load(&[folder.path().to_owned(), folder.path().join("absent.yaml")]);
    assert_eq!(names(&loaded), ["Namespace z", "Namespace b"]);
    assert!(lines(&loaded)[0].contains("absent.yaml: cannot be read: "));
}

async fn next(changes: &mut tokio::sync::mpsc::Receiver<Change>) -> (Vec<String>, Vec<String>, usize) {
    let change = timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
    let upserted = change.upserted.iter().map(|object| object.key.name.to_string()).collect();
    let removed = change.removed.iter().map(|key| key.name.to_string()).collect();
    (upserted, removed, change.findings.problems.len())
}

#[tokio::test]
async fn changes_of_a_folder_arrive_as_differences() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, names: &[&str]| {
        let document =
            |name: &&str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n---\n");
        // Written aside and moved, so that no half of it is ever seen.
        std::fs::write(folder.path().join("new.tmp"), names.iter().map(document).collect::<String>())
            .unwrap();
        std::fs::rename(folder.path().join("new.tmp"), folder.path().join(file)).unwrap();
    };
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    write("one.yaml", &["a", "b"]);
    let mut changes = watch(vec![folder.path().to_owned()]).unwrap();
    assert_eq!(next(&mut changes).await, (strings(&["a", "b"]), vec![], 0));
    write("two.yaml", &["c"]);
    assert_eq!(next(&mut changes).await, (strings(&["c"]), vec![], 0));
    write("one.yaml", &["b", "d"]);
    assert_eq!(next(&mut changes).await, (strings(&["d"]), strings(&["a"]), 0));
    // A refused name and an unreadable document keep what was good.
    write("one.yaml", &["b", "[oops"]);
    assert_eq!(next(&mut changes).await, (vec![], vec![], 1));
    std::fs::remove_file(folder.path().join("one.yaml")).unwrap();
    assert_eq!(next(&mut changes).await, (vec![], strings(&["b", "d"]), 0));
}

#[tokio::test]
async fn a_writer_can_tell_by_number_what_has_been_read() {
    let folder = tempfile::tempdir().unwrap();
    let revise = |revision: u64| std::fs::write(folder.path().join(REVISION_FILE), revision.to_string());
    std::fs::write(folder.path().join("one.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: a}")
        .unwrap();
    revise(7).unwrap();
    let mut changes = watch(vec![folder.path().to_owned()]).unwrap();
    let first = changes.recv().await.unwrap();
    assert_eq!((first.revision, first.is_empty()), (7, false));
    // A change without meaning to us is read all the same.
    revise(8).unwrap();
    let second = changes.recv().await.unwrap();
    assert_eq!((second.revision, second.is_empty()), (8, true));
}

/// More than is read in line with all else.
fn huge(rules: usize) -> String {
    let rule = |at| {
        format!(
            "  - match: [{{uri: {{prefix: /path-{at}}}}}]\n    route: [{{destination: {{host: nobody}}}}]\n"
        )
    };
    let rules: String = (0..rules).map(rule).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: huge, namespace: other}}\n\
         spec:\n  hosts: [huge]\n  http:\n{rules}"
    )
}

#[test]
fn a_file_that_has_not_changed_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, name: &str| {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
        std::fs::write(folder.path().join(file), text).unwrap();
    };
    write("one.yaml", "a");
    write("two.yaml", "b");
    let mut reader = Reader::default();
    let paths = [folder.path().to_owned()];
    let first = reader.load(&paths).objects;
    write("two.yaml", "c");
    let second = reader.load(&paths).objects;
    assert!(Arc::ptr_eq(&first[0], &second[0]), "the file is the same, and so is what it gave");
    assert_eq!(&*second[1].key.name, "c", "a file written twice within a tick of the clock is read again");
}

#[test]
fn a_document_that_has_not_changed_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |names: [&str; 3]| {
        let document = |name| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n---\n");
        std::fs::write(folder.path().join("all.yaml"), names.map(document).concat()).unwrap();
    };
    let (mut reader, paths) = (Reader::default(), [folder.path().to_owned()]);
    write(["a", "b", "c"]);
    let first = reader.load(&paths).objects;
    write(["a", "d", "c"]);
    let second = reader.load(&paths).objects;
    assert!(Arc::ptr_eq(&first[0], &second[0]) && Arc::ptr_eq(&first[2], &second[2]));
    assert_eq!(&*second[1].key.name, "d");
    write(["d\n", "a", "c"]);
    let third = reader.load(&paths).objects;
    assert_eq!(
        third.iter().map(|object| object.origin.line).collect::<Vec<_>>(),
        [1, 6, 10],
        "lines are right"
    );
}

/// What is told from the files that changed is what looking through all of them would tell.
#[test]
fn differences_are_the_same_whether_all_files_are_looked_through_or_some() {
    let mut random = fastrand::Rng::with_seed(3);
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().to_owned()];
    let (mut reader, mut held) = (Reader::default(), Held::default());
    let (mut whole, mut expected) = (Reader::default(), Held::default());
    let mut parts = 0;
    for step in 0..600 {
        let file = folder.path().join(format!("f{}.yaml", random.usize(0..5)));
        // Mostly what is simple: each object in a file of its own choice.
        let own = file.file_name().unwrap().to_str().unwrap()[..2].to_owned();
        let mut document = |at: usize| {
            let name = if random.u8(0..80) == 0 { "f0".to_owned() } else { own.clone() };
            let (number, port) = (at + random.usize(0..2), random.usize(80..83));
            match random.u8(0..120) {
                0 => "kind: [".to_owned(),
                1 => format!(
                    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{http: [{{timeout: soon}}]}}\n"
                ),
                2 => format!(
                    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: [a], nonsense: 1, http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"
                ),
                _ => format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}-{number}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
                ),
            }
        };
        let text = [document(0), document(2)].join("---\n");
        match random.u8(0..8) {
            0 => drop(std::fs::remove_file(&file)),
            _ => std::fs::write(&file, text).unwrap(),
        }
        let pass = reader.pass(&paths);
        parts += usize::from(matches!(pass, Pass::Part(_)));
        let change = held.take(pass).map(told);
        assert_eq!(change, expected.update(whole.load(&paths)).map(told), "step {step}");
    }
    assert!((100..550).contains(&parts), "{parts} times from some");
}

type Told = (Vec<(String, u64)>, Vec<String>, Vec<String>, bool);

fn told(change: Change) -> Told {
    let mut upserted: Vec<_> =
        change.upserted.iter().map(|object| (object.key.to_string(), object.hash)).collect();
    upserted.sort();
    let removed = change.removed.iter().map(ToString::to_string).collect();
    let problems = change.findings.problems.iter().map(ToString::to_string).collect();
    (upserted, removed, problems, change.retold)
}

/// TM-06: who writes something huge waits for it, and nobody else.
#[tokio::test]
async fn a_change_does_not_wait_for_a_large_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = |file: &str, text: &str| {
        std::fs::write(folder.path().join("new.tmp"), text).unwrap();
        std::fs::rename(folder.path().join("new.tmp"), folder.path().join(file)).unwrap();
    };
    place(REVISION_FILE, "1");
    let mut changes = watch(vec![folder.path().to_owned()]).unwrap();
    assert_eq!(changes.recv().await.unwrap().revision, 1);
    place("small.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: small}\n");
    place("huge.yaml", &huge(2_000));
    place(REVISION_FILE, "2");
    let first = changes.recv().await.unwrap();
    assert_eq!(first.upserted.iter().map(|object| &*object.key.name).collect::<Vec<_>>(), ["small"]);
    let mut next = first;
    while !next.upserted.iter().any(|object| &*object.key.name == "huge") {
        assert_ne!(next.revision, 2, "the writer's change is not in effect before all of it is");
        next = timeout(Duration::from_secs(60), changes.recv()).await.unwrap().unwrap();
    }
    while next.revision != 2 {
        next = timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
    }
}

#[test]
fn what_one_object_costs_is_bounded() {
    let many: Vec<_> = (0..300).map(|at| format!("h{at}.example.com")).collect();
    let multiplied = huge(200).replace("[huge]", &format!("[{}]", many.join(", ")));
    let told = lines(&text(&multiplied));
    assert!(told[0].contains("more than 50000") && told[0].contains("not used"), "{told:?}");
    let value = "x".repeat(1536 * 1024);
    let told = lines(&text(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {value}}}\n"
    )));
    assert!(told[0].contains("larger than 1.5 MiB"), "{told:?}");
    assert!(text(&huge(3_000)).refused.is_empty(), "what a cluster takes is taken");
}

#[test]
fn kinds_are_told_by_group() {
    use crate::api::Recognized;
    assert_eq!(Kind::recognize("networking.istio.io/v1alpha3", "Gateway"), Recognized::Known(Kind::Gateway));
    assert_eq!(Kind::recognize("gateway.networking.k8s.io/v1", "Gateway"), Recognized::WithoutEffect);
    assert_eq!(Kind::recognize("policy/v1", "PodDisruptionBudget"), Recognized::Foreign);
}
