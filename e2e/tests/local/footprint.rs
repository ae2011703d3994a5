//! What a mesh may not leave on the machine: processes, links, named namespaces, files, sockets.

use std::collections::BTreeSet;
use std::fs;

use anyhow::ensure;

/// Everything on the machine that a mesh could have left.
#[derive(Debug)]
pub(crate) struct Footprint(BTreeSet<String>);

impl Footprint {
    /// Looks around.
    pub(crate) fn take(mesh: &str) -> Self {
        let mut found = BTreeSet::new();
        found.extend(links().into_iter().map(|link| format!("link {link}")));
        for folder in ["/run", "/run/netns", "/tmp"] {
            let names =
                entries(folder).into_iter().filter(|name| name.contains("mesh") || folder == "/run/netns");
            found.extend(names.map(|name| format!("{folder}/{name}")));
        }
        found.extend(sockets(mesh).into_iter().map(|socket| format!("socket {socket}")));
        Self(found)
    }

    /// Fails if something is there now that was not there then.
    pub(crate) fn nothing_since(&self, mesh: &str, processes: &[u32]) -> anyhow::Result<()> {
        let now = Self::take(mesh);
        let left: Vec<_> = now.0.difference(&self.0).collect();
        ensure!(left.is_empty(), "the mesh left behind: {left:?}");
        let alive: Vec<_> = processes.iter().filter(|id| is_running(**id)).collect();
        ensure!(alive.is_empty(), "processes of the mesh are still running: {alive:?}");
        Ok(())
    }
}

/// All processes below this one, itself included.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<_> = processes().into_iter().filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&id) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// The processes below `root` that run `program` with this entry in their environment.
pub(crate) fn find(root: u32, program: &str, environment: &str) -> Vec<u32> {
    let has = |id: &u32| {
        let all = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        all.split(|byte| *byte == 0).any(|entry| entry == environment.as_bytes())
    };
    find_program(root, program).into_iter().filter(has).collect()
}

/// The processes below `root` that run `program`.
pub(crate) fn find_program(root: u32, program: &str) -> Vec<u32> {
    let runs =
        |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == program);
    descendants(root).into_iter().filter(runs).collect()
}

fn is_running(id: u32) -> bool {
    // A zombie is waiting for its parent and holds nothing.
    stat(id).is_some_and(|(state, _)| state != "Z")
}

fn parent(id: u32) -> Option<u32> {
    stat(id).map(|(_, parent)| parent)
}

/// State and parent of a process (`/proc/ID/stat`; the name in parentheses may hold anything).
fn stat(id: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn processes() -> Vec<u32> {
    entries("/proc").iter().filter_map(|name| name.parse().ok()).collect()
}

fn links() -> Vec<String> {
    entries("/sys/class/net")
}

fn sockets(mesh: &str) -> Vec<String> {
    let all = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = all.lines().filter_map(|line| line.split_whitespace().nth(7));
    names.filter(|name| name.starts_with('@') && name.contains(mesh)).map(str::to_owned).collect()
}

fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
