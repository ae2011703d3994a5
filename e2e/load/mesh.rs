//! Our own subject: a control plane that reads files, and the ingress gateway, as they run in production.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::certificate::Certificate;
use crate::credentials::{Bearer, Issuer};
use crate::features::Feature;
use crate::generator::HOST;
use crate::process::{Launch, Running, binary, free_address};

const READY: Duration = Duration::from_secs(20);

/// Both, running; the gateway is what is measured.
pub(crate) struct Started {
    /// Where it takes cleartext, of either version.
    pub(crate) clear: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// Where it passes bytes on as they are.
    pub(crate) tcp: SocketAddr,
    pub(crate) gateway: Running,
    /// The control plane, and where spans go.
    pub(crate) beside: Vec<Running>,
}

/// Starts both, with one more feature if one is given.
pub(crate) async fn start(
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
    launch: Launch<'_>,
    feature: &Feature,
) -> anyhow::Result<Started> {
    let folder = folder.join(format!("mesh{}", feature.name));
    let objects = folder.join("objects");
    std::fs::create_dir_all(&objects)?;
    let (gateway, tls, tcp) = (free_address()?, free_address()?, free_address()?);
    let (mut beside, mut spans) = (Vec::new(), backend);
    if feature.collector {
        let (address, process) = collector(&folder).await?;
        spans = address;
        beside.push(process);
    }
    let manifests = manifests([gateway, tls, tcp], backend, feature)
        .replace("{collector_port}", &spans.port().to_string())
        .replace("{backend_port}", &backend.port().to_string());
    std::fs::write(objects.join("objects.yaml"), manifests)?;
    std::fs::write(objects.join("secret.yaml"), secret(certificate))?;
    let keys = folder.join("keys.json");
    let issuer = Issuer::create(&keys)?;
    let ControlPlane { process: control_plane, address: control, root } =
        control_plane(&folder, &objects, &keys).await?;
    let bearer = Bearer { namespace: NAMESPACE, account: NAMESPACE, pod: POD, uid: "bench" };
    std::fs::write(folder.join("token"), issuer.token(&bearer)?)?;

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
    beside.push(control_plane);
    process.listening(tcp, &log).await?;
    Ok(Started { clear: gateway, tls, tcp, gateway: process, beside })
}

/// A control plane.
pub(crate) struct ControlPlane {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    /// The file with the root certificate.
    pub(crate) root: PathBuf,
}

/// Starts one that reads the objects of a folder, takes tokens by the keys of a file, and keeps its own files in another
/// folder; it may not have read them all yet.
pub(crate) async fn control_plane(
    folder: &Path,
    objects: &Path,
    keys: &Path,
) -> anyhow::Result<ControlPlane> {
    let mut command = Command::new(binary("mesh-control")?);
    command.arg("--source").args([objects, Path::new("--token-keys"), keys]);
    command.arg("--state").arg(folder.join("control"));
    serving(command, folder).await
}

/// Starts one that follows a cluster.
pub(crate) async fn control_plane_on(folder: &Path, kubeconfig: &Path) -> anyhow::Result<ControlPlane> {
    let mut command = Command::new(binary("mesh-control")?);
    command.arg("--kubernetes").env("KUBECONFIG", kubeconfig);
    serving(command, folder).await
}

async fn serving(mut command: Command, folder: &Path) -> anyhow::Result<ControlPlane> {
    let (address, admin) = (free_address()?, free_address()?);
    let root = folder.join("root.pem");
    command.args(["--listen", &address.to_string(), "--admin", &admin.to_string(), "--root-out"]).arg(&root);
    let log = folder.join("mesh-control.log");
    let mut process = Running::start(&mut command, &log)?;
    process.listening(address, &log).await?;
    within(READY, || root.exists()).await.context("the control plane wrote no root certificate")?;
    Ok(ControlPlane { process, address, root })
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

fn manifests(listen: [SocketAddr; 3], backend: SocketAddr, feature: &Feature) -> String {
    let ([port, tls, tcp], backend) = (listen.map(|address| address.port()), backend.port());
    let silence = !feature.logs;
    let only = "[{route: [{destination: {host: backend.example, port: {number: {backend_port}}}}]}]";
    let routes = if feature.routes.is_empty() { only } else { &feature.routes };
    let (more, telemetry) = (&feature.manifests, &feature.telemetry);
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
kind: ServiceEntry
metadata: {{name: backend-tcp}}
spec:
  hosts: [backend-tcp.example]
  ports: [{{number: {backend}, name: tcp, protocol: TCP}}]
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
  - {{port: {{number: {tcp}, name: tcp, protocol: TCP}}, hosts: [{HOST}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench}}
spec:
  hosts: [{HOST}]
  gateways: [bench]
  tcp:
  - match: [{{port: {tcp}}}]
    route: [{{destination: {{host: backend-tcp.example, port: {{number: {backend}}}}}}}]
  http: {routes}
---
# As the peers: metrics, and no access log.
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: bench, namespace: {NAMESPACE}}}
spec: {{accessLogging: [{{disabled: {silence}}}]{telemetry}}}
{more}"
    )
}

/// Where spans go.
pub(crate) async fn collector(folder: &Path) -> anyhow::Result<(SocketAddr, Running)> {
    let (grpc, http) = (free_address()?, free_address()?);
    let mut command = Command::new(binary("mesh-echo")?);
    command.args(["otlp", "--listen", &grpc.port().to_string(), "--http", &http.port().to_string()]);
    let log = folder.join("collector.log");
    let mut process = Running::start(&mut command, &log)?;
    process.listening(grpc, &log).await?;
    Ok((grpc, process))
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
