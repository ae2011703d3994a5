//! One file a service, with its pods.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Credentials;
use crate::control::objects::{Shape, namespace, steady_pod};
use crate::credentials::{Bearer, Issuer};
use crate::mesh::{ControlPlane, control_plane};

pub(in crate::control) struct Files {
    pub(super) shape: Shape,
    folder: PathBuf,
    keys: PathBuf,
    issuer: Issuer,
}

impl Files {
    pub(super) fn create(shape: Shape, folder: &Path) -> anyhow::Result<Self> {
        let keys = folder.join("keys.json");
        let issuer = Issuer::create(&keys)?;
        let files = Self { shape, folder: folder.join("objects"), keys, issuer };
        std::fs::create_dir_all(&files.folder)?;
        (0..shape.services).try_for_each(|service| files.write(service, 0).map(drop))?;
        Ok(files)
    }

    pub(super) async fn control_plane(&self, folder: &Path) -> anyhow::Result<ControlPlane> {
        control_plane(folder, &self.folder, &self.keys).await
    }

    /// Writes a service anew, its first pod as the instance of that number; counts from when the file is in place.
    pub(super) fn write(&self, service: usize, instance: usize) -> anyhow::Result<Instant> {
        let file = self.folder.join(format!("s{service}.yaml"));
        // Renamed, so that nobody reads half of it.
        let aside = file.with_extension("new");
        std::fs::write(&aside, self.shape.manifests(service, instance))?;
        std::fs::rename(aside, file)?;
        Ok(Instant::now())
    }

    pub(super) fn credentials(&self, service: usize) -> anyhow::Result<Credentials> {
        let (namespace, pod) = (namespace(service), steady_pod(service));
        let (uid, account) = (format!("u-{pod}"), format!("s{service}"));
        let bearer = Bearer { namespace: &namespace, account: &account, pod: &pod, uid: &uid };
        let token = self.issuer.token(&bearer)?;
        Ok(Credentials { uid, token })
    }
}
