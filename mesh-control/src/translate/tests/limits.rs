//! RateLimits.

use mesh_core::model::{Amount, LimitKey, Resource, Role, Root};

use super::{closure, gateway_pod, pod, proxy, sidecar, view};
use crate::source::files::load_text;

const LIMIT: &str = "\
apiVersion: minimesh.io/v1alpha1
kind: RateLimit
metadata:
  name: few
spec:
  selector:
    matchLabels: {app: a}
  rules:
  - match:
    - uri: {prefix: /orders}
      method: {exact: POST}
    limit: {requests: 10, per: 1m}
    key: {type: Header, name: X-User}
  - limit: {requests: 100, per: 1s}
    burst: 20
    status: 503
";

fn limits(yaml: &str, of: &str) -> Vec<mesh_core::model::RateLimit> {
    let all =
        yaml.to_owned() + "---\n" + &pod("a", "app: a", "10.244.0.1") + &pod("b", "app: b", "10.244.0.2");
    let resources = closure(&view(&all), &sidecar(of), &Root::Own).unwrap();
    let own = resources.into_iter().find_map(|resource| match resource {
        Resource::Own(own) => Some(own.limits),
        _ => None,
    });
    own.unwrap()
}

#[test]
fn a_limit_holds_for_the_workloads_it_selects() {
    let found = limits(LIMIT, "a");
    let [orders, all] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(orders.name, "RateLimit/default/few/spec.rules[0]");
    assert_eq!(orders.key, LimitKey::Header("x-user".into()));
    assert_eq!((orders.status, all.status), (429, 503));
    let burst = |amount| match amount {
        Amount::Rate { burst, .. } => burst,
        Amount::Concurrent(_) => 0,
    };
    assert_eq!((burst(orders.amount), burst(all.amount)), (10, 20));
    assert_eq!(orders.matches.len(), 1);
    assert_eq!(limits(LIMIT, "b"), []);
}

#[test]
fn a_limit_holds_for_a_gateway_too() {
    let yaml = LIMIT
        .replace("name: few", "name: few\n  namespace: istio-system")
        .replace("{app: a}", "{istio: egressgateway}");
    let view = view(&(yaml + "---\n" + &gateway_pod("egressgateway")));
    let resources = closure(&view, &proxy(Role::Egress, "istio-system", "gw"), &Root::Own).unwrap();
    assert!(resources.iter().any(|resource| matches!(resource, Resource::Own(own) if own.limits.len() == 2)));
}

#[test]
fn a_rule_that_cannot_be_meant_is_left_out_alone_and_told() {
    let yaml = LIMIT.replace("requests: 100", "requests: 0").replace("status: 503", "status: 200");
    assert_eq!(limits(&yaml, "a").len(), 1);
    let told: Vec<_> = view(&yaml).problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "t.yaml:14: RateLimit default/few: spec.rules[1].limit.requests: 0 would let nothing in; use an \
             AuthorizationPolicy; the rule is left out",
            "t.yaml:16: RateLimit default/few: spec.rules[1].status: 200 is not from 400 to 599; the rule is left out",
        ]
    );
}

#[test]
fn a_field_that_the_kind_has_not_is_refused_with_its_line() {
    let refused = |yaml: &str| load_text(std::path::Path::new("t.yaml"), yaml).refused[0].problem.to_string();
    assert_eq!(
        refused(&LIMIT.replace("burst: 20", "bursts: 20")),
        "t.yaml:15: RateLimit default/few: spec.rules[1].bursts: unknown field; RateLimit has no such field, and is \
         refused as a whole"
    );
    assert!(refused(&LIMIT.replace("limit: {requests: 10, per: 1m}", "status: 429")).contains("limit"));
}
