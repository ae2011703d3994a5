//! The objects of a large cluster, as files that a control plane follows: one file a service, with its pods.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Namespaces that the services are spread over.
const NAMESPACES: usize = 10;

/// Services `s0`, `s1` and so on, each with the same number of pods.
pub(super) struct Cluster {
    folder: PathBuf,
    services: usize,
    pods: usize,
}

impl Cluster {
    /// Writes them all.
    pub(super) fn create(folder: &Path, services: usize, endpoints: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let cluster = Self { folder: folder.to_owned(), services, pods: (endpoints / services).max(1) };
        (0..services).try_for_each(|service| cluster.write(service, 0))?;
        Ok(cluster)
    }

    /// Writes a service anew, its first pod as the instance of that number: every number is another endpoint.
    pub(super) fn write(&self, service: usize, instance: usize) -> anyhow::Result<()> {
        let file = self.folder.join(format!("s{service}.yaml"));
        // Renamed, so that nobody reads half of it.
        let aside = file.with_extension("new");
        std::fs::write(&aside, self.manifests(service, instance))?;
        Ok(std::fs::rename(aside, file)?)
    }

    pub(super) const fn services(&self) -> usize {
        self.services
    }

    pub(super) fn namespace(service: usize) -> String {
        format!("n{}", service % NAMESPACES)
    }

    /// A service's name in the mesh.
    pub(super) fn host(service: usize) -> String {
        format!("s{service}.{}.svc.cluster.local", Self::namespace(service))
    }

    /// A pod of the service that no change touches.
    pub(super) fn steady_pod(service: usize) -> String {
        format!("s{service}-steady")
    }

    fn manifests(&self, service: usize, instance: usize) -> String {
        let namespace = Self::namespace(service);
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: {namespace}}}\n\
             spec: {{selector: {{app: s{service}}}, ports: [{{name: http, port: 80}}]}}\n"
        );
        for pod in 0..self.pods {
            let name = match pod {
                0 => format!("s{service}-{instance}"),
                1 => Self::steady_pod(service),
                _ => format!("s{service}-x{pod}"),
            };
            // Unique up to 4 million pods, and as many instances again; the mesh never dials them.
            let number = service * self.pods + pod + if pod == 0 { (instance % 2) << 22 } else { 0 };
            let address = [10 + (number >> 24), number >> 16 & 255, number >> 8 & 255, number & 255];
            let address = address.map(|part| part.to_string()).join(".");
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, uid: u-{name}, \
                 labels: {{app: s{service}}}}}\nspec: {{serviceAccountName: s{service}}}\n\
                 status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
            );
        }
        text
    }
}
