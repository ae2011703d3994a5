//! Whether a mesh can be installed in a cluster, or works in it: each thing that must be right, looked at on its own.
//!
//! Looking is kept apart from judging, which is pure. What the caller may not see is a warning that says so: it may be right.
//! Nothing is changed, and no request of any user is touched.

mod before;
mod capture;
mod certificates;
mod control;
mod definitions;
mod proxies;
mod server;
mod webhooks;

use serde::Serialize;
use serde_json::Value;

use super::{Remote, RemoteError};

/// How a check has come out. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but perhaps not as meant; or it could not be looked at.
    Warning,
    /// Something does not work.
    Error,
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it has come out.
    pub level: Level,
    /// What it is about.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), message: message.into(), fix: None }
    }

    fn warning(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(subject, message) }
    }

    fn error(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Error, ..Self::ok(subject, message) }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn unseen(subject: impl Into<String>, error: &RemoteError) -> Self {
        let refused = matches!(error, RemoteError::Request(_, cause) if cause.code() == Some(403));
        let reason = if refused { "you may not read it".to_owned() } else { told(error) };
        Self::warning(subject, format!("cannot be looked at: {reason}"))
    }
}

fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Remote {
    /// Looks at an installed mesh; `version` is the caller's.
    ///
    /// # Errors
    /// When the API server cannot be reached at all.
    pub async fn check(&self, version: &str) -> Result<Vec<Check>, RemoteError> {
        let version_of_server = server::version(self).await?;
        // Of what is not installed nothing else is worth telling.
        let deployments = match control::deployment(self).await {
            Ok(deployments) => deployments,
            Err(missing) => return Ok(vec![version_of_server, missing]),
        };
        let mut checks = vec![version_of_server, server::rights(self).await?];
        checks.extend(definitions::installed(self).await);
        checks.extend(deployments);
        let replicas = match self.replicas().await {
            Ok(replicas) => {
                checks.extend(control::replicas(&replicas, version));
                replicas
            }
            Err(error) => {
                checks.push(Check::unseen("control plane", &error));
                Vec::new()
            }
        };
        checks.push(control::leader(self).await);
        checks.extend(certificates::root(self).await);
        checks.extend(webhooks::check(self).await);
        checks.extend(proxies::problems(&replicas));
        match (self.pods(None).await, capture::namespaces(self).await) {
            (Ok(pods), Ok(namespaces)) => {
                checks.extend(capture::judge(&pods, &namespaces));
                checks.extend(proxies::judge(&pods, &replicas));
            }
            (Err(error), _) | (_, Err(error)) => checks.push(Check::unseen("pods", &error)),
        }
        Ok(checks)
    }

    /// Looks at a cluster in which these objects are to be installed.
    ///
    /// # Errors
    /// When the API server cannot be reached at all.
    pub async fn check_before(&self, objects: &[Value]) -> Result<Vec<Check>, RemoteError> {
        let mut checks = vec![server::version(self).await?];
        checks.push(before::rights(self, objects).await?);
        checks.extend(definitions::before(self).await);
        checks.extend(before::strangers(self, objects).await?);
        checks.extend(before::other_meshes(self).await);
        Ok(checks)
    }
}

/// Up to five names, and how many there are beside.
pub(super) fn few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const FEW: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(FEW).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(FEW).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}
