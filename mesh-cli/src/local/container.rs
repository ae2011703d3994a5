//! `mesh container`: the last step before a container's program, in the process that becomes it.
//!
//! It reads what to run from an inherited descriptor, mounts the container's volumes, gives up every privilege the
//! program should not have, and executes it. What goes wrong is written to standard error, which is the container's log.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::mounts;
use super::plan::MountPlan;
use super::protocol::IdentityMap;
use super::reaper::{Process, Reaper};
use crate::sys;

/// A program and how to run it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) privileges: Privileges,
    pub(crate) identity: IdentityMap,
    /// Inherited descriptors that the program keeps.
    pub(crate) kept: Vec<RawFd>,
}

/// What a program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Privileges {
    /// What container runtimes give by default; neither network nor mounts can be changed.
    Application,
    /// Marking sockets and listening on low ports, as an ordinary user where there is one.
    Proxy,
    /// Everything the pod has; for our own set-up steps.
    Full,
}

/// The capabilities container runtimes give by default.
const APPLICATION: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);
/// Setting SO_MARK, and listening on ports below 1024.
const PROXY: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_BIND_SERVICE);

/// Starts a process that will [`run`] this launch. `configure` sets its standard streams.
pub(crate) fn spawn(
    reaper: &Reaper,
    launch: &Launch,
    configure: impl FnOnce(&mut Command),
) -> std::io::Result<Process> {
    let mut plan = File::from(rustix::fs::memfd_create("launch", MemfdFlags::CLOEXEC)?);
    plan.write_all(&serde_json::to_vec(launch)?)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mesh").arg("container").arg(plan.as_raw_fd().to_string());
    configure(&mut command);
    // Inherited by this one child: there is no other thread that could start one meanwhile.
    rustix::io::fcntl_setfd(&plan, FdFlags::empty())?;
    reaper.spawn(&mut command)
}

/// Becomes the program; returns only if that fails.
pub(crate) fn run(descriptor: RawFd) -> anyhow::Result<std::convert::Infallible> {
    let launch = read_launch(sys::adopt(descriptor)?)?;
    sys::close_on_exec_except(&launch.kept).context("closing inherited files")?;
    // A group of its own, so that all of a container can be signalled at once.
    rustix::process::setsid().context("starting a session")?;
    mount_volumes(&launch.mounts)?;
    let program = find_program(&launch)?;
    let Some((name, arguments)) = launch.command.split_first() else { bail!("an empty command") };
    // Opened before giving up privileges: our own binaries may lie where the proxy's user cannot look.
    let opened = (launch.privileges == Privileges::Proxy).then(|| open_program(&program)).transpose()?;
    give_up_privileges(&launch).context("giving up privileges")?;
    std::env::set_current_dir(&launch.directory)
        .with_context(|| format!("working directory {}", launch.directory.display()))?;
    let path = match &opened {
        Some(file) if !is_executable(&program) => {
            PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
        }
        _ => program,
    };
    let error = Command::new(path)
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(launch.environment.iter().cloned())
        .exec();
    Err(error).with_context(|| format!("cannot run `{name}`"))
}

fn read_launch(descriptor: OwnedFd) -> anyhow::Result<Launch> {
    let mut file = File::from(descriptor);
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).context("reading what to run")?;
    serde_json::from_str(&text).context("reading what to run")
}

fn mount_volumes(volumes: &[MountPlan]) -> anyhow::Result<()> {
    if volumes.is_empty() {
        return Ok(());
    }
    sys::unshare(UnshareFlags::NEWNS).context("making a mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("making mounts private")?;
    volumes.iter().try_for_each(|volume| mounts::bind(&volume.source, &volume.target, volume.read_only))
}

fn find_program(launch: &Launch) -> anyhow::Result<PathBuf> {
    let Some(name) = launch.command.first() else { bail!("an empty command") };
    if name.contains('/') {
        return Ok(launch.directory.join(name));
    }
    let path =
        launch.environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
        .with_context(|| format!("there is no program `{name}` on this machine (PATH is {path})"))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn open_program(program: &Path) -> anyhow::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {}", program.display()))
}

fn give_up_privileges(launch: &Launch) -> rustix::io::Result<()> {
    let kept = match launch.privileges {
        Privileges::Full => return Ok(()),
        Privileges::Application => APPLICATION,
        Privileges::Proxy => PROXY,
    };
    rustix::thread::clear_ambient_capability_set()?;
    for capability in CapabilitySet::all().difference(kept).iter() {
        // Kernels older than a capability do not know it.
        if rustix::thread::capability_is_in_bounding_set(capability) == Ok(true) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    let keeps = launch.privileges == Privileges::Proxy;
    rustix::thread::set_keep_capabilities(keeps)?;
    if launch.identity == IdentityMap::Full {
        become_user(launch)?;
    }
    if keeps {
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
        rustix::thread::set_capabilities(None, sets)?;
        for capability in kept.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}

fn become_user(launch: &Launch) -> rustix::io::Result<()> {
    let Some(user) = launch.user else { return Ok(()) };
    let group = Gid::from_raw(launch.group.unwrap_or(user));
    let user = Uid::from_raw(user);
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Runs `body` with descriptors that the next child inherits under their own numbers.
pub(crate) fn inheriting<T>(descriptors: &[OwnedFd], body: impl FnOnce() -> T) -> std::io::Result<T> {
    for descriptor in descriptors {
        rustix::io::fcntl_setfd(descriptor.as_fd(), FdFlags::empty())?;
    }
    let result = body();
    for descriptor in descriptors {
        rustix::io::fcntl_setfd(descriptor.as_fd(), FdFlags::CLOEXEC)?;
    }
    Ok(result)
}
