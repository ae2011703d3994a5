//! One rule of a route table, compiled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::authorizer::CompiledAuthorizer;
use super::edits::{Edits, InvalidHeader};
use super::matcher::CompiledMatch;
use super::retry::Retry;
use super::text::{InvalidRegex, Regex, Text};
use super::token::Claims;
use super::weighted::Weighted;
use crate::failure::Failure;
use crate::message::RequestHead;
use crate::model::{self, Origin};

/// What becomes of the requests that match, compiled.
#[derive(Debug, Clone)]
pub struct CompiledRule {
    /// The user's object.
    pub origin: Origin,
    /// Its name in logs.
    pub name: Arc<str>,
    /// Any of these; none at all matches everything.
    pub matches: Box<[CompiledMatch]>,
    /// What is done.
    pub action: CompiledAction,
    /// Edits of the request's headers.
    pub request_edits: Edits,
    /// Edits of the response's headers.
    pub response_edits: Edits,
    /// Edits of path and authority.
    pub rewrite: Option<CompiledRewrite>,
    /// Time for all tries together.
    pub timeout: Option<Duration>,
    /// When to try again.
    pub retry: Arc<Retry>,
    /// Who is asked whether a request may pass.
    pub authorizer: Option<Arc<CompiledAuthorizer>>,
    /// Injected faults.
    pub fault: Option<model::Fault>,
    /// Copies sent elsewhere.
    pub mirrors: Box<[model::Mirror]>,
    /// Cross-origin policy.
    pub cors: Option<CompiledCors>,
    /// What is asked of a request first; `None` where nothing is.
    pub admission: Option<Box<model::Admission>>,
    /// An older version that serves because the present one was refused.
    pub(super) outdated: bool,
}

/// What is done with a request, compiled.
#[derive(Debug, Clone)]
pub enum CompiledAction {
    /// Forwarded to one of these.
    Forward(Weighted<CompiledBackend>),
    /// Answered with a redirect.
    Redirect(model::Redirect),
    /// Answered by the proxy.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: Bytes,
    },
    /// The rule has been refused, and there is no older version: its requests fail, others do not.
    Refuse(Failure),
}

/// A destination of a rule, compiled.
#[derive(Debug, Clone)]
pub struct CompiledBackend {
    /// The cluster's name; empty for a reference that the control plane found invalid.
    pub cluster: Box<str>,
    /// Edits for this destination only.
    pub request_edits: Edits,
    /// Edits for this destination only.
    pub response_edits: Edits,
}

/// Edits of path and authority, compiled.
#[derive(Debug, Clone)]
pub struct CompiledRewrite {
    /// What becomes of the path.
    pub path: PathRewrite,
    /// The authority to send.
    pub authority: Option<Bytes>,
}

/// What becomes of the path.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// It stays.
    Keep,
    /// Replaces what a prefix match matched, or the whole path.
    Prefix(Box<str>),
    /// Replaces matched segments.
    Segments(Box<str>),
    /// Replaces the whole path.
    Full(Box<str>),
    /// Replaces what the expression matches.
    Regex(Regex, Box<str>),
}

/// A cross-origin policy, compiled.
#[derive(Debug, Clone)]
pub struct CompiledCors {
    /// Origins that may call.
    pub origins: Box<[Text]>,
    /// `Access-Control-Allow-Methods`.
    pub methods: Option<Bytes>,
    /// `Access-Control-Allow-Headers`.
    pub headers: Option<Bytes>,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<Bytes>,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: Option<Bytes>,
    /// `Access-Control-Allow-Credentials`.
    pub credentials: bool,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// A regular expression.
    #[error("{field}: {reason}")]
    Regex {
        /// Where in the rule.
        field: &'static str,
        /// Why.
        reason: InvalidRegex,
    },
    /// An edit of a header.
    #[error("{field}: {reason}")]
    Header {
        /// Where in the rule.
        field: &'static str,
        /// Why.
        reason: InvalidHeader,
    },
    /// A status out of range.
    #[error("{field}: {status} is not a status the proxy can answer with (200 to 599)")]
    Status {
        /// Where in the rule.
        field: &'static str,
        /// The status.
        status: u16,
    },
}

impl CompiledRule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// When one of its regular expressions, header edits or statuses is refused.
    pub fn new(model: &model::Rule) -> Result<Self, InvalidRule> {
        let timeout = model.timeout.map(|time| time.duration()).filter(|time| !time.is_zero());
        Ok(Self {
            origin: model.origin.clone(),
            name: model.name.as_str().into(),
            matches: matches(model)?,
            action: CompiledAction::new(&model.action)?,
            request_edits: edits("requestHeaders", &model.request_headers)?,
            response_edits: edits("responseHeaders", &model.response_headers)?,
            rewrite: model.rewrite.as_ref().map(CompiledRewrite::new).transpose()?,
            timeout,
            retry: Arc::new(Retry::new(&model.retry, timeout)),
            fault: fault(model.fault.as_ref())?,
            mirrors: model.mirrors.as_slice().into(),
            cors: model.cors.as_ref().map(CompiledCors::new).transpose()?,
            authorizer: authorizer(model)?,
            admission: (!model.admission.is_empty()).then(|| Box::new(model.admission.clone())),
            outdated: false,
        })
    }

    /// What takes the place of a rule that is refused and has no older version: where its matches can be told, its
    /// requests fail rather than fall through to a rule that was not meant for them.
    pub(super) fn refused(model: &model::Rule) -> Option<Self> {
        let failing = model::Rule {
            name: model.name.clone(),
            matches: model.matches.clone(),
            action: model::Action::Forward(Vec::new()),
            origin: model.origin.clone(),
            request_headers: model::HeaderEdits::default(),
            response_headers: model::HeaderEdits::default(),
            rewrite: None,
            timeout: None,
            retry: model::RetryPolicy::default(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
            authorizer: None,
            admission: model.admission.clone(),
        };
        let action = CompiledAction::Refuse(Failure::InvalidBackend);
        Self::new(&failing).ok().map(|rule| Self { action, outdated: true, ..rule })
    }

    /// The name under which requests are logged when the rule matches, with the index of the match.
    pub fn matching(
        &self,
        head: &RequestHead,
        port: u16,
        token: Option<&Claims>,
    ) -> Option<(&Arc<str>, usize)> {
        let at = (0..self.matches.len().max(1)).find(|&at| self.passes(at, head, port, token))?;
        Some((self.route_name(at), at))
    }

    /// Whether a match passes; a rule without matches has one, the first, that always does.
    pub(super) fn passes(&self, at: usize, head: &RequestHead, port: u16, token: Option<&Claims>) -> bool {
        self.matches.get(at).is_none_or(|each| each.check(head, port, token).is_ok())
    }

    /// The name under which requests are logged that this match takes.
    pub(super) fn route_name(&self, at: usize) -> &Arc<str> {
        self.matches.get(at).map_or(&self.name, |each| &each.route_name)
    }
}

