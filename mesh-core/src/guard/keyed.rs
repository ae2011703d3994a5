//! Buckets and gauges by key, in tables that never grow without bound.
//!
//! A table of buckets holds at most [`MOST_KEYS`]. When it is full, a new key takes the place of one of a few that are
//! looked at in turn: of them the one that is nearest to being full again, since forgetting a full bucket changes nothing. So
//! who can invent keys can at worst let others begin anew with a full burst; it can neither fill the memory nor lock
//! anyone out. Gauges by key are as many as there are requests under way, which other limits bound.
//!
//! Locks are held for a lookup only and never over an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;
use xxhash_rust::xxh64::xxh64;

use super::bucket::Pace;

/// How many buckets one limit keeps at most.
pub const MOST_KEYS: usize = SHARDS * KEYS_PER_SHARD;

const SHARDS: usize = 16;
const KEYS_PER_SHARD: usize = 1024;
/// How many are looked at for the one to forget.
const CANDIDATES: usize = 8;
/// Longer keys are kept as their start and a hash.
const LONGEST_KEY: usize = 64;

/// A key: short, whatever a client sends.
type Key = SmallVec<[u8; 24]>;

fn key(bytes: &[u8]) -> Key {
    let Some(start) = bytes.get(..LONGEST_KEY).filter(|_| bytes.len() > LONGEST_KEY) else {
        return Key::from_slice(bytes);
    };
    let mut key = Key::from_slice(start);
    key.extend_from_slice(&xxh64(bytes, 0).to_le_bytes());
    key
}

/// Buckets by key.
#[derive(Debug, Default)]
pub struct Keyed {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<Key, usize>,
    /// Key, and the time at which its bucket is full again.
    slots: Vec<(Key, u64)>,
    hand: usize,
}

impl Keyed {
    /// Takes one request out of the key's bucket, a full one if there is none.
    ///
    /// # Errors
    /// With the time until there is room for one more.
    pub fn take(&self, bytes: &[u8], pace: Pace, now: u64) -> Result<(), Duration> {
        let key = key(bytes);
        let mut shard = lock(&self.shards[usize::from(xxh64(&key, 0).to_le_bytes()[0]) % SHARDS]);
        let at = shard.place(key);
        let full_at = &mut shard.slots[at].1;
        let taken;
        (*full_at, taken) = pace.take(*full_at, now);
        taken
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.len()).sum()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn place(&mut self, key: Key) -> usize {
        if let Some(&at) = self.places.get(&key) {
            return at;
        }
        let at = if self.slots.len() < KEYS_PER_SHARD {
            self.slots.push((key.clone(), 0));
            self.slots.len() - 1
        } else {
            let at = self.most_rested();
            let (old, _) = std::mem::replace(&mut self.slots[at], (key.clone(), 0));
            self.places.remove(&old);
            at
        };
        self.places.insert(key, at);
        at
    }

    fn most_rested(&mut self) -> usize {
        let candidates = (0..CANDIDATES).map(|step| (self.hand + step) % self.slots.len());
        let chosen = candidates.min_by_key(|&at| self.slots[at].1).unwrap_or_default();
        self.hand = (self.hand + CANDIDATES) % self.slots.len();
        chosen
    }
}

/// How many of something are under way, by key.
#[derive(Debug, Default)]
pub struct Keys(Mutex<HashMap<Key, u32>>);

/// One request under way; what it took is given back when it is dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    keys: Arc<Keys>,
    key: Key,
}

impl Keys {
    /// Takes one, unless that would exceed `limit`.
    pub fn take(self: &Arc<Self>, bytes: &[u8], limit: u32) -> Option<ConcurrencyPermit> {
        let key = key(bytes);
        let mut active = lock(&self.0);
        let count = active.entry(key.clone()).or_default();
        if *count >= limit {
            if *count == 0 {
                active.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(ConcurrencyPermit { keys: Arc::clone(self), key })
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        let mut active = lock(&self.keys.0);
        if let Some(count) = active.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                active.remove(&self.key);
            }
        }
    }
}

/// A thread that panicked cannot have left these numbers half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1 << 50;

    fn once_a_minute() -> Pace {
        Pace::new(1, Duration::from_secs(60), 1)
    }

    #[test]
    fn keys_are_counted_apart() {
        let keyed = Keyed::default();
        assert!(keyed.take(b"a", once_a_minute(), NOW).is_ok());
        assert!(keyed.take(b"a", once_a_minute(), NOW).is_err());
        assert!(keyed.take(b"b", once_a_minute(), NOW).is_ok());
        let long = |end: &str| format!("{}{end}", "x".repeat(100));
        assert!(keyed.take(long("1").as_bytes(), once_a_minute(), NOW).is_ok());
        assert!(keyed.take(long("2").as_bytes(), once_a_minute(), NOW).is_ok());
    }

    #[test]
    fn invented_keys_neither_fill_the_memory_nor_lock_anyone_out() {
        let keyed = Keyed::default();
        for number in 0..3 * MOST_KEYS {
            assert!(keyed.take(number.to_string().as_bytes(), once_a_minute(), NOW).is_ok());
        }
        assert!(keyed.len() <= MOST_KEYS);
    }

    #[test]
    fn a_full_table_forgets_the_bucket_that_is_nearest_to_full() {
        let mut shard = Shard::default();
        for number in 0..KEYS_PER_SHARD {
            let at = shard.place(key(number.to_string().as_bytes()));
            shard.slots[at].1 = NOW + 1_000 - number as u64 % 8;
        }
        assert_eq!(shard.place(key(b"new")), 7);
        assert_eq!(shard.slots.len(), KEYS_PER_SHARD);
        assert!(!shard.places.contains_key(&key(b"7")));
    }

    #[test]
    fn permits_are_given_back_and_leave_nothing() {
        let keys = Arc::new(Keys::default());
        let first = keys.take(b"a", 1).unwrap();
        assert!(keys.take(b"a", 1).is_none() && keys.take(b"b", 1).is_some());
        drop(first);
        assert!(lock(&keys.0).is_empty());
        assert!(keys.take(b"a", 0).is_none() && lock(&keys.0).is_empty());
    }
}
