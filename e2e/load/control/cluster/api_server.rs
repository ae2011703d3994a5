//! A throwaway API server with its etcd, from the binaries in `KUBEBUILDER_ASSETS` (the convention of envtest).

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process::{Running, free_address};

/// Of somebody who may do everything.
const TOKEN: &str = "throwaway-admin";
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Of a start, and of one request, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Both processes.
pub(super) struct ApiServer {
    _etcd: Running,
    _server: Running,
    address: SocketAddr,
    certificate: PathBuf,
    /// A file for other clients.
    pub(super) kubeconfig: PathBuf,
}

impl ApiServer {
    /// Starts both; their files lie below the folder.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let assets = std::env::var_os(ASSETS).map(PathBuf::from);
        let assets = assets.filter(|assets| assets.join("kube-apiserver").is_file()).with_context(|| {
            format!(
                "{ASSETS} names no folder with kube-apiserver and etcd; `setup-envtest use -p path` gets them"
            )
        })?;
        let folder = folder.join("api-server");
        std::fs::create_dir_all(&folder)?;
        let (store, peers, address) = (free_address()?, free_address()?, free_address()?);
        let etcd = etcd(&assets, &folder, store, peers)?;
        let files = Files::create(&folder)?;
        let mut server = api_server(&assets, &folder, &files, store, address)?;
        server.listening(address, &folder.join("kube-apiserver.log")).await.context("the API server")?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, config(address, &files.certificate))?;
        let this = Self { _etcd: etcd, _server: server, address, certificate: files.certificate, kubeconfig };
        this.ready().await?;
        Ok(this)
    }

    /// A connection of its own.
    pub(super) async fn api(&self) -> anyhow::Result<Api> {
        Api::connect(self.address, &self.certificate).await
    }

    /// The same, for a thread of its own.
    pub(super) fn connecting(&self) -> impl Future<Output = anyhow::Result<Api>> + Send + use<> {
        let (address, certificate) = (self.address, self.certificate.clone());
        async move { Api::connect(address, &certificate).await }
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.asked().await {
            ensure!(Instant::now() < end, "the API server is not ready: {error:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn asked(&self) -> anyhow::Result<()> {
        let api = self.api().await?;
        api.text(Method::GET, "/readyz", &Value::Null).await.map(drop)
    }
}

/// One connection; clones share it.
#[derive(Clone)]
pub(super) struct Api {
    requests: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Api {
    async fn connect(address: SocketAddr, certificate: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { requests, address })
    }

    /// The answer to a request with this body, as an object.
    pub(super) async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text(method, path, body).await?)?)
    }

    /// Watches a collection and tells whom each event is about, by name.
    pub(super) async fn watch(&self, collection: &str, tell: impl Fn(&str)) -> anyhow::Result<Infallible> {
        let listed = self.send(Method::GET, &format!("{collection}?limit=1"), &Value::Null).await?;
        let version = listed["metadata"]["resourceVersion"].as_str().context("a list has no version")?;
        let path = format!("{collection}?watch=true&resourceVersion={version}");
        let request = Request::builder()
            .uri(format!("https://{}{path}", self.address))
            .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
            .body(Full::default())?;
        let mut events = self.requests.clone().send_request(request).await?.into_body();
        let mut text = Vec::new();
        while let Some(frame) = events.frame().await {
            text.extend(frame?.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let event: Value = serde_json::from_slice(&text[..end])?;
                tell(event["object"]["metadata"]["name"].as_str().unwrap_or_default());
                text.drain(..=end);
            }
        }
        bail!("GET {path}: the watch ended")
    }

    /// Creates an object that is written down as YAML.
    pub(super) async fn create_from_yaml(&self, collection: &str, text: &str) -> anyhow::Result<()> {
        self.request(Method::POST, collection, "application/yaml", text.to_owned()).await.map(drop)
    }

    async fn text(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<String> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.request(method, path, kind, body).await
    }

    async fn request(&self, method: Method, path: &str, kind: &str, body: String) -> anyhow::Result<String> {
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("https://{}{path}", self.address))
            .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(CONTENT_TYPE, kind)
            .body(Full::from(body))?;
        let answer = async {
            let answer = self.requests.clone().send_request(request).await?;
            anyhow::Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.context("no answer in time");
        let (status, text) = answer.flatten().with_context(|| format!("{method} {path}"))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            bail!("{method} {path}: {status}: {text}");
        }
        Ok(text)
    }
}

/// What the API server is given to read.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Of service accounts' tokens: the key, and its public half.
    signing: [PathBuf; 2],
    users: PathBuf,
}

impl Files {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let place = |name: &str| folder.join(name);
        let files = Self {
            certificate: place("server.pem"),
            key: place("server-key.pem"),
            signing: ["signing-key.pem", "signing-public.pem"].map(place),
            users: place("users.csv"),
        };
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        std::fs::write(&files.certificate, made.cert.pem())?;
        std::fs::write(&files.key, made.signing_key.serialize_pem())?;
        let signing = rcgen::KeyPair::generate()?;
        std::fs::write(&files.signing[0], signing.serialize_pem())?;
        std::fs::write(&files.signing[1], signing.public_key_pem())?;
        std::fs::write(&files.users, format!("{TOKEN},admin,admin,system:masters\n"))?;
        Ok(files)
    }
}

fn etcd(assets: &Path, folder: &Path, store: SocketAddr, peers: SocketAddr) -> anyhow::Result<Running> {
    let arguments = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://{store}"),
        format!("--advertise-client-urls=http://{store}"),
        format!("--listen-peer-urls=http://{peers}"),
        format!("--initial-advertise-peer-urls=http://{peers}"),
        format!("--initial-cluster=default=http://{peers}"),
        // Nobody's data: what is measured is not the disk.
        "--unsafe-no-fsync".to_owned(),
    ];
    run(assets, folder, "etcd", &arguments)
}

fn api_server(
    assets: &Path,
    folder: &Path,
    files: &Files,
    store: SocketAddr,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    let arguments = [
        format!("--etcd-servers=http://{store}"),
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--tls-cert-file={}", files.certificate.display()),
        format!("--tls-private-key-file={}", files.key.display()),
        "--service-cluster-ip-range=172.16.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", files.signing[0].display()),
        format!("--service-account-key-file={}", files.signing[1].display()),
        format!("--token-auth-file={}", files.users.display()),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes the account `default` here.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    run(assets, folder, "kube-apiserver", &arguments)
}

fn run(assets: &Path, folder: &Path, name: &str, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<Running> {
    let program = assets.join(name);
    ensure!(program.is_file(), "{} is missing", program.display());
    Running::start(Command::new(program).args(arguments), &folder.join(format!("{name}.log")))
}

fn config(address: SocketAddr, certificate: &Path) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: bench
  cluster: {{server: 'https://{address}', certificate-authority: '{}'}}
users:
- name: bench
  user: {{token: {TOKEN}}}
contexts:
- name: bench
  context: {{cluster: bench, user: bench}}
current-context: bench
",
        certificate.display()
    )
}
