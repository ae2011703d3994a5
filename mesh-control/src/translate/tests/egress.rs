//! Services outside the mesh: their addresses, and who is given the keys for reaching them.

use std::net::SocketAddr;

use mesh_core::model::{ClusterTls, Resource, Role, Root};

use super::{closure, pod, proxy, sidecar, view};
use crate::view::View;

const ENTRIES: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: wild}\nspec:\n  \
     hosts: ['*.external.com']\n  ports: [{number: 443, name: tls, protocol: TLS}]\n  resolution: NONE\n---\n\
     apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: net}\nspec:\n  hosts: [net.example.com]\n  \
     addresses: [198.51.100.0/24]\n  ports: [{number: 5432, name: tcp, protocol: TCP}]\n  resolution: NONE\n---\n\
     apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: narrow}\nspec:\n  \
     hosts: [narrow.example.com]\n  addresses: [198.51.100.64/26]\n  ports: [{number: 5432, name: tcp, protocol: TCP}]\n  \
     resolution: NONE\n---\n";

fn cluster_at(view: &View, address: &str) -> Option<String> {
    let root = Root::Address(address.parse().unwrap());
    let found = closure(view, &sidecar("a"), &root)?;
    found.iter().find_map(|resource| match resource {
        Resource::Address(address) => Some(address.destination.cluster.clone()),
        _ => None,
    })
}

#[test]
fn addresses_of_a_network_belong_to_its_service_the_narrowest_first() {
    let view = view(&(ENTRIES.to_owned() + &pod("a", "app: a", "10.244.7.1")));
    for (address, host) in [
        ("198.51.100.1:5432", Some("net.example.com")),
        ("198.51.100.65:5432", Some("narrow.example.com")),
        ("198.51.100.65:5433", None),
        ("198.51.101.1:5432", None),
    ] {
        let expected = host.map(|host| format!("outbound|5432||{host}"));
        assert_eq!(cluster_at(&view, address), expected, "{address}");
    }
}

/// security.md EG-03: any depth, on label boundaries, not the apex.
#[test]
fn names_below_a_wildcard_share_its_address() {
    let view = view(&(ENTRIES.to_owned() + &pod("a", "app: a", "10.244.7.1")));
    let name = |name: &str| {
        let root = Root::Name(name.to_owned().try_into().unwrap());
        closure(&view, &sidecar("a"), &root).map(|found| match &found[..] {
            [Resource::Name(name)] => name.addresses[0],
            other => panic!("{other:?}"),
        })
    };
    let shared = name("a.external.com").unwrap();
    assert!(shared.to_string().starts_with("240.240."));
    assert_eq!(name("b.c.external.com"), Some(shared));
    for other in ["external.com", "evil-external.com", "a.external.com.evil"] {
        assert_eq!(name(other), None, "{other}");
    }
    let at = SocketAddr::new(shared, 443).to_string();
    assert_eq!(cluster_at(&view, &at).as_deref(), Some("outbound|443||*.external.com"));
}

fn rule(selector: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: tls}}\nspec:\n  host: net.example.com\n  \
         {selector}trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: key}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{tls.crt: c, tls.key: k, ca.crt: a}}\n---\n"
    )
}

#[test]
fn keys_for_tls_to_the_outside_reach_sidecars_only_by_a_rule_that_selects_them() {
    let root = Root::Address("198.51.100.1:5432".parse().unwrap());
    for (selector, held) in [("", false), ("workloadSelector: {matchLabels: {app: a}}\n  ", true)] {
        let view = view(&(ENTRIES.to_owned() + &rule(selector) + &pod("a", "app: a", "10.244.7.1")));
        // Whoever calls itself a gateway gets no more than a sidecar for what sidecars ask.
        for role in [Role::Sidecar, Role::Egress] {
            let found = closure(&view, &proxy(role, "default", "a"), &root).unwrap();
            let originates = |resource: &Resource| match resource {
                Resource::Cluster(cluster) => matches!(cluster.tls, ClusterTls::Originate { .. }),
                _ => false,
            };
            assert!(found.iter().any(originates), "never without TLS");
            let has_key = found.iter().any(|resource| matches!(resource, Resource::Secret(_)));
            assert_eq!(has_key, held, "{selector:?} {role:?}");
        }
    }
}

/// semantics.md 31.
#[test]
fn s31_under_istio_mutual_the_server_name_is_the_rules_and_other_names_are_told_to_be_unused() {
    let rule = rule("")
        .replace("mode: MUTUAL, credentialName: key", "mode: ISTIO_MUTUAL, sni: inner, subjectAltNames: [a]");
    let view = view(&(ENTRIES.to_owned() + &rule + &pod("a", "app: a", "10.244.7.1")));
    let root = Root::Address("198.51.100.1:5432".parse().unwrap());
    let found = closure(&view, &proxy(Role::Sidecar, "default", "a"), &root).unwrap();
    let tls = found.iter().find_map(|resource| match resource {
        Resource::Cluster(cluster) => Some(&cluster.tls),
        _ => None,
    });
    assert_eq!(tls, Some(&ClusterTls::Mesh { sni: Some("inner".to_owned()) }));
    let told: Vec<_> = view.problems().iter().map(|problem| problem.to_string()).collect();
    assert!(told.iter().any(|text| text.contains("tls.subjectAltNames: has no effect")), "{told:?}");
}
