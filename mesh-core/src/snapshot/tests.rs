use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dice::Dice;
use crate::model::{Key, Kind, Resource};

fn resource(json: Value) -> Resource {
    serde_json::from_value(json).unwrap()
}

fn cluster(name: &str, max_requests: u32) -> Resource {
    resource(
        json!({"cluster": {"name": name, "service": "s", "serviceName": "s", "serviceNamespace": "d", "port": 80,
        "protocol": "http", "pool": {"maxRequests": max_requests}}}),
    )
}

fn endpoints(cluster: &str, pods: &[u8]) -> Resource {
    let endpoint = |pod: &u8| {
        json!({"address": {"socket": format!("10.0.0.{pod}:80")}, "weight": 1, "transport": "plain",
            "workload": {"uid": format!("pod-{pod}")}})
    };
    let endpoints: Vec<_> = pods.iter().map(endpoint).collect();
    resource(json!({"endpoints": {"cluster": cluster, "endpoints": endpoints}}))
}

fn table(name: &str, paths: &[&str]) -> Resource {
    let rule = |path: &&str| {
        let origin = json!({"kind": "VirtualService", "namespace": "d", "name": "vs", "field": ""});
        let (name, _) = path.split_once('=').unwrap_or((path, ""));
        json!({"name": name, "matches": [{"path": {"regex": path}}], "origin": origin,
            "action": {"forward": [{"cluster": "c", "weight": 1}]}})
    };
    let rules: Vec<_> = paths.iter().map(rule).collect();
    resource(
        json!({"routes": {"name": name, "virtualHosts": [{"name": "vh", "hosts": ["h"], "rules": rules}]}}),
    )
}

fn rules(snapshot: &Snapshot) -> &[Arc<CompiledRule>] {
    &snapshot.host(&Host::parse("h").unwrap(), 80).found().unwrap().rules
}

#[test]
fn what_has_not_changed_is_taken_over() {
    let mut config: Config = [table("h:80", &["/a", "/b"]), cluster("c", 5)].into_iter().collect();
    let (first, _) = compile(None, &config);
    config.insert(table("h:80", &["/a", "/c"]));
    config.insert(cluster("c", 5));
    let (second, _) = compile(Some(&first), &config);
    assert!(Arc::ptr_eq(&rules(&first)[0], &rules(&second)[0]));
    assert!(!Arc::ptr_eq(&rules(&first)[1], &rules(&second)[1]));
    assert!(Arc::ptr_eq(first.cluster("c").unwrap(), second.cluster("c").unwrap()));
}

#[test]
fn what_is_learnt_outlives_a_change_of_policy_and_of_endpoints() {
    let mut config: Config = [cluster("c", 1), endpoints("c", &[1, 2])].into_iter().collect();
    let (first, _) = compile(None, &config);
    let _request = first.cluster("c").unwrap().admit().unwrap();
    let _active = first.cluster("c").unwrap().endpoints().endpoints()[1].begin();
    config.insert(cluster("c", 2));
    config.insert(endpoints("c", &[2, 3]));
    let (second, _) = compile(Some(&first), &config);
    let cluster = second.cluster("c").unwrap();
    let _another = cluster.admit().unwrap();
    assert!(cluster.admit().is_err(), "the first request still counts");
    assert_eq!(cluster.endpoints().endpoints()[0].state.active(), 1);
    assert_eq!(
        first.cluster("c").unwrap().endpoints().endpoints().len(),
        2,
        "the older snapshot sees the new ones"
    );
}

#[test]
fn endpoints_without_a_cluster_and_clusters_without_endpoints() {
    let mut config: Config = [cluster("c", 1), endpoints("other", &[1])].into_iter().collect();
    let (first, problems) = compile(None, &config);
    let pick = |snapshot: &Snapshot| {
        let mut dice = Dice::seeded(1);
        let how = Pick::first(std::time::Instant::now(), &mut dice, None);
        snapshot.cluster("c").unwrap().pick(how).is_some()
    };
    assert!(problems.is_empty() && !pick(&first));
    config.insert(endpoints("c", &[1]));
    let (second, _) = compile(Some(&first), &config);
    assert!(pick(&second));
    config.remove(&Key { kind: Kind::Endpoints, name: "c".into() });
    assert!(!pick(&compile(Some(&second), &config).0));
}