fn matches(model: &model::Rule) -> Result<Box<[CompiledMatch]>, InvalidRule> {
    let compile = |each| CompiledMatch::new(&model.name, each);
    model.matches.iter().map(compile).collect::<Result<_, _>>().map_err(in_field("matches"))
}

fn authorizer(model: &model::Rule) -> Result<Option<Arc<CompiledAuthorizer>>, InvalidRule> {
    let compiled = model.authorizer.as_deref().map(CompiledAuthorizer::new).transpose();
    Ok(compiled.map_err(in_field("authorizer"))?.map(Arc::new))
}

fn in_field(field: &'static str) -> impl Fn(InvalidRegex) -> InvalidRule {
    move |reason| InvalidRule::Regex { field, reason }
}

fn edits(field: &'static str, model: &model::HeaderEdits) -> Result<Edits, InvalidRule> {
    Edits::new(model).map_err(|reason| InvalidRule::Header { field, reason })
}

fn status(field: &'static str, status: u16) -> Result<u16, InvalidRule> {
    if (200..600).contains(&status) { Ok(status) } else { Err(InvalidRule::Status { field, status }) }
}

fn fault(model: Option<&model::Fault>) -> Result<Option<model::Fault>, InvalidRule> {
    if let Some(model::Fault { abort: Some((model::AbortStatus::Http(code), _)), .. }) = model {
        status("fault.abort", *code)?;
    }
    Ok(model.cloned())
}

impl CompiledAction {
    fn new(model: &model::Action) -> Result<Self, InvalidRule> {
        Ok(match model {
            model::Action::Forward(backends) => {
                let compiled: Vec<_> = backends.iter().map(CompiledBackend::new).collect::<Result<_, _>>()?;
                Self::Forward(Weighted::new(
                    compiled.into_iter().zip(backends.iter().map(|each| each.weight)),
                ))
            }
            model::Action::Redirect(redirect) => {
                status("redirect.status", redirect.status)?;
                Self::Redirect(redirect.clone())
            }
            model::Action::Respond(answer) => Self::Respond {
                status: status("respond.status", answer.status)?,
                body: Bytes::from(answer.body.clone()),
            },
        })
    }
}

impl CompiledBackend {
    fn new(model: &model::Backend) -> Result<Self, InvalidRule> {
        Ok(Self {
            cluster: model.cluster.as_str().into(),
            request_edits: edits("backend.requestHeaders", &model.request_headers)?,
            response_edits: edits("backend.responseHeaders", &model.response_headers)?,
        })
    }
}

impl CompiledRewrite {
    fn new(model: &model::Rewrite) -> Result<Self, InvalidRule> {
        let authority = model::HeaderEdits { authority: model.authority.clone(), ..Default::default() };
        Ok(Self {
            path: match (&model.regex, &model.full_path, &model.segments, &model.path) {
                (Some((pattern, replacement)), ..) => {
                    let regex = Regex::anywhere(pattern).map_err(in_field("rewrite.regex"))?;
                    PathRewrite::Regex(regex, replacement.as_str().into())
                }
                (_, Some(path), ..) => PathRewrite::Full(path.as_str().into()),
                (_, _, Some(path), _) => PathRewrite::Segments(path.as_str().into()),
                (_, _, _, Some(path)) => PathRewrite::Prefix(path.as_str().into()),
                (None, None, None, None) => PathRewrite::Keep,
            },
            authority: edits("rewrite.authority", &authority)?.authority,
        })
    }
}

impl CompiledCors {
    fn new(model: &model::CorsPolicy) -> Result<Self, InvalidRule> {
        let joined = |list: &[String]| (!list.is_empty()).then(|| Bytes::from(list.join(",")));
        Ok(Self {
            origins: Text::all(&model.allow_origins).map_err(in_field("cors.allowOrigins"))?,
            methods: joined(&model.allow_methods),
            headers: joined(&model.allow_headers),
            expose: joined(&model.expose_headers),
            max_age: model.max_age.map(|age| Bytes::from((age.milliseconds() / 1000).to_string())),
            credentials: model.allow_credentials,
        })
    }

    /// Whether a page from `origin` may call.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|test| test.matches(origin))
    }
}
