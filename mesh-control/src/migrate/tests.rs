use serde_json::json;

use super::*;

fn told(documents: &[Value]) -> Vec<String> {
    differences(documents).iter().map(ToString::to_string).collect()
}

fn labelled(kind: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {kind: value}}})
}

#[test]
fn kinds_without_effect_are_told_with_what_to_write_instead() {
    let filter = json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
        "metadata": {"name": "limit", "namespace": "shop"}});
    let route =
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"}});
    let operator = json!({"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "metadata": {"name": "o"}});
    let said = told(&[filter, route, operator]);
    assert!(
        said[0].starts_with("EnvoyFilter shop/limit: the whole object has no effect (fix: there is no Envoy"),
        "{said:?}"
    );
    assert!(said[1].starts_with("HTTPRoute default/r: ") && said[1].contains("VirtualService"), "{said:?}");
    assert!(said[2].contains("is for istioctl"), "{said:?}");
}

#[test]
fn kinds_that_are_read_are_left_to_lint() {
    let route =
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "r"}});
    assert!(told(&[route]).is_empty());
}

#[test]
fn namespaces_say_how_they_move_over() {
    assert!(told(&[labelled("istio.io/rev", "1-26")])[0].contains("stay with the revision 1-26"));
    assert!(told(&[labelled("istio.io/dataplane-mode", "ambient")])[0].contains("no ambient mode"));
    assert!(told(&[labelled("istio-injection", "enabled")])[0].contains("besideIstio"));
    assert!(told(&[labelled("istio.io/rev", "mesh")]).is_empty());
}

#[test]
fn pods_that_could_not_have_our_proxy_are_told_by_their_workload() {
    let workload = |annotation: &str, user: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"template": {"metadata": {"annotations": {annotation: "x"}}, "spec": {
                "containers": [{"name": "web", "securityContext": {"runAsUser": user}}]}}}})
    };
    let in_mesh = |document: Value| told(&[labelled("istio-injection", "enabled"), document])[1..].to_vec();
    assert_eq!(in_mesh(workload("a", 1)), Vec::<String>::new());
    let said = in_mesh(workload("a", 1337));
    assert!(said[0].starts_with("Deployment shop/web: its pods would be refused: "), "{said:?}");
    let said = in_mesh(workload("sidecar.istio.io/bootstrapOverride", 1));
    assert!(said[0].contains("sidecar.istio.io/bootstrapOverride"), "{said:?}");
    let outside = told(&[labelled("team", "a"), workload("a", 1337)]);
    assert!(outside.is_empty(), "pods outside of the mesh do not move: {outside:?}");
}

#[test]
fn istios_class_of_ingresses_is_not_ours() {
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "annotations": {"kubernetes.io/ingress.class": "istio"}}});
    assert!(told(&[ingress])[0].contains("ingressClassName: mesh"));
}
