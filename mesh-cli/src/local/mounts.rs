//! Mounts of a private root: the host's folders with a `/run` and `/tmp` of one's own.
//!
//! The root is a folder in memory in which every entry of the old root is bound; so anything can be added at the top,
//! and [`shadow`] does the same for a folder further down. Nothing is ever created in a file system of the host.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{chdir, pivot_root};

/// Folders that are private to each root.
const PRIVATE: [&str; 2] = ["run", "tmp"];

/// Moves this process, which must be in a mount namespace of its own, into a private root.
///
/// `/run` starts empty: the host's name service sockets, its secrets and, in a pod, the supervisor's are out of sight.
/// `/tmp` shows what was there, but what is added stays private.
pub(crate) fn enter_private_root() -> anyhow::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("making mounts private")?;
    let new_root = ["/run", "/mnt", "/tmp"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .context("none of /run, /mnt and /tmp exists")?;
    let top = Entry::read_all(Path::new("/"))?;
    let temporary = Entry::read_all(Path::new("/tmp")).unwrap_or_default();
    let (root, tmp) = (open_path(Path::new("/"))?, open_path(Path::new("/tmp")));
    mount_memory(new_root, 0o755)?;
    for entry in top.iter().filter(|entry| !PRIVATE.iter().any(|name| entry.name == *name)) {
        entry.show(&root, new_root);
    }
    make_folder(&new_root.join("run"), 0o755)?;
    make_folder(&new_root.join("tmp"), 0o1777)?;
    if let Ok(tmp) = tmp {
        temporary.iter().for_each(|entry| entry.show(&tmp, &new_root.join("tmp")));
    }
    chdir(new_root).context("entering the private root")?;
    pivot_root(".", ".").context("changing the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("leaving the old root")?;
    chdir("/").context("entering the private root")
}

/// Shows the processes of this pid namespace only. Sandboxes may forbid it; then `/proc` stays the outer one, in which
/// `/proc/self` still works.
pub(crate) fn renew_proc() {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = rustix::mount::mount("proc", "/proc", "proc", flags, None);
}

/// Binds `source` over `target`, making the mount point if need be.
pub(crate) fn bind(source: &Path, target: &Path, read_only: bool) -> anyhow::Result<()> {
    let kind = fs::metadata(source).with_context(|| format!("mounting {}", source.display()))?;
    make_mount_point(target, kind.is_dir())?;
    let say = || format!("mounting {} on {}", source.display(), target.display());
    rustix::mount::mount_bind_recursive(source, target).with_context(say)?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(target, flags, "").with_context(say)?;
    }
    Ok(())
}

/// Makes `path` have this content in this mount namespace, whatever it is now, without touching the host's file.
pub(crate) fn place_file(path: &Path, content: &str) -> anyhow::Result<()> {
    let target = follow_links(path)?;
    let parent = target.parent().context("a file has a folder")?;
    if target.exists() && !is_private(parent)? {
        let name = target.to_string_lossy().replace('/', "_");
        let source = Path::new("/run/mesh/files").join(name);
        fs::create_dir_all("/run/mesh/files").context("making /run/mesh/files")?;
        fs::write(&source, content).with_context(|| format!("writing {}", source.display()))?;
        return rustix::mount::mount_bind(&source, &target)
            .with_context(|| format!("mounting over {}", target.display()));
    }
    make_mount_point(&target, false)?;
    fs::write(&target, content).with_context(|| format!("writing {}", target.display()))
}

/// Makes a folder with exactly this mode.
pub(crate) fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("making {}", path.display()))
}

fn make_mount_point(target: &Path, folder: bool) -> anyhow::Result<()> {
    if let Ok(metadata) = fs::metadata(target) {
        if metadata.is_dir() == folder {
            return Ok(());
        }
        bail!("cannot mount on {}: one is a folder, the other a file", target.display());
    }
    let existing =
        target.ancestors().skip(1).find(|path| path.is_dir()).context("a mount point has a folder")?;
    if !is_private(existing)? {
        shadow(existing)?;
    }
    let say = || format!("making the mount point {}", target.display());
    if folder {
        return fs::create_dir_all(target).with_context(say);
    }
    fs::create_dir_all(target.parent().unwrap_or(existing)).with_context(say)?;
    File::create(target).with_context(say).map(drop)
}

