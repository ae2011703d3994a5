//! Objects in an API server of its own, written as kubelets and controllers write them: there is neither.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hyper::Method;
use serde_json::{Value, json};

use super::Credentials;
use super::api_server::{Api, ApiServer};
use super::watcher::Watcher;
use crate::control::objects::{BAD_NAMESPACE, Shape, bad_spec, namespace, namespaces, pod_name, steady_pod};
use crate::mesh::{ControlPlane, control_plane_on};

/// Writes under way at once.
const LANES: usize = 32;
/// Where the control plane keeps its own things.
const OWN: &str = "mesh-system";
/// The kind of the objects that make no sense, as an installation defines it.
const DEFINITION: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/charts/mesh/crds/virtualservices.networking.istio.io.yaml"
));
/// Until the API server serves a kind that was just defined.
const DEFINED: Duration = Duration::from_secs(30);

const BAD_OBJECTS: &str = "/apis/networking.istio.io/v1/namespaces/bad/virtualservices";

pub(in crate::control) struct Kubernetes {
    pub(super) shape: Shape,
    server: ApiServer,
    api: Api,
}

impl Kubernetes {
    pub(super) async fn create(shape: Shape, proxies: usize, folder: &Path) -> anyhow::Result<Self> {
        let server = ApiServer::start(folder).await?;
        let this = Self { shape, api: server.api().await?, server };
        for name in namespaces().chain([OWN.to_owned(), BAD_NAMESPACE.to_owned()]) {
            this.create_one("/api/v1/namespaces", json!({"metadata": {"name": name}})).await?;
        }
        this.define_bad_objects().await?;
        this.for_each(shape.services, |service| this.create_service(service, service < proxies)).await?;
        // The last is the one by which the bench knows that everything was read.
        this.create_account(shape.services - 1).await?;
        Ok(this)
    }

    async fn for_each<F>(&self, services: usize, one: impl Fn(usize) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let mut done = 0;
        let mut all = stream::iter(0..services).map(one).buffer_unordered(LANES);
        while all.try_next().await?.is_some() {
            done += 1;
            if done % 1000 == 0 {
                eprintln!("  {done} services");
            }
        }
        Ok(())
    }

    async fn create_service(&self, service: usize, has_account: bool) -> anyhow::Result<()> {
        let core = core(service);
        if has_account {
            self.create_account(service).await?;
        }
        self.create_one(&format!("{core}/services"), Shape::service(service)).await?;
        for pod in 0..self.shape.pods {
            self.create_one(&format!("{core}/pods"), Shape::pod(service, pod)).await?;
            let status = format!("{core}/pods/{}/status", pod_name(service, pod, 0));
            self.api.send(Method::PATCH, &status, &self.shape.pod_status(service, pod)).await?;
        }
        self.create_one(&slices(service), self.shape.slice(service, 0)).await
    }

    /// Twice does no harm.
    async fn create_account(&self, service: usize) -> anyhow::Result<()> {
        let path = format!("{}/serviceaccounts", core(service));
        let account = json!({"metadata": {"name": format!("s{service}")}});
        if self.api.send(Method::GET, &format!("{path}/s{service}"), &Value::Null).await.is_ok() {
            return Ok(());
        }
        self.create_one(&path, account).await
    }

    /// Defines their kind, and waits until it is served.
    async fn define_bad_objects(&self) -> anyhow::Result<()> {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.api.create_from_yaml(definitions, DEFINITION).await?;
        let begun = Instant::now();
        while let Err(error) = self.api.send(Method::GET, BAD_OBJECTS, &Value::Null).await {
            ensure!(begun.elapsed() < DEFINED, "the kind that was defined is not served: {error:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// One more object that the API server takes and that makes no sense.
    pub(super) async fn write_bad(&self, number: usize) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": format!("bad-{number}")}, "spec": bad_spec(number),
        });
        self.create_one(BAD_OBJECTS, object).await
    }

    async fn create_one(&self, collection: &str, object: Value) -> anyhow::Result<()> {
        self.api.send(Method::POST, collection, &object).await.map(drop)
    }

    pub(super) async fn control_plane(&self, folder: &Path) -> anyhow::Result<ControlPlane> {
        control_plane_on(folder, &self.server.kubeconfig).await
    }

    /// Gives the service's slice another endpoint; counts from when the API server is asked to.
    pub(super) async fn write(&self, service: usize, instance: usize) -> anyhow::Result<Instant> {
        let endpoints = json!({"endpoints": self.shape.slice(service, instance)["endpoints"]});
        let asked = Instant::now();
        let path = format!("{}/s{service}", slices(service));
        self.api.send(Method::PATCH, &path, &endpoints).await?;
        Ok(asked)
    }

    pub(super) fn watcher(&self, service: usize) -> anyhow::Result<Watcher> {
        Watcher::start(&self.server, service)
    }

    /// As the kubelet gets a token for a pod.
    pub(super) async fn credentials(&self, service: usize) -> anyhow::Result<Credentials> {
        let (core, pod) = (core(service), steady_pod(service));
        let object = self.api.send(Method::GET, &format!("{core}/pods/{pod}"), &Value::Null).await?;
        let request = json!({"spec": {
            "audiences": ["mesh-ca"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod},
        }});
        let path = format!("{core}/serviceaccounts/s{service}/token");
        let granted = self.api.send(Method::POST, &path, &request).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let uid = text(&object["metadata"]["uid"]).context("the pod has no uid")?;
        let token = text(&granted["status"]["token"]).context("the API server gave no token")?;
        Ok(Credentials { uid, token })
    }
}

fn core(service: usize) -> String {
    format!("/api/v1/namespaces/{}", namespace(service))
}

fn slices(service: usize) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", namespace(service))
}
