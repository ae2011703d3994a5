//! What of a cluster is looked at to say what would behave differently: workloads, namespaces, Ingresses, and kinds of Istio that
//! the control plane does not read.

use serde_json::Value;

use super::list::list;
use super::{Remote, RemoteError};
use crate::api::{Kind, Recognized};

/// Groups with kinds that have no effect here.
const GROUPS: [&str; 4] =
    ["networking.istio.io", "extensions.istio.io", "gateway.networking.k8s.io", "install.istio.io"];
const READ: [(&str, &str, &str); 6] = [
    ("v1", "Namespace", "/api/v1/namespaces"),
    ("apps/v1", "Deployment", "/apis/apps/v1/deployments"),
    ("apps/v1", "StatefulSet", "/apis/apps/v1/statefulsets"),
    ("apps/v1", "DaemonSet", "/apis/apps/v1/daemonsets"),
    ("batch/v1", "CronJob", "/apis/batch/v1/cronjobs"),
    ("networking.k8s.io/v1", "Ingress", "/apis/networking.k8s.io/v1/ingresses"),
];

impl Remote {
    /// Objects for [`crate::migrate::differences`].
    ///
    /// # Errors
    /// When one of the collections cannot be listed.
    pub async fn to_migrate(&self) -> Result<Vec<Value>, RemoteError> {
        let mut objects = Vec::new();
        for (version, kind, collection) in READ {
            self.add(&mut objects, version, kind, collection).await?;
        }
        for group in GROUPS {
            let Some(found) = self.look(&format!("/apis/{group}")).await? else { continue };
            let mut seen: Vec<String> = Vec::new();
            for version in found["versions"].as_array().into_iter().flatten() {
                let version = version["groupVersion"].as_str().unwrap_or_default();
                let known = self.look(&format!("/apis/{version}")).await?.unwrap_or_default();
                for resource in known["resources"].as_array().into_iter().flatten() {
                    let [kind, plural] =
                        ["kind", "name"].map(|field| resource[field].as_str().unwrap_or_default());
                    let idle = group == "install.istio.io"
                        || Kind::recognize(version, kind) == Recognized::WithoutEffect;
                    // Subresources have a slash; a kind is in several versions.
                    if idle && !plural.contains('/') && !seen.iter().any(|one| one == kind) {
                        seen.push(kind.to_owned());
                        self.add(&mut objects, version, kind, &format!("/apis/{version}/{plural}")).await?;
                    }
                }
            }
        }
        Ok(objects)
    }

    async fn add(
        &self,
        objects: &mut Vec<Value>,
        version: &str,
        kind: &str,
        collection: &str,
    ) -> Result<(), RemoteError> {
        for mut object in list(self.client(), collection, "").await?.unwrap_or_default() {
            // Items of a list do not say what they are.
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            objects.push(object);
        }
        Ok(())
    }
}