/// Whether a folder lies in memory of ours. Shadows and the private root are file systems of their own, and only they
/// are on a device that the private root's files or a mount point made by us are on.
fn is_private(folder: &Path) -> anyhow::Result<bool> {
    let device = |path: &Path| -> anyhow::Result<u64> {
        Ok(fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.dev())
    };
    Ok(device(folder)? == device(Path::new("/"))? || folder.join(SHADOW_MARK).exists())
}

const SHADOW_MARK: &str = ".mesh-shadow";

/// Replaces a folder, in this mount namespace only, by one in memory that shows the same entries.
fn shadow(folder: &Path) -> anyhow::Result<()> {
    let entries = Entry::read_all(folder)?;
    let old = open_path(folder)?;
    let mode =
        fs::metadata(folder).with_context(|| format!("looking at {}", folder.display()))?.mode() & 0o7777;
    mount_memory(folder, mode)?;
    entries.iter().for_each(|entry| entry.show(&old, folder));
    let mark = folder.join(SHADOW_MARK);
    File::create(&mark).with_context(|| format!("writing {}", mark.display())).map(drop)
}

/// Mounts an empty folder in memory.
pub(crate) fn mount_memory(folder: &Path, mode: u32) -> anyhow::Result<()> {
    let options = std::ffi::CString::new(format!("mode={mode:o}")).context("mount options")?;
    rustix::mount::mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("mounting memory on {}", folder.display()))
}

fn open_path(folder: &Path) -> anyhow::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty());
    Ok(opened.with_context(|| format!("opening {}", folder.display()))?.into())
}

fn follow_links(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..16 {
        let Ok(target) = fs::read_link(&path) else { return Ok(path) };
        path = normal(&path.parent().unwrap_or_else(|| Path::new("/")).join(target));
    }
    bail!("{}: too many symbolic links", path.display())
}

/// Without `..`; the links of `/etc/resolv.conf` are the only use, so folders that are links do not matter.
fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                result.pop();
            }
            std::path::Component::CurDir => {}
            other => result.push(other),
        }
    }
    result
}

/// What a folder held before something was mounted on it.
struct Entry {
    name: std::ffi::OsString,
    kind: fs::FileType,
    link: Option<PathBuf>,
}

impl Entry {
    fn read_all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let entries =
            fs::read_dir(folder).and_then(|entries| entries.map(|entry| Self::read(&entry?)).collect());
        entries.with_context(|| format!("reading {}", folder.display()))
    }

    fn read(entry: &fs::DirEntry) -> io::Result<Self> {
        let kind = entry.file_type()?;
        let link = if kind.is_symlink() { fs::read_link(entry.path()).ok() } else { None };
        Ok(Self { name: entry.file_name(), kind, link })
    }

    /// Makes the entry of `old` visible in `folder`. One that cannot be shown (gone since, or a file system that
    /// forbids it) is left out, as if the host did not have it.
    fn show(&self, old: &File, folder: &Path) {
        let target = folder.join(&self.name);
        if let Some(link) = &self.link {
            let _ = symlink(link, target);
            return;
        }
        let made = if self.kind.is_dir() { fs::create_dir(&target) } else { File::create(&target).map(drop) };
        // Through the descriptor, because `folder` may already cover the old place.
        let source = Path::new("/proc/self/fd").join(old.as_raw_fd().to_string()).join(&self.name);
        if made.is_ok() && rustix::mount::mount_bind_recursive(&source, &target).is_err() {
            let _ = if self.kind.is_dir() { fs::remove_dir(&target) } else { fs::remove_file(&target) };
        }
    }
}
