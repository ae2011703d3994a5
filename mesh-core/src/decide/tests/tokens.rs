//! semantics.md 36, sentence by sentence. Signatures are scripted: what `check` answers is good by fiat.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::decide::token::{Checked, Signature};

const NOW: u64 = 1_000_000;
const ISSUER: &str = "https://issuer.example";

fn token_of(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(header), part(claims))
}

fn token(claims: Value) -> String {
    let mut all = json!({"iss": ISSUER, "sub": "jane", "exp": NOW + 600});
    merge(&mut all, claims);
    token_of(&json!({"alg": "ES256", "kid": "k"}), &all)
}

fn bearer(token: &str) -> Vec<(&'static str, String)> {
    vec![("Authorization", format!("Bearer {token}"))]
}

fn token_rule(given: Value) -> Value {
    let origin = json!({"kind": "RequestAuthentication", "namespace": "default", "name": "r", "field": "spec.jwtRules[0]"});
    let mut rule = json!({"origin": origin, "issuer": ISSUER, "keys": "{}",
        "headers": [{"name": "authorization", "prefix": "Bearer "}], "parameters": ["access_token"]});
    merge(&mut rule, given);
    rule
}

/// What became of a request: the plan or answer, and the head that goes on.
struct Outcome {
    decision: Decision,
    head: RequestHead,
}

