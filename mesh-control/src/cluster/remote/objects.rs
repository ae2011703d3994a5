//! The objects of a cluster, read as the control plane reads them.

use std::time::Duration;

use clap::Parser as _;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::check::few;
use super::rights::Right;
use super::{Remote, RemoteError, SYSTEM_NAMESPACE};
use crate::cluster::request::{Method, send};
use crate::settings::Settings;
use crate::source::Change;
use crate::source::kubernetes::{Scope, followed, watch};

/// For reading a whole cluster: ten thousand Services take some seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a cluster holds for the mesh.
#[derive(Debug)]
pub struct Objects {
    /// Everything, as one change from nothing.
    pub change: Change,
    /// Whether the installed control plane takes Ingresses of class `nginx`.
    pub claim_nginx: bool,
}

impl Remote {
    /// Reads every object that the control plane reads, with the settings that it runs with.
    ///
    /// # Errors
    /// When the caller may not read something of it, or it is not read within a minute.
    pub async fn objects(&self) -> Result<Objects, RemoteError> {
        let settings = self.control_settings().await?;
        // Whoever follows a cluster waits for what it may not read; a person would rather be told.
        let missing = self.missing(&read_rights()).await?;
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            return Err(RemoteError::Finding(format!(
                "the objects of the mesh cannot be read, because you may not {}; ask for these rights, or give files with -f",
                few(missing.iter().map(String::as_str))
            )));
        }
        let scope = Scope { namespaces: settings.cluster.namespaces, ..Scope::default() };
        let stop = CancellationToken::new();
        let _ended = stop.clone().drop_guard();
        let mut changes = watch(self.client().clone(), scope, stop);
        match timeout(DEADLINE, changes.recv()).await {
            Ok(Some(change)) => Ok(Objects { change, claim_nginx: settings.cluster.claim_nginx }),
            _ => Err(RemoteError::Late(format!(
                "the cluster's objects were not read within {DEADLINE:?}; is the API server slow, or the cluster large?"
            ))),
        }
    }

    /// The command line of the control plane's Deployment; the defaults where none is installed.
    async fn control_settings(&self) -> Result<Settings, RemoteError> {
        let path = format!("/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/mesh-control");
        let deployment = match send(self.client(), Method::Get, &path, None).await {
            Ok(found) => found,
            // Who may not see it may still read the objects.
            Err(error) if matches!(error.code(), Some(403 | 404)) => Value::Null,
            Err(error) => return Err(RemoteError::Request(path, error)),
        };
        Ok(settings(&deployment))
    }
}

/// What it takes to read everything.
pub(super) fn read_rights() -> Vec<Right> {
    followed()
        .flat_map(|(group, plural)| {
            ["list", "watch"].map(|verb| Right {
                verb,
                group: group.to_owned(),
                resource: plural.clone(),
                namespace: None,
            })
        })
        .collect()
}

fn settings(deployment: &Value) -> Settings {
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    let arguments = arguments.into_iter().flatten().filter_map(Value::as_str);
    Settings::try_parse_from(["mesh-control"].into_iter().chain(arguments))
        .unwrap_or_else(|_| Settings::parse_from(["mesh-control", "--kubernetes"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_read_with_the_settings_of_the_control_plane_that_runs() {
        let with = |arguments: Value| {
            settings(&json!({"spec": {"template": {"spec": {"containers": [{"args": arguments}]}}}})).cluster
        };
        let own = with(json!(["--kubernetes", "--namespaces=team=a", "--claim-nginx"]));
        assert_eq!((own.namespaces.as_str(), own.claim_nginx), ("team=a", true));
        let other = with(json!(["--an-option-of-tomorrow"]));
        assert_eq!(
            (other.namespaces.as_str(), other.claim_nginx),
            ("minimesh.io/discovery!=disabled", false)
        );
    }
}
