//! Follows files and folders: each change of the disk becomes one change of objects.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::change::{Change, Held};
use super::files::Reader;

/// Events closer together than this are one change.
const QUIET: Duration = Duration::from_millis(20);
/// A change is read at the latest this long after its first event, however busy others keep the disk.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often the thread looks whether anyone still listens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Changes that may wait for the listener; the disk is read again when there is room. What waits is not the latest any more.
const WAITING: usize = 1;

/// Why a path cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The operating system refused to watch.
    #[error("cannot watch {path}: {source}")]
    Watch {
        /// What was to be watched.
        path: PathBuf,
        /// Why not.
        source: notify::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the thread that watches files: {0}")]
    Thread(std::io::Error),
}

/// Loads `paths` and follows them.
///
/// The first change holds everything there is, even if that is nothing; the thread behind this ends within a second
/// of the receiver being dropped.
///
/// # Errors
/// When a path cannot be watched.
pub fn watch(paths: Vec<PathBuf>) -> Result<mpsc::Receiver<Change>, WatchError> {
    // One waiting event is enough: it means "read everything again".
    let (wake, woken) = sync_channel(1);
    let rewake = wake.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if is_change(&event) {
            let _ = wake.try_send(());
        }
    })
    .map_err(|source| WatchError::Watch { path: PathBuf::new(), source })?;
    for path in &paths {
        follow(&mut watcher, path)?;
    }
    let (changes, receiver) = mpsc::channel(WAITING);
    std::thread::Builder::new()
        .name("files".to_owned())
        .spawn(move || run(&paths, &watcher, rewake, &woken, &changes))
        .map_err(WatchError::Thread)?;
    Ok(receiver)
}

/// Reading a file is an event too; taking it for a change would never end.
fn is_change(event: &notify::Result<Event>) -> bool {
    !matches!(event, Ok(Event { kind: EventKind::Access(_), .. }))
}

/// Watches a folder, or the folder of a file: editors replace files instead of changing them.
fn follow(watcher: &mut RecommendedWatcher, path: &Path) -> Result<(), WatchError> {
    let (watched, mode) = if path.is_dir() {
        (path, RecursiveMode::Recursive)
    } else {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        (parent.unwrap_or_else(|| Path::new(".")), RecursiveMode::NonRecursive)
    };
    watcher.watch(watched, mode).map_err(|source| WatchError::Watch { path: watched.to_owned(), source })
}

/// Holds on to the watcher, which stops when it is dropped.
fn run(
    paths: &[PathBuf],
    _: &RecommendedWatcher,
    wake: SyncSender<()>,
    woken: &Receiver<()>,
    changes: &mpsc::Sender<Change>,
) {
    let (mut reader, mut held) = (Reader::default(), Held::default());
    let first = held.take(reader.pass(paths)).unwrap_or_default();
    let mut sent = changes.blocking_send(first);
    if let Err(error) = reader.leave_large_files(wake) {
        tracing::warn!(%error, "large files are read together with all others: no thread can be started");
    }
    while sent.is_ok() && wait_for_change(woken, changes) {
        if let Some(change) = held.take(reader.pass(paths)) {
            sent = changes.blocking_send(change);
        }
    }
}

/// Waits for an event and then for quiet; false when nobody listens any more.
fn wait_for_change(woken: &Receiver<()>, changes: &mpsc::Sender<Change>) -> bool {
    loop {
        match woken.recv_timeout(HEARTBEAT) {
            Ok(()) => break,
            Err(RecvTimeoutError::Timeout) if changes.is_closed() => return false,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    let latest = Instant::now() + PATIENCE;
    while Instant::now() < latest && woken.recv_timeout(QUIET).is_ok() {}
    true
}
