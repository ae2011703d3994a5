//! Whether the token that a request carries is good, and what follows from it (semantics.md 36).
//!
//! A request without a token passes, without a principal. With tokens, one of them must fulfil one of the rules. The stage
//! asks two questions: whether signatures are good (with the time), and to edit the head, before anything else looks at
//! it: tokens come off, and headers that say what a token says are ours alone. No cryptography is in here.
//!
//! Invariants: claims are told only after their token's signature has been found good by a key of the token's issuer; a
//! token that nobody has verified never goes upstream from a place where a rule looks for tokens.

mod find;
mod parse;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::trail::{Note, NoteKind, Trail};
use super::{Answer, Decision, Entry, Question, Request};
use crate::message::RequestHead;
use crate::snapshot::token::{Claims, CompiledTokenRule, TokenRules};
use find::Found;
pub use find::HeadEdits;
use parse::Parsed;
pub use parse::{Algorithm, TokenError};

/// Tokens that one request may carry at most.
const MOST_TOKENS: usize = 4;

/// A signature to be checked.
#[derive(Clone, PartialEq, Eq)]
pub struct SignatureCheck {
    /// The token: `header.payload.signature`.
    pub token: Bytes,
    /// By which algorithm it says it is signed. A key of another type never fits.
    pub algorithm: Algorithm,
    /// By which key it says it is signed.
    pub key: Option<Box<str>>,
    /// The issuer's keys, a JWK set as text.
    pub keys: Arc<str>,
}

impl fmt::Debug for SignatureCheck {
    /// Without the token: it is as good as its bearer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureCheck")
            .field("algorithm", &self.algorithm)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What a check of a signature came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// A key of the set has made it.
    Good,
    /// No key of the set has.
    Bad,
    /// The set has no key of that name and type.
    NoKey,
    /// The set is none, or has no key that we can use.
    NoKeys,
}

/// The answer to a question about signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Seconds since 1970.
    pub now: u64,
    /// One for each check.
    pub signatures: Box<[Signature]>,
}

/// How far the tokens of a request are.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// Not looked at.
    #[default]
    Begun,
    /// Signatures are being checked.
    Asked(Box<Pending>),
    /// The head is to be edited.
    Edit(Option<Box<Claims>>, Box<HeadEdits>),
    /// Done, with what the verified token says.
    Over(Option<Box<Claims>>),
    /// Refused.
    Refused(Box<Refusal>),
}

/// Tokens whose signatures are being checked.
#[derive(Debug, Default)]
pub(super) struct Pending {
    found: Vec<Found>,
    candidates: Vec<Candidate>,
    /// Why others are no candidates.
    failed: Option<Refusal>,
    written: Box<[Box<str>]>,
}

/// A token under a rule of its issuer.
#[derive(Debug)]
struct Candidate {
    rule: Arc<CompiledTokenRule>,
    /// Of the tokens found.
    at: usize,
    parsed: Arc<Parsed>,
}

/// Why a request is refused, and by which rule.
#[derive(Debug)]
pub(super) struct Refusal {
    error: TokenError,
    rule: Option<Arc<CompiledTokenRule>>,
}

impl Stage {
    /// What the verified token says.
    pub(super) fn claims(&self) -> Option<&Claims> {
        match self {
            Self::Over(claims) => claims.as_deref(),
            _ => None,
        }
    }

    /// Goes on as far as can be; `None` when the request may pass this stage.
    pub(super) fn step(&mut self, request: &Request<'_>, trail: &mut Trail) -> Option<Decision> {
        if let Self::Begun = self {
            let rules = &request.snapshot.own()?.tokens;
            if rules.rules.is_empty() || matches!(request.entry, Entry::Outbound { .. }) {
                return None;
            }
            *self = Self::begin(rules, request.head);
        }
        match self {
            Self::Begun | Self::Over(_) => None,
            Self::Asked(pending) => {
                trail.note(|| {
                    let count = pending.candidates.len();
                    Note::new(NoteKind::Policy, format!("checks the signatures of {count} tokens"))
                });
                Some(Decision::Ask(Question::Signatures(pending.checks())))
            }
            Self::Edit(_, edits) => Some(Decision::Ask(Question::Edit(edits.clone()))),
            Self::Refused(refusal) => Some(Decision::Answer(Box::new(refusal.answer(request.head, trail)))),
        }
    }

    /// Takes what the checks came to.
    pub(super) fn checked(&mut self, checked: &Checked) {
        if let Self::Asked(pending) = self {
            *self = std::mem::take(pending).judge(checked);
        }
    }

    /// The head has been edited.
    pub(super) fn edited(&mut self) {
        if let Self::Edit(claims, _) = self {
            *self = Self::Over(claims.take());
        }
    }

    fn begin(rules: &TokenRules, head: &RequestHead) -> Self {
        let found = match find::tokens(rules, head) {
            Ok(found) => found,
            Err(error) => return Self::Refused(Box::new(Refusal { error, rule: None })),
        };
        if found.is_empty() {
            let forged = rules.written.iter().any(|name| head.headers.contains(name));
            return match forged {
                true => Self::Edit(None, Box::new(HeadEdits::stripping(&rules.written))),
                false => Self::Over(None),
            };
        }
        let pending = Pending::new(rules, found);
        match pending.candidates.is_empty() {
            true => Self::Refused(Box::new(pending.refusal(None))),
            false => Self::Asked(Box::new(pending)),
        }
    }
}

