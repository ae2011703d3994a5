//! Services that are asked whether a request may pass, compiled.

use super::text::{InvalidRegex, Text};
use crate::model::{self, CheckProtocol, StringMatch};

/// An authorizer with its lists of headers compiled.
#[derive(Debug)]
pub struct CompiledAuthorizer {
    /// As delivered.
    pub model: model::Authorizer,
    /// Headers of the request that an HTTP check carries.
    pub request_headers: Names,
    /// Headers of an allowing answer that overwrite the request's.
    pub upstream_on_allow: Names,
    /// Headers of an allowing answer for the client.
    pub downstream_on_allow: Names,
    /// Headers of a denying answer for the client.
    pub downstream_on_deny: Names,
}

/// Names of headers.
#[derive(Debug, Default)]
pub struct Names(Box<[Text]>);

impl Names {
    fn new(tests: &[StringMatch]) -> Result<Self, InvalidRegex> {
        Text::all(tests).map(Self)
    }

    /// Whether a header of this name is meant.
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|test| test.matches_any_case(name))
    }

    /// Whether no header is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl CompiledAuthorizer {
    /// Compiles an authorizer.
    ///
    /// # Errors
    /// When a regular expression is refused.
    pub fn new(model: &model::Authorizer) -> Result<Self, InvalidRegex> {
        let none = model::HttpCheck::default();
        let http = match &model.protocol {
            CheckProtocol::Http(http) => http.as_ref(),
            CheckProtocol::Grpc(_) => &none,
        };
        Ok(Self {
            request_headers: Names::new(&http.request_headers)?,
            upstream_on_allow: Names::new(&http.upstream_on_allow)?,
            downstream_on_allow: Names::new(&http.downstream_on_allow)?,
            downstream_on_deny: Names::new(&http.downstream_on_deny)?,
            model: model.clone(),
        })
    }

    /// One that cannot be asked: what it should be asked about is denied.
    pub(super) fn unknown(model: &model::Authorizer) -> Self {
        Self {
            model: model::Authorizer { cluster: None, ..model.clone() },
            request_headers: Names::default(),
            upstream_on_allow: Names::default(),
            downstream_on_allow: Names::default(),
            downstream_on_deny: Names::default(),
        }
    }
}

impl PartialEq for CompiledAuthorizer {
    fn eq(&self, other: &Self) -> bool {
        self.model == other.model
    }
}

impl Eq for CompiledAuthorizer {}
