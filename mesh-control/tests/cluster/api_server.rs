//! A throwaway API server with its etcd, from the binaries in `KUBEBUILDER_ASSETS`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::{Client, Config};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Of a start, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "throwaway-admin";
const CONTROL_TOKEN: &str = "throwaway-control";
/// The control plane's user, as the chart's bindings name it.
pub(crate) const CONTROL: &str = "system:serviceaccount:mesh-system:mesh-control";
/// Who asked for what.
const AUDIT: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

pub(crate) struct ApiServer {
    folder: TempDir,
    assets: PathBuf,
    etcd: Child,
    server: Child,
    ports: [u16; 3],
}

impl ApiServer {
    /// None, and a word on it, where there are no binaries; a panic if `MESH_REQUIRE` names `kubernetes`.
    pub(crate) async fn start() -> Option<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let Some(assets) = assets.filter(|folder| folder.join("kube-apiserver").exists()) else {
            let required = std::env::var("MESH_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name == "kubernetes"),
                "KUBEBUILDER_ASSETS has no kube-apiserver"
            );
            eprintln!("SKIPPED: KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("sa.key"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("sa.pub"), key.public_key_pem()).unwrap();
        let users = format!("{TOKEN},admin,admin,system:masters\n{CONTROL_TOKEN},{CONTROL},control\n");
        fs::write(folder.path().join("tokens.csv"), users).unwrap();
        fs::write(folder.path().join("audit.json"), AUDIT).unwrap();
        let ports = [free_port(), free_port(), free_port()];
        let etcd = etcd(&assets, folder.path(), ports);
        let server = api_server(&assets, folder.path(), ports);
        let this = Self { folder, assets, etcd, server, ports };
        this.ready().await;
        Some(this)
    }

    /// Of somebody who may do everything.
    pub(crate) fn client(&self) -> Client {
        self.client_with(TOKEN)
    }

    /// Of the control plane, which may do what it was granted.
    pub(crate) fn control(&self) -> Client {
        self.client_with(CONTROL_TOKEN)
    }

    /// One event a line, JSON.
    pub(crate) fn audit_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }

    fn client_with(&self, token: &str) -> Client {
        let url = format!("https://127.0.0.1:{}", self.ports[2]).parse().unwrap();
        let mut config = Config::new(url);
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        Client::try_from(config).unwrap()
    }

    /// Kills the API server; etcd stays.
    pub(crate) fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.server = api_server(&self.assets, self.folder.path(), self.ports);
        self.ready().await;
    }

    async fn ready(&self) {
        let asked = async {
            let client = self.client();
            while client.request_text(http::Request::get("/readyz").body(Vec::new()).unwrap()).await.is_err()
            {
                sleep(Duration::from_millis(200)).await;
            }
        };
        let log = || fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default();
        timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("the API server does not start:\n{}", log()));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn etcd(assets: &Path, folder: &Path, [client, peer, _]: [u16; 3]) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    run(
        assets,
        folder,
        "etcd",
        &[
            &format!("--data-dir={}", folder.join("etcd").display()),
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=default={peer}"),
        ],
    )
}

fn api_server(assets: &Path, folder: &Path, [etcd, _, port]: [u16; 3]) -> Child {
    let key = folder.join("sa.key");
    run(
        assets,
        folder,
        "kube-apiserver",
        &[
            &format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            &format!("--secure-port={port}"),
            "--bind-address=127.0.0.1",
            &format!("--cert-dir={}", folder.join("certificates").display()),
            "--service-cluster-ip-range=10.0.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-key-file={}", folder.join("sa.pub").display()),
            &format!("--service-account-signing-key-file={}", key.display()),
            &format!("--token-auth-file={}", folder.join("tokens.csv").display()),
            "--authorization-mode=RBAC",
            &format!("--audit-policy-file={}", folder.join("audit.json").display()),
            &format!("--audit-log-path={}", folder.join("audit.log").display()),
            "--disable-admission-plugins=ServiceAccount",
        ],
    )
}

fn run(assets: &Path, folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    let errors = log.try_clone().unwrap();
    Command::new(assets.join(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
