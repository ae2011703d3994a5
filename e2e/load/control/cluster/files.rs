//! One file a service, with its pods.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Credentials;
use crate::control::objects::{BAD_NAMESPACE, Shape, bad_spec, namespace, steady_pod};
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
        self.put(&format!("s{service}"), &self.shape.manifests(service, instance))?;
        Ok(Instant::now())
    }

    /// One more file, with an object that makes no sense.
    pub(super) fn write_bad(&self, number: usize) -> anyhow::Result<()> {
        let object = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: bad-{number}, namespace: {BAD_NAMESPACE}}}\nspec: {}\n",
            bad_spec(number)
        );
        self.put(&format!("bad-{number}"), &object)
    }

    /// Renamed into place, so that nobody reads half of it.
    fn put(&self, name: &str, manifests: &str) -> anyhow::Result<()> {
        let file = self.folder.join(format!("{name}.yaml"));
        let aside = file.with_extension("new");
        std::fs::write(&aside, manifests)?;
        Ok(std::fs::rename(aside, file)?)
    }

    pub(super) fn credentials(&self, service: usize) -> anyhow::Result<Credentials> {
        let (namespace, pod) = (namespace(service), steady_pod(service));
        let (uid, account) = (format!("u-{pod}"), format!("s{service}"));
        let bearer = Bearer { namespace: &namespace, account: &account, pod: &pod, uid: &uid };
        let token = self.issuer.token(&bearer)?;
        Ok(Credentials { uid, token })
    }
}
