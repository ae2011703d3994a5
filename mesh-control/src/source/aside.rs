//! Large files are read by a thread of their own, so that a change in a small one never waits for them.
//!
//! At most one reading of each file waits, the smallest first. Until it is done, what the file gave before stays.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::kept::{Kept, until_still};

/// Files larger than this are read aside, in bytes. Smaller ones take a few milliseconds each.
pub(super) const LARGE: u64 = 64 * 1024;

/// The thread; it ends when this is dropped.
pub(super) struct Aside(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Arc<PathBuf>, Wanted>,
    finished: BTreeMap<Arc<PathBuf>, Kept>,
    is_closed: bool,
}

struct Wanted {
    size: u64,
    before: Option<Kept>,
}

impl Aside {
    /// Starts the thread, which sends to `wake` after each file.
    pub(super) fn start(wake: SyncSender<()>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        std::thread::Builder::new().name("large files".to_owned()).spawn(move || worker.run(&wake))?;
        Ok(Self(shared))
    }

    /// Has a file read.
    pub(super) fn want(&self, path: &Arc<PathBuf>, size: u64, before: Option<Kept>) {
        self.0.lock().wanted.insert(Arc::clone(path), Wanted { size, before });
        self.0.changed.notify_one();
    }

    /// What has been read since the last call.
    pub(super) fn finished(&self) -> BTreeMap<Arc<PathBuf>, Kept> {
        std::mem::take(&mut self.0.lock().finished)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self, wake: &SyncSender<()>) {
        while let Some((path, wanted)) = self.next() {
            // Its stamp can then be relied on, and it is not read again for nothing.
            if let Ok(meta) = std::fs::metadata(&*path) {
                std::thread::sleep(until_still(&meta));
            }
            let kept = Kept::read(&path, wanted.before.as_ref());
            self.lock().finished.insert(path, kept);
            let _ = wake.try_send(());
        }
    }

    /// Waits for the smallest file that is wanted; `None` when nobody wants any more.
    fn next(&self) -> Option<(Arc<PathBuf>, Wanted)> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let smallest = state.wanted.iter().min_by_key(|(_, wanted)| wanted.size);
            if let Some(path) = smallest.map(|(path, _)| Arc::clone(path)) {
                return state.wanted.remove_entry(&path);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
