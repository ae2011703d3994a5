//! Installation and removal: what is ours comes and goes, and what is somebody else's stays as it is.

use std::cell::RefCell;
use std::time::Duration;

use kube::Client;
use mesh_control::cluster::install::{InstallError, apply, wait};
use mesh_control::cluster::uninstall::remove;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::{chart, create, eventually, send};

const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/mesh-injection";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/mesh-system/deployments/mesh-control";

fn objects() -> Vec<Value> {
    let labels = json!({"app": "mesh-control", "app.kubernetes.io/part-of": "mesh"});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "none"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "mesh-control", "namespace": "mesh-system", "labels": labels},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "mesh-control"}}, "template": template}});
    chart::installation().into_iter().chain([deployment]).collect()
}

async fn get(client: &Client, path: &str) -> Option<Value> {
    send(client, "GET", path, &Value::Null).await.ok()
}

/// Without a namespace controller a namespace stays, marked.
async fn is_leaving(client: &Client, namespace: &str) -> bool {
    let found = get(client, &format!("/api/v1/namespaces/{namespace}")).await.unwrap();
    found["metadata"]["deletionTimestamp"].is_string()
}

#[tokio::test]
async fn an_installation_comes_and_goes_and_touches_nothing_else() {
    let Some(server) = ApiServer::start().await else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = &server.client();
    let told = RefCell::new(Vec::new());
    let tell = |step: String| told.borrow_mut().push(step);

    // Somebody else's role of our name: nothing at all is written.
    create(client, ROLE, json!({"metadata": {"name": "mesh-control"}, "rules": []})).await;
    let refused = apply(client, objects(), &tell).await;
    assert!(
        matches!(&refused, Err(InstallError::Foreign(names)) if names == &["ClusterRole mesh-control"]),
        "{refused:?}"
    );
    assert!(get(client, "/api/v1/namespaces/mesh-system").await.is_none());
    send(client, "DELETE", &format!("{ROLE}/mesh-control"), &Value::Null).await.unwrap();

    // Another mesh's definition and namespace stay as they are; the rest comes, twice with the same result.
    let mut theirs =
        chart::definitions().into_iter().find(|one| one["spec"]["names"]["kind"] == "Gateway").unwrap();
    theirs["metadata"]["labels"] = json!({"owner": "another"});
    create(client, DEFINITIONS, theirs).await;
    for _ in 0..2 {
        apply(client, objects(), &tell).await.unwrap();
    }
    let gateways = get(client, &format!("{DEFINITIONS}/gateways.networking.istio.io")).await.unwrap();
    assert_eq!(gateways["metadata"]["labels"], json!({"owner": "another"}));

    crate::network_policies::are_taken(client).await;

    // Nobody runs Deployments here but us.
    let late = wait(client, &objects(), Duration::from_secs(3), &tell).await.unwrap_err().to_string();
    assert!(late.contains("Mutating") || late.contains("Deployment mesh-system/mesh-control"), "{late}");
    let status = json!({"status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2}});
    send(client, "PATCH", &format!("{DEPLOYMENT}/status"), &status).await.unwrap();
    let late = wait(client, &objects(), Duration::from_secs(3), &tell).await.unwrap_err().to_string();
    assert!(late.contains("has not written its caBundle"), "{late}");
    for object in chart::webhooks() {
        trust(
            client,
            &format!("{}/{}", chart::collection(&object), object["metadata"]["name"].as_str().unwrap()),
        )
        .await;
    }
    wait(client, &objects(), Duration::from_secs(30), &tell).await.unwrap();
    // What the control plane has written outlives another installation.
    apply(client, objects(), &tell).await.unwrap();
    wait(client, &objects(), Duration::from_secs(30), &tell).await.unwrap();

    // Users' objects, in the midst of ours.
    let settings = json!({"metadata": {"name": "istio"}, "data": {"mesh": ""}});
    create(client, "/api/v1/namespaces/istio-system/configmaps", settings).await;
    let root =
        json!({"metadata": {"name": "mesh-root-cert", "labels": {"app.kubernetes.io/part-of": "mesh"}}});
    create(client, "/api/v1/namespaces/default/configmaps", root).await;
    let limits = "/apis/minimesh.io/v1alpha1/namespaces/default/ratelimits";
    eventually(client, limits, |_| true).await;
    let limit = json!({"apiVersion": "minimesh.io/v1alpha1", "kind": "RateLimit", "metadata": {"name": "theirs"}, "spec": {}});
    create(client, limits, limit).await;
    let removed = remove(client, objects(), &tell).await.unwrap();
    let kept = |text: &str| removed.kept.iter().any(|line| line.contains(text));
    assert!(kept("Namespace istio-system: it holds ConfigMap istio"), "{:?}", removed.kept);
    assert!(kept("ratelimits.minimesh.io: there are objects of it"), "{:?}", removed.kept);
    assert!(removed.deleted[0].contains("WebhookConfiguration"), "{:?}", removed.deleted);
    for path in [
        WEBHOOK,
        DEPLOYMENT,
        &format!("{ROLE}/mesh-control"),
        "/api/v1/namespaces/default/configmaps/mesh-root-cert",
    ] {
        assert!(get(client, path).await.is_none(), "{path}");
    }
    assert!(is_leaving(client, "mesh-system").await && !is_leaving(client, "istio-system").await);
    assert!(get(client, &format!("{limits}/theirs")).await.is_some());
    assert!(get(client, "/api/v1/namespaces/istio-system/configmaps/istio").await.is_some());

    // Without them the rest goes too; definitions of other groups never do.
    send(client, "DELETE", &format!("{limits}/theirs"), &Value::Null).await.unwrap();
    send(client, "DELETE", "/api/v1/namespaces/istio-system/configmaps/istio", &Value::Null).await.unwrap();
    let removed = remove(client, objects(), &tell).await.unwrap();
    assert_eq!(removed.deleted.len(), 2, "{:?}", removed.deleted);
    assert!(is_leaving(client, "istio-system").await);
    assert!(get(client, &format!("{DEFINITIONS}/gateways.networking.istio.io")).await.is_some());
}

/// As the control plane does.
async fn trust(client: &Client, path: &str) {
    let mut object = get(client, path).await.unwrap();
    for webhook in object["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = "dGVzdA==".into();
    }
    let webhooks = json!({"webhooks": object["webhooks"]});
    send(client, "PATCH", path, &webhooks).await.unwrap();
}
