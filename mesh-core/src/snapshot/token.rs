//! Rules for tokens, compiled, and tests on what a verified token says.
//!
//! What a token must fulfil is `decide::token`'s; keys are read by who verifies signatures. [`Claims`] are only ever made
//! of a token that has been verified.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::text::{InvalidRegex, Text};
use crate::model::{ClaimMatch, StringMatch, TokenRule};

/// Claims that are lists separated by spaces wherever they are texts, as in Istio.
const SPACED: [&str; 2] = ["scope", "permission"];

/// The tokens that a workload's requests may carry.
#[derive(Debug, Default)]
pub struct TokenRules {
    /// In the order of delivery.
    pub rules: Box<[Arc<CompiledTokenRule>]>,
    /// Headers that only we may write: they say what a verified token says.
    pub written: Box<[Box<str>]>,
}

/// One issuer's tokens.
#[derive(Debug)]
pub struct CompiledTokenRule {
    /// As delivered.
    pub model: TokenRule,
    /// The issuer's keys, shared with the questions about signatures.
    pub keys: Option<Arc<str>>,
    /// Claims that are lists separated by spaces.
    pub spaced: Arc<[Box<str>]>,
}

impl TokenRules {
    pub(super) fn new(models: &[TokenRule]) -> Self {
        let compile = |model: &TokenRule| {
            let spaced = SPACED.into_iter().chain(model.spaced_claims.iter().map(String::as_str));
            Arc::new(CompiledTokenRule {
                keys: model.keys.as_deref().map(Arc::from),
                spaced: spaced.map(Box::from).collect(),
                model: model.clone(),
            })
        };
        let written = |model: &TokenRule| {
            let claims = model.claim_headers.iter().map(|each| each.header.clone());
            model
                .payload_header
                .clone()
                .into_iter()
                .chain(claims)
                .map(String::into_boxed_str)
                .collect::<Vec<_>>()
        };
        Self {
            rules: models.iter().map(compile).collect(),
            written: models.iter().flat_map(written).collect(),
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    values: Map<String, Value>,
    spaced: Arc<[Box<str>]>,
}

impl Claims {
    /// Claims of which those named in `spaced` are lists separated by spaces.
    pub const fn new(values: Map<String, Value>, spaced: Arc<[Box<str>]>) -> Self {
        Self { values, spaced }
    }

    /// A claim, or one within claims.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.values.get(first.as_ref())?, |value, name| value.get(name.as_ref()))
    }

    /// Whether a claim's text passes, or one of its list's.
    pub fn any<S: AsRef<str>>(&self, path: &[S], test: impl Fn(&[u8]) -> bool) -> bool {
        let is_spaced = || path.len() == 1 && self.spaced.iter().any(|name| **name == *path[0].as_ref());
        match self.get(path) {
            Some(Value::String(text)) => {
                test(text.as_bytes())
                    || is_spaced() && text.split_whitespace().any(|word| test(word.as_bytes()))
            }
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).any(|text| test(text.as_bytes()))
            }
            _ => false,
        }
    }

    /// Issuer and subject; `None` when one of them is missing or empty.
    pub fn principal(&self) -> Option<(&str, &str)> {
        let text = |name| self.values.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some((text("iss")?, text("sub")?))
    }
}

/// The claims that a condition's key names: `request.auth.claims[a][b]`, `request.auth.audiences`, `….presenter`.
pub(super) fn path_of_condition(key: &str) -> Option<Box<[Box<str>]>> {
    let single = |claim: &str| Some([Box::from(claim)].into());
    match key.strip_prefix("request.auth.")? {
        "audiences" => single("aud"),
        "presenter" => single("azp"),
        other => {
            let inner = other.strip_prefix("claims[")?.strip_suffix(']')?;
            let path: Box<[Box<str>]> = inner.split("][").map(Box::from).collect();
            path.iter().all(|name| !name.is_empty()).then_some(path)
        }
    }
}

/// A test on `issuer/subject`. Split at the last slash (semantics.md 35), so that an issuer cannot speak for another one by
/// putting slashes into a subject.
#[derive(Debug)]
pub struct PrincipalTest {
    issuer: Text,
    subject: Text,
}

impl PrincipalTest {
    /// Compiles a test.
    ///
    /// # Errors
    /// When its regular expression is refused.
    pub(super) fn new(model: &StringMatch) -> Result<Self, InvalidRegex> {
        let exact = |text: &str| Text::Exact(text.as_bytes().into());
        let prefix = |text: &str| Text::Prefix(text.as_bytes().into());
        let suffix = |text: &str| Text::Suffix(text.as_bytes().into());
        let (issuer, subject) = match model {
            StringMatch::Exact(text) => match text.rsplit_once('/') {
                Some((issuer, subject)) => (exact(issuer), exact(subject)),
                // No principal is without a slash.
                None => (exact(text), exact("")),
            },
            StringMatch::Prefix(text) => match text.rsplit_once('/') {
                Some((issuer, subject)) => (exact(issuer), prefix(subject)),
                None => (prefix(text), Text::Present),
            },
            StringMatch::Suffix(text) => match text.rsplit_once('/') {
                Some((issuer, subject)) => (suffix(issuer), exact(subject)),
                None => (Text::Present, suffix(text)),
            },
            // `*` comes as an expression for "not empty", which a principal never is.
            StringMatch::Regex(text) if text == ".+" => (Text::Present, Text::Present),
            StringMatch::Regex(_) => (Text::new(model)?, Text::Present),
            StringMatch::Present => (Text::Present, Text::Present),
        };
        Ok(Self { issuer, subject })
    }

    pub(super) fn matches(&self, claims: &Claims) -> bool {
        claims.principal().is_some_and(|(issuer, subject)| {
            self.issuer.matches(issuer.as_bytes()) && self.subject.matches(subject.as_bytes())
        })
    }
}

/// A route's test on a claim.
#[derive(Debug, Clone)]
pub(super) struct ClaimTest {
    path: Box<[Box<str>]>,
    value: Text,
}

impl ClaimTest {
    pub(super) fn all(models: &[ClaimMatch]) -> Result<Box<[Self]>, InvalidRegex> {
        let compile = |model: &ClaimMatch| {
            let path = model.path.iter().map(|name| name.as_str().into()).collect();
            Ok(Self { path, value: Text::new(&model.value)? })
        };
        models.iter().map(compile).collect()
    }

    pub(super) fn matches(&self, claims: Option<&Claims>) -> bool {
        claims.is_some_and(|claims| match self.value {
            Text::Present => claims.get(&self.path).is_some(),
            _ => claims.any(&self.path, |text| self.value.matches(text)),
        })
    }

    /// The outermost claim.
    pub(super) fn name(&self) -> &str {
        self.path.first().map(|name| &**name).unwrap_or_default()
    }
}
