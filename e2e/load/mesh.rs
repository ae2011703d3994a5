//! Our own subject: a control plane that reads files, and the ingress gateway, as they run in production.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::certificate::Certificate;
use crate::generator::HOST;
use crate::process::{Launch, Running, binary, free_address};

const READY: Duration = Duration::from_secs(20);

/// Both, running; the gateway is what is measured.
pub(crate) struct Started {
    /// Where it takes cleartext, of either version.
    pub(crate) clear: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) gateway: Running,
    pub(crate) control: Running,
}

/// Starts both.
pub(crate) async fn start(
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
    launch: Launch<'_>,
) -> anyhow::Result<Started> {
    let folder = folder.join("mesh");
    let objects = folder.join("objects");
    std::fs::create_dir_all(&objects)?;
    let (gateway, tls, control, admin) = (free_address()?, free_address()?, free_address()?, free_address()?);
    std::fs::write(objects.join("objects.yaml"), manifests(gateway, tls, backend))?;
    std::fs::write(objects.join("secret.yaml"), secret(certificate))?;
    std::fs::write(folder.join("token"), credentials(&folder.join("keys.json"))?)?;

    let root = folder.join("root.pem");
    let mut command = Command::new(binary("mesh-control")?);
    command
        .args(["--listen", &control.to_string(), "--admin", &admin.to_string(), "--source"])
        .args([&objects, Path::new("--token-keys"), &folder.join("keys.json"), Path::new("--state")])
        .args([&folder.join("control"), Path::new("--root-out"), &root]);
    let log = folder.join("mesh-control.log");
    let mut control_plane = Running::start(&mut command, &log)?;
    control_plane.listening(control, &log).await?;
    within(READY, || root.exists()).await.context("the control plane wrote no root certificate")?;

    let mut command = launch.command(&binary("mesh-ingress")?);
    command
        .args(["--control", &format!("https://{control}"), "--control-root"])
        .args([&root, Path::new("--token-file"), &folder.join("token")])
        .args(["--pod", POD, "--namespace", NAMESPACE, "--pod-uid", "bench", "--address", "127.0.0.1"])
        .args(["--service-account", NAMESPACE]);
    let log = folder.join("mesh-ingress.log");
    let mut process = Running::start(&mut command, &log)?;
    process.listening(gateway, &log).await?;
    process.listening(tls, &log).await?;
    Ok(Started { clear: gateway, tls, gateway: process, control: control_plane })
}

const NAMESPACE: &str = "istio-system";
const POD: &str = "bench-gateway";

/// The certificate, as users give one to a gateway.
fn secret(certificate: &Certificate) -> String {
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: bench, namespace: {NAMESPACE}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(&certificate.chain_pem),
        indented(&certificate.key_pem)
    )
}

fn manifests(gateway: SocketAddr, tls: SocketAddr, backend: SocketAddr) -> String {
    let (port, tls, backend) = (gateway.port(), tls.port(), backend.port());
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {POD}, namespace: {NAMESPACE}, uid: bench, labels: {{istio: ingressgateway}}}}
spec: {{serviceAccountName: {NAMESPACE}}}
status: {{podIP: 127.0.0.1, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: backend}}
spec:
  hosts: [backend.example]
  ports: [{{number: {backend}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bench}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [{HOST}]}}
  - port: {{number: {tls}, name: https, protocol: HTTPS}}
    hosts: [{HOST}]
    tls: {{mode: SIMPLE, credentialName: bench}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench}}
spec:
  hosts: [{HOST}]
  gateways: [bench]
  http: [{{route: [{{destination: {{host: backend.example, port: {{number: {backend}}}}}}}]}}]
---
# As the peers: metrics, and no access log.
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: bench, namespace: {NAMESPACE}}}
spec: {{accessLogging: [{{disabled: true}}]}}
"
    )
}

/// A token as a kubelet would give one; its key goes into a file for the control plane.
fn credentials(keys: &Path) -> anyhow::Result<String> {
    let pair = rcgen::KeyPair::generate()?;
    let key = EncodingKey::from_ec_der(pair.serialized_der());
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
    public.common.key_id = Some("bench".to_owned());
    std::fs::write(keys, serde_json::json!({ "keys": [public] }).to_string())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let claims = serde_json::json!({
        "iss": "mesh-bench", "aud": ["mesh-ca"], "iat": now, "exp": now + 24 * 3600,
        "sub": format!("system:serviceaccount:{NAMESPACE}:{NAMESPACE}"),
        "kubernetes.io": {
            "namespace": NAMESPACE, "pod": {"name": POD, "uid": "bench"}, "serviceaccount": {"name": NAMESPACE},
        },
    });
    let header = Header { kid: Some("bench".to_owned()), ..Header::new(Algorithm::ES256) };
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

async fn within(limit: Duration, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() > end {
            bail!("not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
