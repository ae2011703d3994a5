//! Which token of a request counts, and what goes on of the request, against a naive reading of semantics.md 36: random
//! rules, and random requests with up to three tokens. Signatures are scripted: each token says whether its own is good.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::decide::token::{Checked, Signature};

const NOW: u64 = 1_000_000;
const WORLDS: usize = 3000;
/// Rules are for the first two.
const ISSUERS: [&str; 3] = ["https://a.example", "https://b.example", "https://c.example"];
const AUDIENCES: [&str; 2] = ["shop", "bank"];
/// Where tokens may stand: bearer, a header of its own, a query parameter.
const PLACES: usize = 3;

#[derive(Debug)]
struct Rule {
    issuer: usize,
    /// None takes any.
    audience: Option<usize>,
    has_keys: bool,
    places: [bool; PLACES],
    forward: bool,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    issuer: usize,
    audience: Option<usize>,
    expired: bool,
    signed: bool,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    /// With the place of the token that counts, if one does, and the places whose tokens go on.
    Passed {
        counts: Option<usize>,
        left: [bool; PLACES],
    },
}

impl Rule {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            issuer: random.usize(0..2),
            audience: random.bool().then(|| random.usize(0..AUDIENCES.len())),
            has_keys: random.u8(0..6) > 0,
            places: [0; PLACES].map(|_| random.bool()),
            forward: random.bool(),
        }
    }

    fn takes(&self, token: Token) -> bool {
        token.issuer == self.issuer
            && (self.audience.is_none() || self.audience == token.audience)
            && self.has_keys
            && !token.expired
            && token.signed
    }

    fn encoded(&self) -> Value {
        let origin =
            json!({"kind": "RequestAuthentication", "namespace": "default", "name": "r", "field": ""});
        let headers =
            [json!({"name": "authorization", "prefix": "Bearer "}), json!({"name": "x-t", "prefix": ""})];
        let headers: Vec<_> =
            headers.into_iter().zip(self.places).filter_map(|(each, on)| on.then_some(each)).collect();
        let parameters: &[&str] = if self.places[2] { &["t"] } else { &[] };
        json!({"origin": origin, "issuer": ISSUERS[self.issuer], "headers": headers, "parameters": parameters,
            "audiences": self.audience.map(|at| AUDIENCES[at]).into_iter().collect::<Vec<_>>(),
            "keys": self.has_keys.then_some("{}"), "forward": self.forward,
            "claimHeaders": [{"header": "x-sub", "claim": "sub"}]})
    }
}

impl Token {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            // Good ones are not rare, or nearly everything would be refused.
            issuer: [0, 0, 1, 1, 2][random.usize(0..5)],
            audience: random.bool().then(|| random.usize(0..AUDIENCES.len())),
            expired: random.u8(0..6) == 0,
            signed: random.u8(0..6) > 0,
        }
    }

    /// As sent; `sub` names the place.
    fn encoded(self, place: usize) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let expiry = if self.expired { NOW - 61 } else { NOW + 60 };
        let mut claims = json!({"iss": ISSUERS[self.issuer], "sub": place.to_string(), "exp": expiry});
        if let Some(audience) = self.audience {
            claims["aud"] = json!(AUDIENCES[audience]);
        }
        let signature = URL_SAFE_NO_PAD.encode(if self.signed { "good" } else { "bad" });
        format!("{}.{}.{signature}", part(&json!({"alg": "ES256"})), part(&claims))
    }
}

/// Rules in order, each with the tokens where it looks, those that an earlier rule looked at first.
fn oracle(rules: &[Rule], tokens: [Option<Token>; PLACES]) -> Outcome {
    let mut found: Vec<usize> = Vec::new();
    for rule in rules {
        let here = (0..PLACES).filter(|&place| rule.places[place] && tokens[place].is_some());
        found.extend(here.filter(|place| !found.contains(place)).collect::<Vec<_>>());
    }
    let unseen = [0, 1, 2].map(|place| tokens[place].is_some() && !found.contains(&place));
    if found.is_empty() {
        return Outcome::Passed { counts: None, left: unseen };
    }
    for rule in rules {
        let good =
            |place: &&usize| rule.places[**place] && tokens[**place].is_some_and(|token| rule.takes(token));
        if let Some(&place) = found.iter().find(good) {
            let mut left = unseen;
            left[place] = rule.forward;
            return Outcome::Passed { counts: Some(place), left };
        }
    }
    Outcome::Refused
}

fn decided(rules: &[Rule], tokens: [Option<Token>; PLACES]) -> Outcome {
    let encoded: Vec<_> = rules.iter().map(Rule::encoded).collect();
    let snapshot = snapshot(vec![own(json!({"tokens": encoded}))]);
    let text = |place: usize| tokens[place].map(|token| token.encoded(place));
    // A claim that the client makes up is never believed.
    let mut fields = vec![("x-sub", "forged".to_owned())];
    fields.extend(text(0).map(|token| ("authorization", format!("Bearer {token}"))));
    fields.extend(text(1).map(|token| ("x-t", token)));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let query = text(2).map(|token| format!("?t={token}")).unwrap_or_default();
    let (mut decide, mut head) = (Decide::new(), head(&format!("GET r/{query}"), &fields));
    loop {
        match step(&mut decide, &snapshot, Entry::Inbound { port: 9080 }, &head, &mut Dice::seeded(1)) {
            Decision::Ask(Question::Signatures(checks)) => {
                let good = format!(".{}", URL_SAFE_NO_PAD.encode("good"));
                let sign = |token: &[u8]| {
                    if token.ends_with(good.as_bytes()) { Signature::Good } else { Signature::Bad }
                };
                let signatures = checks.iter().map(|check| sign(&check.token)).collect();
                decide.resume(Reply::Checked(Checked { now: NOW, signatures }));
            }
            Decision::Ask(Question::Edit(edits)) => {
                edits.apply(&mut head);
                decide.resume(Reply::Edited);
            }
            Decision::Forward(_) => {
                let query = head.query.as_ref().is_some_and(|query| !query.is_empty());
                let left = [head.headers.contains("authorization"), head.headers.contains("x-t"), query];
                let counts =
                    head.headers.get_str("x-sub").map(|place| place.parse().expect("not the forged one"));
                return Outcome::Passed { counts, left };
            }
            Decision::Answer(_) => return Outcome::Refused,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn s36_every_outcome_is_the_oracles() {
    let mut random = fastrand::Rng::with_seed(36);
    let mut counts = [0usize; 3];
    for _ in 0..WORLDS {
        let rules: Vec<_> = (0..random.usize(1..=3)).map(|_| Rule::random(&mut random)).collect();
        let tokens = [0; PLACES].map(|_| random.bool().then(|| Token::random(&mut random)));
        let expected = oracle(&rules, tokens);
        assert_eq!(decided(&rules, tokens), expected, "{rules:#?} {tokens:#?}");
        counts[match expected {
            Outcome::Refused => 0,
            Outcome::Passed { counts: None, .. } => 1,
            Outcome::Passed { counts: Some(_), .. } => 2,
        }] += 1;
    }
    // No outcome is rare.
    assert!(counts.iter().all(|&count| count > WORLDS / 8), "{counts:?}");
}
