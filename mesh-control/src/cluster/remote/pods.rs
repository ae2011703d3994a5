//! Pods of the mesh: which there are, and which one is meant.

use serde_json::Value;

use super::list::list;
use super::{Remote, RemoteError, SYSTEM_NAMESPACE};

/// The container that injection adds.
const PROXY: &str = "istio-proxy";
const CONTROL: &str = "mesh-control";

/// What a pod is to the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It serves proxies.
    Control,
    /// It is a proxy.
    Gateway,
    /// A proxy runs beside its application.
    Meshed,
    /// None of these.
    Outside,
}

/// A pod of the cluster.
#[derive(Debug, Clone)]
pub struct PodView(pub(super) Value);

impl PodView {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its address; empty until it has one.
    pub fn address(&self) -> &str {
        self.text("/status/podIP")
    }

    /// Pending, Running, Succeeded, Failed or Unknown.
    pub fn phase(&self) -> &str {
        self.text("/status/phase")
    }

    /// A label's value, or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.0["metadata"]["labels"][name].as_str().unwrap_or_default()
    }

    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        let conditions = self.0["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True");
        ready && !self.is_leaving()
    }

    /// Whether it is being deleted.
    pub fn is_leaving(&self) -> bool {
        self.0["metadata"]["deletionTimestamp"].is_string()
    }

    /// How often its containers were started again.
    pub fn restarts(&self) -> u64 {
        self.statuses().filter_map(|status| status["restartCount"].as_u64()).sum()
    }

    /// What it is to the mesh.
    pub fn part(&self) -> Part {
        if self.namespace() == SYSTEM_NAMESPACE && self.label("app") == CONTROL {
            return Part::Control;
        }
        let gateway = self.0["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway";
        match self.containers().any(|container| container["name"] == PROXY) {
            true if gateway || self.is_gateway() => Part::Gateway,
            true => Part::Meshed,
            false => Part::Outside,
        }
    }

    fn is_gateway(&self) -> bool {
        matches!(self.label("istio"), "ingressgateway" | "egressgateway")
    }

    /// The names of its containers, those that start first included.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|list| self.0["spec"][list].as_array().into_iter().flatten())
    }

    /// Containers whose output a user means: the application's; the proxy's, where it is all that there is.
    pub fn default_containers(&self) -> Vec<String> {
        let names = |list: &str| {
            let all = self.0["spec"][list].as_array().into_iter().flatten();
            all.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let all = names("containers");
        let own: Vec<String> = all.iter().filter(|name| *name != PROXY).cloned().collect();
        if own.is_empty() { all } else { own }
    }

    /// What owns it, as users call it: the Deployment and not its ReplicaSet.
    pub fn workload(&self) -> &str {
        let owners = self.0["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut owners = owners.filter(|owner| owner["controller"] == true);
        let Some(owner) = owners.next() else { return self.name() };
        let name = owner["name"].as_str().unwrap_or_default();
        match owner["kind"].as_str() {
            Some("ReplicaSet") => name.rsplit_once('-').map_or(name, |(deployment, _)| deployment),
            _ => name,
        }
    }

    /// Why it is not ready, as far as the cluster says.
    pub fn trouble(&self) -> String {
        let waiting = self.statuses().find_map(|status| {
            let reason = |state: &str| status["state"][state]["reason"].as_str();
            let reason =
                reason("waiting").or_else(|| reason("terminated").filter(|it| *it != "Completed"))?;
            Some(format!("{}: {reason}", status["name"].as_str().unwrap_or_default()))
        });
        let reason = || self.0["status"]["reason"].as_str().map(str::to_owned);
        let conditions = self.0["status"]["conditions"].as_array().into_iter().flatten();
        let mut unmet = conditions.filter(|one| one["status"] != "True" && one["message"].is_string());
        let message = || unmet.next().and_then(|one| one["message"].as_str()).map(str::to_owned);
        waiting.or_else(reason).or_else(message).unwrap_or_else(|| self.phase().to_owned())
    }

    fn statuses(&self) -> impl Iterator<Item = &Value> {
        ["initContainerStatuses", "containerStatuses"]
            .into_iter()
            .flat_map(|list| self.0["status"][list].as_array().into_iter().flatten())
    }

    fn text(&self, place: &str) -> &str {
        self.0.pointer(place).and_then(Value::as_str).unwrap_or_default()
    }

    /// How well a name fits: 0 is the pod's own.
    fn rank(&self, wanted: &str) -> Option<usize> {
        let account = self.text("/spec/serviceAccountName");
        let names =
            [self.name(), self.workload(), self.label("app"), self.label("app.kubernetes.io/name"), account];
        names.iter().position(|name| *name == wanted)
    }
}

impl Remote {
    /// All pods of a namespace, or of all.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self, namespace: Option<&str>) -> Result<Vec<PodView>, RemoteError> {
        let collection = namespace.map_or_else(
            || "/api/v1/pods".to_owned(),
            |namespace| format!("/api/v1/namespaces/{namespace}/pods"),
        );
        let found = list(self.client(), &collection, "").await?.unwrap_or_default();
        Ok(found.into_iter().map(PodView).collect())
    }

    /// The pod that a user means: by its name, or by its workload's, its app label or its service account; a ready one comes
    /// first.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self, namespace: &str, wanted: &str) -> Result<PodView, RemoteError> {
        let wanted = wanted.rsplit('/').next().unwrap_or_default();
        let pods = self.pods(Some(namespace)).await?;
        let ranked = pods.into_iter().filter_map(|pod| Some((pod.rank(wanted)?, !pod.is_ready(), pod)));
        ranked.min_by_key(|(rank, unready, _)| (*rank, *unready)).map(|(.., pod)| pod).ok_or_else(|| {
            RemoteError::Finding(format!(
                "no pod or workload `{wanted}` in the namespace `{namespace}`; `mesh status` lists those of the mesh"
            ))
        })
    }

    /// The control plane's pods.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn control_pods(&self) -> Result<Vec<PodView>, RemoteError> {
        let collection = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods");
        let found = list(self.client(), &collection, &format!("app={CONTROL}")).await?.unwrap_or_default();
        Ok(found.into_iter().map(PodView).filter(|pod| !pod.is_leaving()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: Value) -> PodView {
        PodView(value)
    }

    #[test]
    fn a_pod_answers_to_its_deployments_name_and_its_own_comes_first() {
        let owner = json!({"kind": "ReplicaSet", "name": "reviews-v1-5d8f", "controller": true});
        let one = pod(json!({"metadata": {"name": "reviews-v1-5d8f-x7", "ownerReferences": [owner],
            "labels": {"app": "reviews"}}, "spec": {"serviceAccountName": "bookinfo"}}));
        let ranks = ["reviews-v1-5d8f-x7", "reviews-v1", "reviews", "bookinfo"].map(|name| one.rank(name));
        assert_eq!(ranks, [Some(0), Some(1), Some(2), Some(4)]);
        assert_eq!(one.rank("ratings"), None);
    }

    #[test]
    fn parts_are_told_by_container_label_and_template() {
        let spec = json!({"initContainers": [{"name": "istio-proxy"}], "containers": [{"name": "web"}]});
        let part = |namespace: &str, labels: Value, spec: &Value| {
            pod(json!({"metadata": {"namespace": namespace, "labels": labels}, "spec": spec})).part()
        };
        assert_eq!(part("default", json!({}), &spec), Part::Meshed);
        assert_eq!(part("istio-system", json!({"istio": "egressgateway"}), &spec), Part::Gateway);
        assert_eq!(part("default", json!({}), &json!({"containers": [{"name": "web"}]})), Part::Outside);
        assert_eq!(part("mesh-system", json!({"app": "mesh-control"}), &json!({})), Part::Control);
        assert_eq!(
            pod(json!({"spec": spec})).default_containers(),
            ["web"],
            "the native sidecar is no container of the user's"
        );
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_the_containers_reason_first() {
        let status = json!({"phase": "Pending", "containerStatuses": [
            {"name": "web", "restartCount": 3, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        let one = pod(json!({"status": status}));
        assert_eq!((one.trouble().as_str(), one.restarts()), ("web: ImagePullBackOff", 3));
    }
}
