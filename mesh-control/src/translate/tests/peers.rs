//! PeerAuthentication against a naive reading of semantics.md 30, over combinations of a few policies.

use mesh_core::model::MtlsMode;

use super::*;
use crate::api::core::Pod;
use crate::translate::peer;

/// What a policy may say; `None`: there is none. Those that must make no difference say `DISABLE`.
const MODES: [Option<&str>; 4] = [None, Some("UNSET"), Some("PERMISSIVE"), Some("STRICT")];

/// One combination of policies.
#[derive(Debug, Clone, Copy)]
struct Case {
    mesh: Option<&'static str>,
    namespace: Option<&'static str>,
    /// Of a policy of the namespace that is newer, though its name is earlier.
    newer: Option<&'static str>,
    workload: Option<&'static str>,
    /// Of port 8080 in the workload's policy.
    port: Option<&'static str>,
}

fn policy(name: &str, namespace: &str, day: u8, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {spec}\n---\n"
    )
}

/// With policies that must make no difference.
fn yaml(case: Case) -> String {
    let wide = |mode: &str| format!("{{mtls: {{mode: {mode}}}, portLevelMtls: {{8080: {{mode: DISABLE}}}}}}");
    let mut yaml = pod("web", "app: web", "10.244.0.1")
        + &policy("a", "elsewhere", 1, "{mtls: {mode: DISABLE}}")
        + &policy("b", "default", 1, "{selector: {matchLabels: {app: other}}, mtls: {mode: DISABLE}}")
        + &policy("c", "istio-system", 1, "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}");
    for (name, namespace, day, mode) in [
        ("m", "istio-system", 9, case.mesh),
        ("z", "default", 2, case.namespace),
        ("a", "default", 3, case.newer),
    ] {
        yaml += &mode.map(|mode| policy(name, namespace, day, &wide(mode))).unwrap_or_default();
    }
    // Newer than the workload's own, if there is one: the oldest counts among those that select it, too.
    if case.workload.is_some() {
        yaml +=
            &policy("a-newer", "default", 5, "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}");
    }
    if let Some(mode) = case.workload {
        let ports =
            case.port.map(|mode| format!(", portLevelMtls: {{8080: {{mode: {mode}}}}}")).unwrap_or_default();
        let spec = format!("{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {mode}}}{ports}}}");
        yaml += &policy("w", "default", 4, &spec);
    }
    yaml
}

/// The modes of port 8080 and of all others.
fn oracle(case: Case) -> [MtlsMode; 2] {
    let mut mode = MtlsMode::Permissive;
    for level in [case.mesh, case.namespace.or(case.newer), case.workload] {
        mode = read(level).unwrap_or(mode);
    }
    let port = case.workload.and(case.port);
    [read(port).unwrap_or(mode), mode]
}

fn read(mode: Option<&str>) -> Option<MtlsMode> {
    match mode? {
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        _ => None,
    }
}

#[test]
fn s30_every_composition_is_the_oracles() {
    let count = MODES.len();
    for at in 0..count.pow(4) {
        let digit = |place: u32| MODES[at / count.pow(place) % count];
        let newer = if at % 3 == 0 { Some("STRICT") } else { None };
        let case = Case { mesh: digit(0), namespace: digit(1), workload: digit(2), port: digit(3), newer };
        let mut world = World::default();
        world.apply(Change::from(load_text(Path::new("t.yaml"), &yaml(case))));
        let pod = world.all::<Pod>().next().unwrap();
        let modes = peer::modes(&world, &pod);
        assert_eq!([modes.of(8080), modes.of(9090)], oracle(case), "{case:?}");
    }
}
