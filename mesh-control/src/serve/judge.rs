//! What is wrong with objects is found out by a thread of its own: it may take long, and nobody's configuration waits.
//!
//! At most one view waits to be judged; a newer one takes its place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::view::View;

/// What is wrong is known this much later at most.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// The thread; it ends when this is dropped.
pub(super) struct Judge(Arc<Shared>);

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
    judged: ArcSwap<View>,
}

#[derive(Default)]
struct Desk {
    waiting: Option<Arc<View>>,
    is_closed: bool,
}

impl Judge {
    /// Starts the thread. Without one nothing is told of objects, and all else goes on.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        if let Err(error) = std::thread::Builder::new().name("judge".to_owned()).spawn(move || worker.run()) {
            tracing::error!(%error, "the thread that looks for problems of objects cannot be started");
        }
        Self(shared)
    }

    /// Has a view judged, unless a newer one comes before its turn.
    pub(super) fn look_at(&self, view: Arc<View>) {
        self.0.lock().waiting = Some(view);
        self.0.changed.notify_one();
    }

    /// The latest view of which the problems are known.
    pub(super) fn judged(&self) -> Arc<View> {
        self.0.judged.load_full()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(view) = self.next() {
            let began = Instant::now();
            // A mistake of ours in judging one object must not end the judging of all others for ever.
            if catch_unwind(AssertUnwindSafe(|| view.problems().len())).is_ok() {
                self.judged.store(view);
            } else {
                tracing::error!(generation = view.generation(), "looking for problems of objects failed");
            }
            self.rest((began.elapsed() * 3).min(LONGEST_REST));
        }
    }

    /// Where everything changes all the time, a quarter of one processor is enough for this.
    fn rest(&self, time: Duration) {
        let desk = self.lock();
        let open = |desk: &mut Desk| !desk.is_closed;
        drop(self.changed.wait_timeout_while(desk, time, open).unwrap_or_else(PoisonError::into_inner));
    }

    fn next(&self) -> Option<Arc<View>> {
        let mut desk = self.lock();
        loop {
            if desk.is_closed {
                return None;
            }
            if let Some(view) = desk.waiting.take() {
                return Some(view);
            }
            desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn of_many_views_the_latest_is_judged() {
        let judge = Judge::start();
        assert_eq!(judge.judged().generation(), 0);
        (1..=100).for_each(|generation| judge.look_at(Arc::new(View::new(World::default(), generation))));
        let end = Instant::now() + Duration::from_secs(10);
        while judge.judged().generation() < 100 {
            assert!(Instant::now() < end, "the latest view is not judged");
            std::thread::yield_now();
        }
    }
}
