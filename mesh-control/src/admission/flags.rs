//! Settings of the webhooks and of injection.

use std::net::SocketAddr;

use crate::inject::{Mode, Resources, Settings};

/// Settings of the webhooks.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "admission")]
pub struct Flags {
    /// Where the API server's admission reviews are answered, over HTTPS; nowhere when absent
    #[arg(long, env = "MESH_WEBHOOK", value_name = "ADDRESS:PORT")]
    webhook: Option<SocketAddr>,
    /// DNS names of the webhooks' certificate
    #[arg(
        long,
        env = "MESH_WEBHOOK_NAMES",
        value_delimiter = ',',
        default_value = "mesh-control.mesh-system.svc"
    )]
    webhook_names: Vec<String>,
    #[command(flatten)]
    injection: Injection,
}

impl Flags {
    /// Where to listen.
    pub const fn listen(&self) -> Option<SocketAddr> {
        self.webhook
    }

    /// The names of the server's certificate.
    pub fn names(&self) -> Vec<String> {
        self.webhook_names.clone()
    }

    /// How pods are injected.
    pub fn injection(&self) -> Settings {
        self.injection.settings()
    }
}

/// What injected proxies are like, where the pod does not say.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "injection")]
pub struct Injection {
    /// The image with mesh-proxy, mesh-ingress and mesh-egress
    #[arg(long, env = "MESH_PROXY_IMAGE", default_value_t = Settings::default().image)]
    proxy_image: String,
    /// imagePullPolicy of that image; Kubernetes' default when absent
    #[arg(long, env = "MESH_PROXY_PULL_POLICY", default_value = "", value_name = "POLICY")]
    proxy_pull_policy: String,
    /// Whether the cluster has native sidecars: by default from Kubernetes 1.29
    #[arg(long, env = "MESH_NATIVE_SIDECARS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    native_sidecars: bool,
    /// The control plane, as proxies dial it
    #[arg(long, env = "MESH_PROXY_CONTROL", default_value_t = Settings::default().control, value_name = "URL")]
    proxy_control: String,
    /// The domain of the cluster's services
    #[arg(long, env = "MESH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// The control plane's namespace, in which nothing is injected
    #[arg(long, env = "MESH_SYSTEM_NAMESPACE", default_value = "mesh-system", value_name = "NAMESPACE")]
    system_namespace: String,
    /// An Istio is installed too: only `istio.io/rev: mesh` asks for a proxy of ours
    #[arg(long, env = "MESH_BESIDE_ISTIO", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL")]
    beside_istio: bool,
    /// Have applications wait for a plain sidecar
    #[arg(long, env = "MESH_HOLD_APPLICATION", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL")]
    hold_application: bool,
    /// CPU that the proxy requests; empty for none
    #[arg(long, env = "MESH_PROXY_CPU", default_value_t = Resources::default().cpu, value_name = "QUANTITY")]
    proxy_cpu: String,
    /// Memory that the proxy requests; empty for none
    #[arg(long, env = "MESH_PROXY_MEMORY", default_value_t = Resources::default().memory, value_name = "QUANTITY")]
    proxy_memory: String,
    /// The proxy's limit of CPU; empty for none
    #[arg(long, env = "MESH_PROXY_CPU_LIMIT", default_value_t = Resources::default().cpu_limit, value_name = "QUANTITY")]
    proxy_cpu_limit: String,
    /// The proxy's limit of memory; empty for none
    #[arg(long, env = "MESH_PROXY_MEMORY_LIMIT", default_value_t = Resources::default().memory_limit, value_name = "QUANTITY")]
    proxy_memory_limit: String,
}

impl Injection {
    /// As injection takes them.
    pub fn settings(&self) -> Settings {
        Settings {
            image: self.proxy_image.clone(),
            pull_policy: self.proxy_pull_policy.clone(),
            mode: if self.native_sidecars { Mode::Native } else { Mode::Plain },
            control: self.proxy_control.clone(),
            cluster_domain: self.cluster_domain.clone(),
            system_namespace: self.system_namespace.clone(),
            beside_istio: self.beside_istio,
            hold_application: self.hold_application,
            resources: Resources {
                cpu: self.proxy_cpu.clone(),
                memory: self.proxy_memory.clone(),
                cpu_limit: self.proxy_cpu_limit.clone(),
                memory_limit: self.proxy_memory_limit.clone(),
            },
        }
    }
}
