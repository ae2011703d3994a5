//! A pod's surroundings: root, names, address, volumes and credentials.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::local::mounts;
use crate::local::network;
use crate::local::plan::sidecar::{PROXY_USER, RESOLVER_FILE, ROOT_FILE, STATE_FOLDER, TOKEN_FILE};
use crate::local::plan::{PodPlan, Role, VOLUME_FOLDER, VolumePlan};
use crate::local::protocol::IdentityMap;

/// Prepares everything but processes.
pub(super) async fn prepare(plan: &PodPlan) -> anyhow::Result<()> {
    mounts::enter_private_root()?;
    mounts::renew_proc();
    // Shared memory of other pods is none of this one's business; where there is no /dev/shm nothing is missing.
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        let _ = mounts::mount_memory(shared_memory, 0o1777);
    }
    rustix::system::sethostname(plan.hostname.as_bytes()).context("setting the host name")?;
    network::configure_pod(plan.place.address).await?;
    name_files(plan)?;
    for volume in &plan.volumes {
        make_volume(volume).with_context(|| format!("volume `{}`", volume.name))?;
    }
    if plan.role != Role::Plain {
        credentials(plan)?;
    }
    Ok(())
}

fn name_files(plan: &PodPlan) -> anyhow::Result<()> {
    let namespace = &plan.place.namespace;
    let resolver = format!(
        "nameserver {}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        plan.nameserver
    );
    mounts::place_file(Path::new("/etc/resolv.conf"), &resolver)?;
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {}\n",
        plan.place.address, plan.hostname
    );
    mounts::place_file(Path::new("/etc/hosts"), &hosts)
}

fn make_volume(volume: &VolumePlan) -> anyhow::Result<()> {
    let folder = Path::new(VOLUME_FOLDER).join(&volume.name);
    // As kubelet makes an emptyDir: every user of the pod may write.
    mounts::make_folder(&folder, 0o777)?;
    for file in &volume.files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let content = BASE64_STANDARD.decode(&file.content).context("decoding")?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).context("setting the mode")?;
    }
    Ok(())
}

fn credentials(plan: &PodPlan) -> anyhow::Result<()> {
    mounts::make_folder(Path::new(STATE_FOLDER), 0o700)?;
    give_to_proxy(plan, Path::new(STATE_FOLDER))?;
    fs::write(ROOT_FILE, &plan.control_root).with_context(|| format!("writing {ROOT_FILE}"))?;
    let resolver = format!("nameserver {}\n", network::GATEWAY);
    fs::write(RESOLVER_FILE, resolver).with_context(|| format!("writing {RESOLVER_FILE}"))?;
    write_token(plan, &plan.token)
}

/// Replaces the token at once, so that no reader sees half of it.
pub(super) fn write_token(plan: &PodPlan, token: &str) -> anyhow::Result<()> {
    let file = Path::new(TOKEN_FILE);
    let partial = file.with_extension("partial");
    let folder = file.parent().context("the token file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&partial, token).with_context(|| format!("writing {}", partial.display()))?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)).context("protecting the token")?;
    give_to_proxy(plan, &partial)?;
    fs::rename(&partial, file).with_context(|| format!("writing {TOKEN_FILE}"))
}

fn give_to_proxy(plan: &PodPlan, path: &Path) -> anyhow::Result<()> {
    if plan.identity == IdentityMap::Full {
        chown(path, Some(PROXY_USER), Some(PROXY_USER))
            .with_context(|| format!("giving {} away", path.display()))?;
    }
    Ok(())
}
