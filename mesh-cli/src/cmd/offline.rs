//! Objects from files, for commands that need no running mesh.
//!
//! What `mesh up` adds to every mesh, the gateways and their Services, is added here too, as routes may name them, and the
//! pods that its controllers would make.

mod pods;

use std::path::{Path, PathBuf};

use mesh_control::source::{Change, files};

use super::Failure;

/// What `mesh up` starts besides the user's objects.
const SYSTEM: &str = include_str!("../local/system.yaml");

/// All objects of the files, with the system's and all pods; problems are the user's only.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Change> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| readable(path)).collect::<Result<_, _>>()?;
    let mut change = Change::from(files::load(&paths));
    let system = Change::from(files::load_text(Path::new("(built in)"), SYSTEM)).upserted;
    let absent = system.into_iter().filter(|built_in| {
        let same = |object: &mesh_control::api::Object| object.key == built_in.key;
        !change.upserted.iter().any(same)
    });
    let absent: Vec<_> = absent.collect();
    change.upserted.extend(absent);
    pods::add(&mut change);
    Ok(change)
}

fn readable(path: &Path) -> Result<PathBuf, Failure> {
    if path.as_os_str() == "-" {
        return Ok(PathBuf::from("/dev/stdin"));
    }
    match std::fs::metadata(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err(Failure::Usage(format!("{}: {error}; -f takes files and folders", path.display()))),
    }
}
