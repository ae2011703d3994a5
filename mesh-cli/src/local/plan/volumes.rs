//! Volumes: folders in the pod's memory that are bound to where containers ask for them.
//!
//! emptyDir, configMap, secret and hostPath; their content is fixed when the pod starts.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::environment::data;
use super::{FilePlan, MountPlan, VOLUME_FOLDER, VolumePlan};
use crate::local::manifest::{Volume, VolumeItem, VolumeMount};
use crate::local::store::Store;

/// The mode of files whose volume says none (Kubernetes, core/v1).
const DEFAULT_MODE: u32 = 0o644;

/// The folders to make for a pod.
pub(super) fn plan(store: &Store, namespace: &str, volumes: &[Volume]) -> anyhow::Result<Vec<VolumePlan>> {
    let mut planned = Vec::new();
    for volume in volumes.iter().filter(|volume| volume.host_path.is_none()) {
        let files = files(store, namespace, volume).with_context(|| format!("volume `{}`", volume.name))?;
        planned.push(VolumePlan { name: volume.name.clone(), files });
    }
    Ok(planned)
}

fn files(store: &Store, namespace: &str, volume: &Volume) -> anyhow::Result<Vec<FilePlan>> {
    let (kind, name, items, mode, optional) = if let Some(map) = &volume.config_map {
        ("ConfigMap", &map.name, &map.items, map.default_mode, map.optional)
    } else if let Some(secret) = &volume.secret {
        ("Secret", &secret.secret_name, &secret.items, secret.default_mode, secret.optional)
    } else if volume.empty_dir.is_some() {
        return Ok(Vec::new());
    } else {
        bail!("only emptyDir, configMap, secret and hostPath volumes are there on one machine");
    };
    let mode = mode.unwrap_or(DEFAULT_MODE);
    let content = match data(store, kind, namespace, name)? {
        Some(content) => content,
        None if optional => return Ok(Vec::new()),
        None => bail!("there is no {kind} {namespace}/{name}"),
    };
    let file = |path: &Path, bytes: &[u8], mode| -> anyhow::Result<FilePlan> {
        Ok(FilePlan { path: relative(path)?, content: BASE64_STANDARD.encode(bytes), mode })
    };
    if items.is_empty() {
        return content.iter().map(|(key, bytes)| file(Path::new(key), bytes, mode)).collect();
    }
    let chosen = |item: &VolumeItem| {
        let bytes = content
            .get(&item.key)
            .with_context(|| format!("{kind} {namespace}/{name} has no key `{}`", item.key))?;
        file(&item.path, bytes, item.mode.unwrap_or(mode))
    };
    items.iter().map(chosen).collect()
}

/// What a container mounts where.
pub(super) fn mounts(volumes: &[Volume], wanted: &[VolumeMount]) -> anyhow::Result<Vec<MountPlan>> {
    wanted.iter().map(|mount| plan_mount(volumes, mount)).collect()
}

fn plan_mount(volumes: &[Volume], mount: &VolumeMount) -> anyhow::Result<MountPlan> {
    let volume = volumes.iter().find(|volume| volume.name == mount.name).with_context(|| {
        format!("volumeMounts names the volume `{}`, which the pod does not have", mount.name)
    })?;
    if !mount.mount_path.is_absolute() {
        bail!("mountPath `{}` is not absolute", mount.mount_path.display());
    }
    let folder = match &volume.host_path {
        Some(host) => host.path.clone(),
        None => Path::new(VOLUME_FOLDER).join(&volume.name),
    };
    let source =
        if mount.sub_path.as_os_str().is_empty() { folder } else { folder.join(relative(&mount.sub_path)?) };
    Ok(MountPlan { source, target: mount.mount_path.clone(), read_only: mount.read_only })
}

/// A path that stays below the folder it is joined to.
fn relative(path: &Path) -> anyhow::Result<PathBuf> {
    if path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir)) {
        Ok(path.to_owned())
    } else {
        bail!("`{}` must be a relative path without `..`", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_volume() {
        assert!(relative(Path::new("a/b")).is_ok());
        assert!(relative(Path::new("../b")).is_err());
        assert!(relative(Path::new("/b")).is_err());
    }
}
