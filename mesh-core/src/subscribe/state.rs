//! What outlives a restart of the proxy: its key and certificate, and the configuration it last held.
//!
//! The folder must be memory-backed and is made private (mode 0700): keys never reach a disk. A proxy that restarts while
//! the control plane is away serves from here.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::held::Held;
use super::{Event, Handles, certificate};
use crate::model::{Resource, Root};
use crate::snapshot::compile;

/// A proxy's key and certificates, PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) chain: String,
    pub(super) key: Zeroizing<String>,
    pub(super) trust_anchors: String,
    /// Who signed, in the control plane's words; empty when it did not say.
    #[serde(default)]
    pub(super) signer: String,
}

/// The folder.
pub(super) struct Store {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct SavedRoot<R> {
    root: Root,
    members: Vec<(u64, R)>,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        let refuse = |source| StateError { folder: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refuse)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(refuse)?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.load("credentials.json")
    }

    pub(super) fn save_credentials(&self, held: &Credentials) -> io::Result<()> {
        self.save("credentials.json", held)
    }

    pub(super) fn save_config(&self, held: &Held) -> io::Result<()> {
        let roots: Vec<_> =
            held.closures().map(|(root, members)| SavedRoot { root: root.clone(), members }).collect();
        self.save("config.json", &roots)
    }

    fn load<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let bytes = Zeroizing::new(fs::read(self.folder.join(name)).ok()?);
        serde_json::from_slice(&bytes)
            .inspect_err(
                |error| tracing::warn!(%error, name, "the saved state cannot be read and is not used"),
            )
            .ok()
    }

    /// Written beside and renamed, so that a crash leaves the old or the new, never half.
    fn save<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(value)?);
        let (path, fresh) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        io::Write::write_all(&mut file, &bytes)?;
        fs::rename(fresh, path)
    }
}

/// Takes what was saved into use: the certificate while it is valid, and the configuration.
pub(super) fn restore(store: &Store, handles: &Handles, held: &mut Held) {
    if let Some(roots) = store.load::<Vec<SavedRoot<Resource>>>("config.json") {
        let mut known = Vec::new();
        for saved in roots {
            held.restore(&saved.root, saved.members);
            known.push(saved.root);
        }
        let (snapshot, _) = compile(None, &held.config);
        handles.snapshot.store(Arc::new(snapshot));
        certificate::follow_aliases(handles);
        handles.held.store(Arc::new(held.config.clone()));
        tracing::info!(resources = held.config.len(), "configuration restored");
        // A gateway's listeners and the log open on this, as they would had it just come.
        (handles.notify)(Event::Swapped(known));
    }
    let Some(credentials) = store.credentials() else { return };
    match certificate::install(handles, &credentials) {
        Ok(()) => (handles.notify)(Event::Certificate),
        Err(error) => tracing::warn!(%error, "the saved certificate is not used"),
    }
}

/// Why there is no state folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the state folder {folder:?} private; name another one, on a memory-backed file system")]
pub struct StateError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}