/// D11.
#[test]
fn a_bad_rule_is_refused_alone_and_keeps_its_last_good_version() {
    let mut config: Config = [table("h:80", &["/a", "/b"])].into_iter().collect();
    let (first, _) = compile(None, &config);
    config.insert(table("h:80", &["/a=(", "/c"]));
    let (second, problems) = compile(Some(&first), &config);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, Key { kind: Kind::Routes, name: "h:80".into() });
    assert_eq!(
        problems[0].reason,
        "VirtualService d/vs: matches: regular expression \"/a=(\": unclosed group"
    );
    let names: Vec<_> = rules(&second).iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["/a", "/c"], "the older /a serves");
    let (_, again) = compile(Some(&second), &config);
    assert!(again.is_empty(), "nothing has changed");
    config.insert(table("h:80", &["/a=("]));
    assert_eq!(compile(Some(&second), &config).1.len(), 1, "still bad");

    let (fresh, problems) = compile(None, &config);
    assert_eq!((problems.len(), rules(&fresh).len()), (1, 0), "a rule that cannot be matched is left out");
}

#[test]
fn a_rule_whose_matches_are_good_fails_rather_than_lets_others_take_its_requests() {
    let mut bad = serde_json::to_value(table("h:80", &["/a"])).unwrap();
    bad["routes"]["virtualHosts"][0]["rules"][0]["rewrite"] = json!({"regex": ["(", ""]});
    let (snapshot, problems) = compile(None, &[resource(bad)].into_iter().collect());
    assert_eq!(problems.len(), 1);
    assert!(matches!(rules(&snapshot)[0].action, rule::CompiledAction::Refuse(_)));
}

#[test]
fn only_what_was_said_to_be_absent_is_not_found() {
    let (host, mut config) = (Host::parse("x").unwrap(), Config::default());
    assert_eq!(compile(None, &config).0.dns(&host), Lookup::Unknown);
    config.set_absent(Root::Name(host.clone()));
    let (snapshot, _) = compile(None, &config);
    assert_eq!(snapshot.dns(&host), Lookup::NotFound);
    assert!(matches!(snapshot.host(&host, 80), Lookup::Unknown));
    config.clear_absent(&Root::Name(host.clone()));
    assert_eq!(compile(Some(&snapshot), &config).0.dns(&host), Lookup::Unknown);
}

/// What a snapshot answers, as text.
fn view(snapshot: &Snapshot) -> String {
    let mut tables: Vec<_> =
        snapshot.tables().map(|table| format!("{}: {:?}", table.name, table.virtual_hosts())).collect();
    tables.sort();
    let mut clusters: Vec<_> = snapshot
        .clusters()
        .map(|cluster| {
            let endpoints = cluster.endpoints();
            let keys: Vec<_> = endpoints.endpoints().iter().map(|each| each.key().clone()).collect();
            format!("{:?} {keys:?}", cluster.model)
        })
        .collect();
    clusters.sort();
    let hosts: Vec<_> = (80..83)
        .map(|port| {
            format!("{:?}", snapshot.host(&Host::parse("h").unwrap(), port).found().map(|host| &host.rules))
        })
        .collect();
    format!("{tables:?}\n{clusters:?}\n{hosts:?}")
}

proptest! {
    #[test]
    fn any_history_reaches_the_same_snapshot(steps in prop::collection::vec((0_u8..4, 0_u16..3, 0_u8..4), 1..20)) {
        let mut config = Config::default();
        let mut snapshot = Snapshot::default();
        for (what, which, version) in steps {
            let name = format!("h:{}", 80 + which);
            match what {
                0 => config.insert(table(&name, &["/a", "/b", "/c", "/d"][..usize::from(version)])),
                1 => config.insert(cluster(&name, u32::from(version))),
                2 => config.insert(endpoints(&name, &[1, 2, 3, 4][usize::from(version)..])),
                _ => {
                    let kind = [Kind::Routes, Kind::Cluster, Kind::Endpoints, Kind::Secret][usize::from(version)];
                    config.remove(&Key { kind, name });
                }
            }
            snapshot = compile(Some(&snapshot), &config).0;
        }
        prop_assert_eq!(view(&snapshot), view(&compile(None, &config).0));
    }
}
