//! What is kept of a file, so that a change elsewhere does not have it read again.
//!
//! A file is the same while its inode, size and times are. Times are coarse: a file that was written a moment ago may be
//! written again under the same stamp, so its stamp counts only once it has been still for [`STILL`], and until then its
//! text is compared.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64;

use super::file::FileRead;
use crate::problem::Problem;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Longer than any file system's clock ticks.
pub(super) const STILL: Duration = Duration::from_millis(100);

/// A file as it was read last. Copies share what it gave.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// `None` where it says nothing: the file was not still yet, or could not be read.
    stamp: Option<Stamp>,
    /// Of the text; `None` if there was none.
    hash: Option<u64>,
    pub(super) read: Arc<FileRead>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Kept {
    /// Whether the file is still the one that was read.
    pub(super) fn holds(&self, meta: &Metadata) -> bool {
        self.stamp == Some(Stamp::of(meta))
    }

    /// Reads a file; what it gave before is taken over if its text is the same.
    pub(super) fn read(path: &Arc<PathBuf>, before: Option<&Self>) -> Self {
        match text_of(path) {
            Ok((stamp, text)) => {
                let hash = Some(xxh3_64(text.as_bytes()));
                let same = before.filter(|before| before.hash == hash);
                let known = before.map(|before| &*before.read);
                let read = same.map_or_else(|| parsed(path, &text, known), |same| Arc::clone(&same.read));
                Self { stamp, hash, read }
            }
            Err(problem) => {
                let problem = Problem { file: Some(Arc::clone(path)), ..problem };
                Self { stamp: None, hash: None, read: Arc::new(FileRead::failed(problem)) }
            }
        }
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// How long a file must be left alone yet until its stamp can be relied on; zero for one from the future.
pub(super) fn until_still(meta: &Metadata) -> Duration {
    let seconds = u64::try_from(meta.ctime()).unwrap_or_default();
    let nanoseconds = u32::try_from(meta.ctime_nsec()).unwrap_or_default();
    let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    let since = SystemTime::now().duration_since(changed);
    since.map_or(Duration::ZERO, |since| STILL.saturating_sub(since))
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// One file that the reader cannot cope with must not end the reading of all others.
fn parsed(path: &Arc<PathBuf>, text: &str, before: Option<&FileRead>) -> Arc<FileRead> {
    let read = catch_unwind(AssertUnwindSafe(|| FileRead::of(path, text, now(), before)));
    Arc::new(read.unwrap_or_else(|_| {
        let problem =
            Problem::error("", "cannot be read: a mistake of the control plane's; please report it");
        FileRead::failed(Problem { file: Some(Arc::clone(path)), ..problem })
    }))
}

fn text_of(path: &Path) -> Result<(Option<Stamp>, String), Problem> {
    let cannot = |error: io::Error| Problem::error("", format!("cannot be read: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if meta.len() > MAX_FILE {
        let message = format!("larger than {} MiB; not read", MAX_FILE / 1024 / 1024);
        return Err(Problem::error("", message).with_fix("split it into several files"));
    }
    let stamp = until_still(&meta).is_zero().then(|| Stamp::of(&meta));
    let mut text = String::new();
    // No more than that even if the file grows meanwhile or is a device.
    file.take(MAX_FILE).read_to_string(&mut text).map_err(cannot)?;
    Ok((stamp, text))
}
