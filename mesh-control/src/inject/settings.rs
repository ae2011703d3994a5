//! What injection is told by the installation.

/// How a proxy runs beside an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As an init container with `restartPolicy: Always`: it starts first, ends last, and lets a Job end. Kubernetes has them
    /// switched on from 1.29.
    Native,
    /// As one container among others.
    Plain,
}

impl Mode {
    /// What a cluster of this version can do; `minor` may have a suffix, as in `28+`.
    pub fn of_cluster(major: &str, minor: &str) -> Self {
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        let version = (major.parse().unwrap_or(0u32), digits.parse().unwrap_or(0u32));
        if version >= (1, 29) { Self::Native } else { Self::Plain }
    }
}

/// What the proxy's container asks for, as Kubernetes writes quantities; an empty text asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu: String,
    /// `requests.memory`.
    pub memory: String,
    /// `limits.cpu`.
    pub cpu_limit: String,
    /// `limits.memory`.
    pub memory_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: "10m".to_owned(),
            memory: "24Mi".to_owned(),
            cpu_limit: String::new(),
            memory_limit: "256Mi".to_owned(),
        }
    }
}

/// Settings of injection, the same for every pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image with mesh-proxy, mesh-ingress and mesh-egress.
    pub image: String,
    /// `imagePullPolicy`; Kubernetes' default when empty.
    pub pull_policy: String,
    /// How the proxy runs.
    pub mode: Mode,
    /// The control plane's address, as proxies dial it.
    pub control: String,
    /// The domain of the cluster's services.
    pub cluster_domain: String,
    /// The namespace of the control plane, in which nothing is injected.
    pub system_namespace: String,
    /// Whether an Istio is installed too: only `istio.io/rev: mesh` then asks for us.
    pub beside_istio: bool,
    /// Whether applications wait for the proxy where the pod does not say; native sidecars always are waited for.
    pub hold_application: bool,
    /// What the proxy asks for where the pod does not say.
    pub resources: Resources,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: format!("ghcr.io/minimesh/mesh-proxy:{}", env!("CARGO_PKG_VERSION")),
            pull_policy: String::new(),
            mode: Mode::Native,
            control: "https://mesh-control.mesh-system.svc:15012".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            system_namespace: "mesh-system".to_owned(),
            beside_istio: false,
            hold_application: false,
            resources: Resources::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn native_sidecars_from_1_29() {
        for (major, minor, mode) in [
            ("1", "28+", Mode::Plain),
            ("1", "29", Mode::Native),
            ("1", "33+", Mode::Native),
            ("2", "0", Mode::Native),
            ("", "x", Mode::Plain),
        ] {
            assert_eq!(Mode::of_cluster(major, minor), mode, "{major}.{minor}");
        }
    }
}
