//! Writes what users bring: server-side apply, deletion, and waiting until it is in effect.
//!
//! What is in effect is told by the objects themselves: conditions of the mesh's kinds, which the control plane writes when every
//! connected proxy has acknowledged them, and the status of workloads.

mod kinds;
mod progress;

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Remote, RemoteError};
use crate::cluster::objects::{text, title};
use crate::cluster::request::{Method, RequestError, send};
use kinds::Kinds;
use progress::Progress;

/// How often it is looked whether something is in effect.
const LOOK: Duration = Duration::from_millis(300);
/// How long a definition that has just been created may take until its kind can be created.
const ESTABLISHED: Duration = Duration::from_secs(15);

/// What became of an object.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As the API server has it now; as it was, if it was deleted.
    pub object: Value,
    /// `created`, `changed`, `unchanged` or `deleted`.
    pub change: &'static str,
    /// Where the API server has it.
    path: String,
}

impl Remote {
    /// Creates or changes objects; namespaces and definitions first, the others in their order.
    ///
    /// # Errors
    /// With the first that the API server refuses; those before it stay.
    pub async fn apply(&self, mut objects: Vec<Value>) -> Result<Vec<Changed>, RemoteError> {
        objects.sort_by_key(|object| !comes_first(object));
        let mut kinds = Kinds::new(self.client());
        let mut changed = Vec::new();
        for object in objects {
            let path = self.path(&mut kinds, &object).await?;
            changed.push(self.apply_one(&path, &object).await?);
        }
        Ok(changed)
    }

    /// Deletes objects, those that take others with them last; those that are not there are left out of the result.
    ///
    /// # Errors
    /// With the first that the API server does not delete.
    pub async fn delete(&self, objects: &[Value]) -> Result<Vec<Changed>, RemoteError> {
        let mut kinds = Kinds::new(self.client());
        let mut changed = Vec::new();
        let (last, first): (Vec<&Value>, Vec<&Value>) =
            objects.iter().partition(|object| comes_first(object));
        for object in first.into_iter().chain(last) {
            let path = match kinds.path(object, self.namespace()).await {
                Ok(path) => path,
                // Without its kind it is not there.
                Err(RemoteError::Finding(_)) => continue,
                Err(error) => return Err(error),
            };
            let Some(found) = self.found(&path, object).await? else { continue };
            match send(self.client(), Method::Delete, &path, None).await {
                Err(error) if !is_missing(&error) => {
                    return Err(RemoteError::Request(title(object), error));
                }
                _ => changed.push(Changed { object: found, change: "deleted", path }),
            }
        }
        Ok(changed)
    }

    /// An object of a kind and name, so that it can be deleted; the kind may be written in any case, in the singular or plural.
    ///
    /// # Errors
    /// When the cluster has no such kind, or several.
    pub async fn named(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, RemoteError> {
        Kinds::new(self.client()).named(kind, namespace, name).await
    }

    /// Waits until changed objects are in effect, or gone.
    ///
    /// # Errors
    /// When one is refused, or not in effect in time.
    pub async fn wait(
        &self,
        changed: &[Changed],
        patience: Duration,
        tell: &dyn Fn(String),
    ) -> Result<(), RemoteError> {
        let deadline = Instant::now() + patience;
        for Changed { object, change, path } in changed {
            let mut told = String::new();
            loop {
                let reason = match (self.found(path, object).await?, *change) {
                    (None, "deleted") => break,
                    (None, _) => "it is gone again".to_owned(),
                    (Some(_), "deleted") => "it is still there".to_owned(),
                    (Some(found), _) => match Progress::of(&found) {
                        Progress::Done => break,
                        Progress::Refused(reason) => {
                            return Err(RemoteError::Finding(format!("{}: {reason}", title(object))));
                        }
                        Progress::Waiting(reason) => reason,
                    },
                };
                if Instant::now() + LOOK > deadline {
                    return Err(RemoteError::Late(format!(
                        "{} is not in effect within {patience:?}: {reason}",
                        title(object)
                    )));
                }
                if told != reason {
                    tell(format!("waiting for {}: {reason}", title(object)));
                    told = reason;
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn apply_one(&self, path: &str, object: &Value) -> Result<Changed, RemoteError> {
        let before = self.found(path, object).await?;
        let mut body = object.clone();
        // An applied object has no manager yet, and its version is no condition.
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"] {
            body["metadata"].as_object_mut().map(|meta| meta.remove(field));
        }
        let deadline = Instant::now() + ESTABLISHED;
        let after = loop {
            match send(self.client(), Method::Put, path, Some(&body)).await {
                // The API server knows of a definition before it serves its kind.
                Err(error) if error.code() == Some(404) && Instant::now() < deadline => sleep(LOOK).await,
                answer => break answer.map_err(RemoteError::request(title(object)))?,
            }
        };
        let change = match before {
            None => "created",
            Some(before) if meant(&before) == meant(&after) => "unchanged",
            Some(_) => "changed",
        };
        Ok(Changed { object: after, change, path: path.to_owned() })
    }

    async fn path(&self, kinds: &mut Kinds<'_>, object: &Value) -> Result<String, RemoteError> {
        let deadline = Instant::now() + ESTABLISHED;
        loop {
            match kinds.path(object, self.namespace()).await {
                Err(RemoteError::Finding(_)) if kinds.is_new(object) && Instant::now() < deadline => {
                    sleep(LOOK).await;
                }
                answer => return answer,
            }
        }
    }

    async fn found(&self, path: &str, object: &Value) -> Result<Option<Value>, RemoteError> {
        match send(self.client(), Method::Get, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(RemoteError::Request(title(object), error)),
        }
    }
}

/// An object without what the cluster says of it.
fn meant(object: &Value) -> Value {
    let mut meant = object.clone();
    if let Some(fields) = meant.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = meant["metadata"].as_object_mut() {
        metadata
            .retain(|field, _| !matches!(field.as_str(), "managedFields" | "resourceVersion" | "generation"));
    }
    meant
}

/// Others are in it, or of its kind.
fn comes_first(object: &Value) -> bool {
    matches!(text(object, "/kind"), "Namespace" | "CustomResourceDefinition")
}

fn is_missing(error: &RequestError) -> bool {
    error.code() == Some(404)
}
