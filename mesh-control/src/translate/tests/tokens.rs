//! RequestAuthentications, and claims in routes.

use mesh_core::model::{Own, TokenRule};

use super::*;
use crate::world::KeySource;

fn own(view: &View) -> Own {
    let resources = closure(view, &sidecar("web-v1"), &Root::Own).unwrap();
    let own = resources.into_iter().find_map(|resource| match resource {
        Resource::Own(own) => Some(*own),
        _ => None,
    });
    own.unwrap()
}

fn authentication(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn yaml(policies: &[String]) -> String {
    service("web", 8080, &["v1"]) + &policies.concat()
}

fn issuers(rules: &[TokenRule]) -> Vec<&str> {
    rules.iter().map(|rule| rule.issuer.as_str()).collect()
}

/// semantics.md 36.
#[test]
fn rules_of_root_and_own_namespace_add_up_and_have_istios_places() {
    let rule = |issuer: &str| format!("{{jwtRules: [{{issuer: {issuer}, jwks: '{{\"keys\": [{{}}]}}'}}]}}");
    let view = view(&yaml(&[
        authentication("a", "istio-system", &rule("root")),
        authentication("b", "default", &rule("own")),
        authentication("c", "other", &rule("other")),
        authentication("d", "default", "{selector: {matchLabels: {app: else}}, jwtRules: [{issuer: else}]}"),
    ]));
    let tokens = own(&view).tokens;
    assert_eq!(issuers(&tokens), ["root", "own"]);
    let headers: Vec<_> = tokens[0].headers.iter().map(|each| (&*each.name, &*each.prefix)).collect();
    assert_eq!(headers, [("authorization", "Bearer ")]);
    assert_eq!(tokens[0].parameters, ["access_token"]);
    assert!(tokens[0].keys.is_some());
}

#[test]
fn keys_that_are_not_there_are_told_and_the_last_good_ones_stay() {
    let text =
        yaml(&[authentication("a", "default", "{jwtRules: [{issuer: i, jwksUri: 'http://idp/keys'}]}")]);
    let first = view(&text);
    assert_eq!(own(&first).tokens[0].keys, None);
    assert!(first.problems().iter().any(|problem| problem.message.contains("not been fetched yet")));
    let (mut world, source) = (first.world().clone(), KeySource::Uri("http://idp/keys".into()));
    assert!(world.set_keys(source.clone(), Ok("{\"keys\": [{}]}".into())));
    assert!(world.set_keys(source, Err("it is down".into())));
    let then = View::new(world, 2);
    assert!(own(&then).tokens[0].keys.is_some());
    assert!(then.problems().iter().any(|problem| problem.message.contains("last good keys")));
}

#[test]
fn a_time_to_fetch_keys_in_is_told_to_have_no_effect() {
    for (timeout, is_told) in [("10s", true), ("5s", false)] {
        let spec = format!("{{jwtRules: [{{issuer: i, jwksUri: 'http://idp/keys', timeout: {timeout}}}]}}");
        let view = view(&yaml(&[authentication("a", "default", &spec)]));
        let told = view.problems().iter().any(|problem| problem.field.ends_with("jwtRules[0].timeout"));
        assert_eq!(told, is_told, "{timeout}");
    }
}

#[test]
fn keys_that_are_no_set_make_a_rule_without_keys() {
    for jwks in ["<html>", "{}", "{\"keys\": []}"] {
        let spec = format!("{{jwtRules: [{{issuer: i, jwks: '{jwks}'}}]}}");
        let view = view(&yaml(&[authentication("a", "default", &spec)]));
        assert_eq!(own(&view).tokens[0].keys, None);
        assert!(view.problems().iter().any(|problem| problem.field == "spec.jwtRules[0].jwks"), "{jwks}");
    }
}

#[test]
fn hosts_of_services_are_declared_with_their_pods() {
    let spec = "{jwtRules: [{issuer: i, jwksUri: 'http://web.default:8080/keys'}, {issuer: j, jwksUri: 'http://idp/k'}]}";
    let view = view(&yaml(&[authentication("a", "default", spec)]));
    let wanted = crate::jwks::wanted(view.world());
    let declared: Vec<_> = wanted.values().map(|places| places.declared).collect();
    assert_eq!(declared, [false, true]);
    let places = wanted.values().nth(1).unwrap();
    assert_eq!(places.addresses[&8080].len(), 1);
}
