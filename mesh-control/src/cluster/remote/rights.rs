//! What the caller may do, as the API server itself says (SelfSubjectAccessReview).

use std::fmt;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::{Remote, RemoteError};
use crate::cluster::request::{Method, send};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Questions at a time.
const AT_ONCE: usize = 16;

/// A verb on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// `get`, `list`, …
    pub verb: &'static str,
    /// The API group; empty for the core's.
    pub group: String,
    /// In plural, with a subresource after a slash.
    pub resource: String,
    /// All namespaces when absent.
    pub namespace: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, namespace } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}

impl Remote {
    /// Those of the rights that the caller does not have.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn missing(&self, rights: &[Right]) -> Result<Vec<Right>, RemoteError> {
        let asked = rights.iter().map(|right| async move {
            let may = self.may(right).await?;
            Ok::<_, RemoteError>((!may).then(|| right.clone()))
        });
        let answers: Vec<Option<Right>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn may(&self, right: &Right) -> Result<bool, RemoteError> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let attributes = json!({"verb": right.verb, "group": right.group, "resource": resource,
            "subresource": subresource, "namespace": right.namespace.as_deref().unwrap_or_default()});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let answer = send(self.client(), Method::Create, REVIEWS, Some(&review)).await;
        let answer = answer.map_err(RemoteError::request("asking for your rights"))?;
        Ok(answer["status"]["allowed"] == true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_reads_as_kubectl_writes_it() {
        let right = |group: &str, namespace: Option<&str>| Right {
            verb: "list",
            group: group.to_owned(),
            resource: "pods".to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        assert_eq!(right("", None).to_string(), "list pods");
        assert_eq!(right("a.io", Some("b")).to_string(), "list pods.a.io in b");
    }
}