impl Outcome {
    fn status(&self) -> (u16, String) {
        match &self.decision {
            Decision::Forward(_) => (200, String::new()),
            Decision::Answer(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            other => panic!("{other:?}"),
        }
    }
}

fn run(own_given: Value, line: &str, fields: &[(&str, String)], signature: Signature) -> Outcome {
    let snapshot = snapshot(vec![own(own_given)]);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (mut decide, mut head) = (Decide::new(), head(line, &fields));
    loop {
        match step(&mut decide, &snapshot, Entry::Inbound { port: 9080 }, &head, &mut Dice::seeded(1)) {
            Decision::Ask(Question::Signatures(checks)) => {
                let signatures = checks.iter().map(|_| signature).collect();
                decide.resume(Reply::Checked(Checked { now: NOW, signatures }));
            }
            Decision::Ask(Question::Edit(edits)) => {
                edits.apply(&mut head);
                decide.resume(Reply::Edited);
            }
            decision => return Outcome { decision, head },
        }
    }
}

fn under(rule: Value, fields: &[(&str, String)]) -> Outcome {
    run(json!({"tokens": [token_rule(rule)]}), "GET r/", fields, Signature::Good)
}

#[test]
fn s36_an_absent_token_passes_without_a_principal() {
    assert_eq!(under(json!({}), &[]).status().0, 200);
    assert_eq!(under(json!({}), &[("Authorization", "Basic eDp5".into())]).status().0, 200);
    let wants = json!([{"origin": {"kind": "AuthorizationPolicy", "namespace": "default", "name": "p", "field": ""},
        "action": "allow", "rules": [{"from": [{"requestPrincipals": [{"regex": ".+"}]}]}]}]);
    let own = json!({"tokens": [token_rule(json!({}))], "authorization": wants});
    assert_eq!(run(own.clone(), "GET r/", &[], Signature::Good).status().0, 403);
    assert_eq!(run(own, "GET r/", &bearer(&token(json!({}))), Signature::Good).status().0, 200);
}

#[test]
fn s36_an_invalid_token_is_answered_with_401_and_envoys_words() {
    let header = json!({"alg": "ES256"});
    let good = json!({"iss": ISSUER, "sub": "jane", "exp": NOW + 600});
    for (token, message) in [
        ("x".to_owned(), "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
        (token_of(&json!({"alg": "none"}), &good), "Jwt header [alg] is not supported"),
        (token_of(&json!({"alg": "None"}), &good), "Jwt header [alg] is not supported"),
        (token_of(&json!({}), &good), "Jwt header [alg] field is required and must be a string"),
        (token_of(&json!({"alg": "ES256", "crit": ["x"]}), &good), "Jwt header [crit] is not supported"),
        (token_of(&header, &json!({"iss": ISSUER})), "Jwt payload [exp] field is required"),
        (token(json!({"exp": 1.5})), "Jwt payload [exp] field is not a positive integer"),
        (token(json!({"exp": NOW - 61})), "Jwt is expired"),
        (token(json!({"nbf": NOW + 61})), "Jwt not yet valid"),
        (token(json!({"iat": NOW + 61})), "Jwt not yet valid"),
        (token(json!({"iss": "https://issuer.example/"})), "Jwt issuer is not configured"),
        (token(json!({"iss": ""})), "Jwt issuer is not configured"),
    ] {
        let outcome = under(json!({}), &bearer(&token));
        assert_eq!(outcome.status(), (401, message.to_owned()), "{token}");
        let challenge = answer(outcome.decision).headers.get_str("www-authenticate").map(str::to_owned);
        assert_eq!(challenge.as_deref(), Some("Bearer realm=\"http://r/\", error=\"invalid_token\""));
    }
    for claims in [json!({"exp": NOW - 60}), json!({"nbf": NOW + 60})] {
        assert_eq!(under(json!({}), &bearer(&token(claims))).status().0, 200, "within the leeway");
    }
    for (signature, message) in [
        (Signature::Bad, "Jwt verification fails"),
        (Signature::NoKey, "Jwks doesn't have key to match kid or alg from Jwt"),
        (Signature::NoKeys, "Jwks doesn't have any valid public key"),
    ] {
        let own = json!({"tokens": [token_rule(json!({}))]});
        let outcome = run(own, "GET r/", &bearer(&token(json!({}))), signature);
        assert_eq!(outcome.status(), (401, message.to_owned()));
        let cause = answer(outcome.decision).cause.unwrap();
        assert!(
            cause.contains("RequestAuthentication default/r") || cause.contains("spec.jwtRules[0]"),
            "{cause}"
        );
    }
}

#[test]
fn s36_without_keys_the_issuers_tokens_are_refused() {
    let outcome = under(json!({"keys": null}), &bearer(&token(json!({}))));
    assert_eq!(outcome.status(), (401, "Jwks remote fetch is failed".into()));
    assert_eq!(under(json!({"keys": null}), &[]).status().0, 200);
}

#[test]
fn s36_a_wrong_or_missing_audience_is_answered_with_403() {
    let rule = json!({"audiences": ["shop"]});
    for (claims, status) in [
        (json!({}), 403),
        (json!({"aud": "else"}), 403),
        (json!({"aud": ["else", "shop"]}), 200),
        (json!({"aud": "https://shop/"}), 200),
    ] {
        let outcome = under(rule.clone(), &bearer(&token(claims)));
        assert_eq!(outcome.status().0, status);
        if status == 403 {
            assert_eq!(outcome.status().1, "Audiences in Jwt are not allowed");
        }
    }
}

#[test]
fn s36_tokens_come_off_wherever_they_stand_unless_they_are_forwarded() {
    let good = token(json!({}));
    let outcome = under(json!({}), &bearer(&good));
    assert!(!outcome.head.headers.contains("authorization"));
    let outcome = under(json!({"forward": true}), &bearer(&good));
    assert!(outcome.head.headers.contains("authorization"));
    let own = json!({"tokens": [token_rule(json!({}))]});
    let line = format!("GET r/?a=1&access_token={good}&b=2");
    let outcome = run(own, &line, &[], Signature::Good);
    assert_eq!(outcome.head.query.as_deref(), Some(&b"a=1&b=2"[..]));
    let rule = json!({"headers": [], "parameters": [], "cookies": ["session"]});
    let outcome = under(rule, &[("cookie", format!("a=1; session={good}; b=2"))]);
    assert_eq!(outcome.head.headers.get_str("cookie"), Some("a=1; b=2"));
    let rule = json!({"headers": [{"name": "x-jwt", "prefix": "jwt:"}], "parameters": []});
    let outcome = under(rule, &[("X-Jwt", format!("jwt:{good}")), ("authorization", "Bearer x".into())]);
    assert!(!outcome.head.headers.contains("x-jwt") && outcome.head.headers.contains("authorization"));
}

#[test]
fn s36_several_rules_are_alternatives() {
    let rules = json!({"tokens": [token_rule(json!({"issuer": "other"})), token_rule(json!({"audiences": ["a"]})),
        token_rule(json!({"audiences": ["b"]}))]});
    let at = |claims| run(rules.clone(), "GET r/", &bearer(&token(claims)), Signature::Good).status().0;
    assert_eq!(at(json!({"aud": "b"})), 200);
    assert_eq!(at(json!({"aud": "c"})), 403);
    assert_eq!(at(json!({"iss": "third"})), 401);
    assert_eq!(at(json!({"iss": "other"})), 200);
}

/// JW-08 of the security catalogue.
#[test]
fn of_several_tokens_a_good_one_counts_and_too_many_are_refused() {
    let mut fields = bearer(&token(json!({"iss": "unheard of"})));
    fields.extend(bearer(&token(json!({}))));
    let outcome = under(json!({"forward": true}), &fields);
    assert_eq!(outcome.status().0, 200);
    assert_eq!(
        outcome.head.headers.get_all("authorization").count(),
        1,
        "what nobody verified is not passed on"
    );
    let many: Vec<_> = (0..5).flat_map(|at| bearer(&token(json!({"jti": at.to_string()})))).collect();
    assert_eq!(under(json!({}), &many).status().1, "Found multiple Jwt tokens");
}

/// JW-11 of the security catalogue.
#[test]
fn headers_that_tell_claims_are_ours_alone() {
    let rule = json!({"payloadHeader": "x-payload", "claimHeaders": [{"header": "x-sub", "claim": "sub"},
        {"header": "x-deep", "claim": "a.b"}, {"header": "x-none", "claim": "none"}]});
    let forged = ["x-payload", "X-Sub", "x-deep", "x-none"].map(|name| (name, "forged".to_owned()));
    let outcome = under(rule.clone(), &forged);
    assert!(forged.iter().all(|(name, _)| !outcome.head.headers.contains(name)));
    let good = token(json!({"a": {"b": 7}}));
    let outcome = under(rule, &[&forged[..], &bearer(&good)].concat());
    let header = |name| outcome.head.headers.get_str(name);
    assert_eq!((header("x-sub"), header("x-deep"), header("x-none")), (Some("jane"), Some("7"), None));
    assert_eq!(header("x-payload"), good.split('.').nth(1));
}

#[test]
fn s35_principals_are_split_at_the_last_slash_and_conditions_see_claims() {
    let claims = json!({"groups": ["dev", "ops"], "scope": "read write", "a": {"b": "c"}, "aud": ["x", "y"], "azp": "cli"});
    let allowed = |rule: Value, claims: &Value| {
        let origin = json!({"kind": "AuthorizationPolicy", "namespace": "default", "name": "p", "field": ""});
        let policies = json!([{"origin": origin, "action": "allow", "rules": [rule]}]);
        let own = json!({"tokens": [token_rule(json!({}))], "authorization": policies});
        run(own, "GET r/", &bearer(&token(claims.clone())), Signature::Good).status().0 == 200
    };
    for (key, value, expected) in [
        ("request.auth.claims[groups]", "ops", true),
        ("request.auth.claims[groups]", "o", false),
        ("request.auth.claims[scope]", "write", true),
        ("request.auth.claims[a][b]", "c", true),
        ("request.auth.claims[a]", "c", false),
        ("request.auth.audiences", "y", true),
        ("request.auth.presenter", "cli", true),
        ("request.auth.principal", "https://issuer.example/jane", true),
        ("request.auth.principal", "https://issuer.example/joe", false),
    ] {
        let rule = json!({"when": [{"key": key, "values": [{"exact": value}]}]});
        assert_eq!(allowed(rule, &claims), expected, "{key} {value}");
        let rule = json!({"when": [{"key": key, "notValues": [{"exact": value}]}]});
        assert_eq!(allowed(rule, &claims), !expected, "not {key} {value}");
    }
    let from = |test: Value| json!({"from": [{"requestPrincipals": [test]}]});
    let slashed = json!({"sub": "other/jane"});
    assert!(!allowed(from(json!({"exact": "https://issuer.example/other/jane"})), &slashed));
    assert!(allowed(from(json!({"prefix": "https://issuer.example/"})), &slashed));
    assert!(!allowed(from(json!({"prefix": "https://issuer.example/other/"})), &slashed));
    assert!(allowed(from(json!({"suffix": "/jane"})), &json!({})));
    assert!(!allowed(from(json!({"regex": ".+"})), &json!({"sub": ""})));
}