impl Pending {
    /// Everything about a token but its signature and time.
    fn new(rules: &TokenRules, found: Vec<Found>) -> Self {
        let parsed: Vec<_> = found.iter().map(|found| Parsed::new(&found.token).map(Arc::new)).collect();
        let mut pending = Self { written: rules.written.clone(), ..Self::default() };
        for (index, rule) in rules.rules.iter().enumerate() {
            for (at, parsed) in parsed.iter().enumerate() {
                // A token counts only under rules that look where it stands.
                if found[at].rules & find::bit(index) == 0 {
                    continue;
                }
                match parsed.as_ref().map_err(|error| *error).and_then(|parsed| {
                    admit(parsed, rule)?;
                    Ok(parsed)
                }) {
                    Ok(parsed) => pending.candidates.push(Candidate {
                        rule: Arc::clone(rule),
                        at,
                        parsed: Arc::clone(parsed),
                    }),
                    Err(error) => pending.note(error, rule),
                }
            }
        }
        pending.found = found;
        pending
    }

    /// The first failure is told, but for an unknown issuer: another rule may know it.
    fn note(&mut self, error: TokenError, rule: &Arc<CompiledTokenRule>) {
        let told = self.failed.as_ref().is_some_and(|failed| failed.error != TokenError::UnknownIssuer);
        if !told && error != TokenError::UnknownIssuer {
            self.failed = Some(Refusal { error, rule: Some(Arc::clone(rule)) });
        }
    }

    fn checks(&self) -> Box<[SignatureCheck]> {
        let check = |candidate: &Candidate| SignatureCheck {
            token: self.found[candidate.at].token.clone(),
            algorithm: candidate.parsed.algorithm,
            key: candidate.parsed.key.clone(),
            keys: candidate.rule.keys.clone().unwrap_or_default(),
        };
        self.candidates.iter().map(check).collect()
    }

    /// The first candidate that is good counts.
    fn judge(mut self, checked: &Checked) -> Stage {
        let mut failed = None;
        for (at, candidate) in self.candidates.iter().enumerate() {
            let signature = checked.signatures.get(at).copied().unwrap_or(Signature::Bad);
            let signed = match signature {
                Signature::Good => Ok(()),
                Signature::Bad => Err(TokenError::VerificationFails),
                Signature::NoKey => Err(TokenError::NoKey),
                Signature::NoKeys => Err(TokenError::KeysInvalid),
            };
            let verdict = candidate.parsed.in_time(checked.now).and(signed);
            match verdict {
                Ok(()) => {
                    let candidate = self.candidates.swap_remove(at);
                    return self.accept(&candidate);
                }
                Err(error) => {
                    failed.get_or_insert_with(|| Refusal { error, rule: Some(Arc::clone(&candidate.rule)) });
                }
            }
        }
        Stage::Refused(Box::new(self.refusal(failed)))
    }

    fn refusal(self, failed: Option<Refusal>) -> Refusal {
        let unknown = Refusal { error: TokenError::UnknownIssuer, rule: None };
        failed.or(self.failed).unwrap_or(unknown)
    }

    fn accept(&self, candidate: &Candidate) -> Stage {
        let rule = &candidate.rule;
        let mut edits = HeadEdits::stripping(&self.written);
        for (at, found) in self.found.iter().enumerate() {
            if !(at == candidate.at && rule.model.forward) {
                edits.take_off(found);
            }
        }
        let claims = Claims::new(candidate.parsed.claims.clone(), Arc::clone(&rule.spaced));
        edits.tell(&rule.model, &claims, &candidate.parsed.payload);
        Stage::Edit(Some(Box::new(claims)), Box::new(edits))
    }
}

/// Issuer, audience and keys, in Envoy's order.
fn admit(parsed: &Parsed, rule: &CompiledTokenRule) -> Result<(), TokenError> {
    if parsed.issuer.is_empty() || *parsed.issuer != *rule.model.issuer {
        return Err(TokenError::UnknownIssuer);
    }
    let audiences = &rule.model.audiences;
    let wanted = |audience: &str| audiences.iter().any(|wanted| same_audience(wanted, audience));
    if !audiences.is_empty() && !parsed.audiences.iter().any(|audience| wanted(audience)) {
        return Err(TokenError::AudienceNotAllowed);
    }
    if rule.keys.is_none() { Err(TokenError::KeysNotFetched) } else { Ok(()) }
}

/// As Envoy compares audiences: without scheme and without a slash at the end.
fn same_audience(left: &str, right: &str) -> bool {
    let bare = |text| {
        let text =
            str::strip_prefix(text, "https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text)
    };
    bare(left) == bare(right)
}

impl Refusal {
    fn answer(&self, head: &RequestHead, trail: &mut Trail) -> Answer {
        trail.note(|| {
            let note = Note::new(NoteKind::Policy, format!("refused: {}", self.error));
            match &self.rule {
                Some(rule) => note.by(&rule.model.origin),
                None => note,
            }
        });
        let mut answer = Answer::refused(self.error.failure(), self.error.message(), head);
        answer.headers.append("www-authenticate", challenge(head));
        let details = self.error.message().replace(' ', "_");
        answer.cause = Some(match &self.rule {
            Some(rule) => format!("jwt_authn_access_denied{{{details}}} by {}", rule.model.origin).into(),
            None => format!("jwt_authn_access_denied{{{details}}}").into(),
        });
        answer
    }
}

/// Envoy's challenge (RFC 6750 §3). Never the query: a token may be in it.
fn challenge(head: &RequestHead) -> String {
    const LONGEST: usize = 256;
    let mut uri = format!("{}://", head.scheme.as_str());
    let quotable = |byte: &&u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    uri.extend(
        head.authority.iter().chain(&head.path).filter(quotable).take(LONGEST).map(|&byte| char::from(byte)),
    );
    format!("Bearer realm=\"{uri}\", error=\"invalid_token\"")
}
