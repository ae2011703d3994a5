//! Ingress by host and path.

use anyhow::ensure;

use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y1 hosts and prefixes",
        given: &[],
        key: Key::Manifest("documents/01-ingress-hosts-and-paths.yaml"),
        then: hosts_and_prefixes,
    },
    Scenario {
        name: "Y2 hosts without path type or port",
        given: &[],
        key: Key::Manifest("documents/02-ingress-hosts.yaml"),
        then: hosts_without_path_type_or_port,
    },
    Scenario {
        name: "Y3 paths without path type are prefixes",
        given: &[],
        key: Key::Manifest("documents/03-ingress-paths.yaml"),
        then: paths_without_path_type,
    },
    Scenario {
        name: "S01 two hosts with two paths reach four backends",
        given: &[],
        key: Key::Manifest("ingress/two-hosts-two-paths.yaml"),
        then: two_hosts_with_two_paths,
    },
    Scenario {
        name: "S01 another application is asked who may enter",
        given: &[],
        key: Key::Instead { with: "ingress/guarded.yaml", without: "ingress/unguarded.yaml" },
        then: asked_at_the_door,
    },
    Scenario {
        name: "S02 Ingresses of our classes are served, others are left alone",
        given: &[],
        key: Key::Instead { with: "ingress/classes.yaml", without: "ingress/classes-elsewhere.yaml" },
        then: classes,
    },
    Scenario {
        name: "S30 services of all types behind one address",
        given: &["ingress/service-types.yaml"],
        key: Key::Manifest("ingress/service-types-ingress.yaml"),
        then: services_of_all_types,
    },
];

fn hosts_and_prefixes(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://api.example.com/users", &[]).answered_by("user-service"))?;
    mesh.ingress("http://api.example.com/users/1", &[]).answered_by("user-service")?;
    mesh.ingress("http://api.example.com/usersX", &[]).status(404)?;
    mesh.eventually(|| mesh.ingress("http://shop.example.com/", &[]).answered_by("shop-service"))?;
    Ok(())
}

fn hosts_without_path_type_or_port(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://api.example.com/", &[]).answered_by("api-service"))?;
    mesh.eventually(|| mesh.ingress("http://web.example.com/any", &[]).answered_by("web-service"))?;
    Ok(())
}

fn paths_without_path_type(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://example.com/api/x", &[]).answered_by("api-service"))?;
    mesh.ingress("http://example.com/admin/x", &[]).answered_by("admin-service")?;
    mesh.ingress("http://example.com/other", &[]).answered_by("frontend-service")?;
    Ok(())
}

fn two_hosts_with_two_paths(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://one.example.com/users", &[]).answered_by("user-service"))?;
    mesh.ingress("http://one.example.com/shop", &[]).answered_by("shop-service")?;
    mesh.ingress("http://two.example.com/api", &[]).answered_by("api-service")?;
    mesh.ingress("http://two.example.com/web", &[]).answered_by("web-service")?;
    mesh.ingress("http://three.example.com/users", &[]).status(404)?;
    let spread = mesh.ingress("http://one.example.com/users", &["--repeat", "60"]);
    ensure!(spread.counts.len() == 2, "not both replicas received traffic: {:?}", spread.counts);
    spread.none_failed()
}

fn asked_at_the_door(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://guarded.example.com/", &[]).status(401))?;
    let let_in =
        mesh.eventually(|| mesh.ingress("http://let-in.example.com/", &[]).answered_by("web-service"))?;
    let told = let_in.seen_header("x-echo-pod").unwrap_or_default();
    ensure!(told.starts_with("api-service"), "x-echo-pod of who was asked came as {told:?}");
    Ok(())
}

fn classes(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://annotation.example.com/", &[]).answered_by("web-service"))?;
    mesh.eventually(|| mesh.ingress("http://class.example.com/", &[]).answered_by("web-service"))?;
    mesh.ingress("http://other.example.com/", &[]).status(404)
}

fn services_of_all_types(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://cluster-ip.example.com/", &[]).answered_by("user-service"))?;
    mesh.ingress("http://node-port.example.com/", &[]).answered_by("shop-service")?;
    mesh.ingress("http://load-balancer.example.com/", &[]).answered_by("api-service")?;
    Ok(())
}
