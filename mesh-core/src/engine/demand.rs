//! The port by which the engine asks for what the snapshot does not know yet. `main` joins it to `subscribe`.
//!
//! Requests that wait for the same root are joined: the root is asked for once. Both the queue and the number of roots
//! that are waited for are bounded, and every wait has a deadline; at a bound the request fails, and nothing is ever
//! passed through because nobody knew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::model::Root;

/// Roots that may be waited for at once.
const MAX_WAITED_FOR: usize = 4096;

/// The engine's end: asks and waits. Cheap to clone.
#[derive(Clone)]
pub struct Demand {
    waited_for: Arc<Mutex<HashMap<Root, watch::Sender<()>>>>,
    questions: mpsc::Sender<Root>,
}

/// The other end: the roots that somebody waits for, in the order in which they were first asked for.
pub type Questions = mpsc::Receiver<Root>;

impl Demand {
    /// A demand and the queue on which its questions come out.
    pub fn channel() -> (Self, Questions) {
        let (questions, receiver) = mpsc::channel(MAX_WAITED_FOR);
        (Self { waited_for: Arc::default(), questions }, receiver)
    }

    /// Wakes whoever waits for this root. Called after the snapshot that knows it (or knows that it does not exist) is in
    /// place.
    pub fn answered(&self, root: &Root) {
        self.waited_for().remove(root);
    }

    /// Asks for a root and waits until it is answered.
    ///
    /// `known` looks whether the answer has come between the caller's look at the snapshot and now.
    ///
    /// # Errors
    /// [`Failure::DiscoveryTimeout`] when no answer came in time, [`Failure::Overloaded`] when too much is waited for.
    pub async fn wait(&self, root: &Root, limit: Duration, known: impl Fn() -> bool) -> Result<(), Failure> {
        let mut answer = self.join(root)?;
        if known() {
            return Ok(());
        }
        // The sender is dropped when the answer is there, so the error is the good news.
        match timeout(limit, answer.changed()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                // Whoever asks next asks anew: this question may have been lost with a connection.
                self.answered(root);
                Err(Failure::DiscoveryTimeout)
            }
        }
    }

    fn join(&self, root: &Root) -> Result<watch::Receiver<()>, Failure> {
        let mut waited_for = self.waited_for();
        if let Some(answer) = waited_for.get(root) {
            return Ok(answer.subscribe());
        }
        if waited_for.len() >= MAX_WAITED_FOR || self.questions.try_send(root.clone()).is_err() {
            return Err(Failure::Overloaded);
        }
        let (sender, receiver) = watch::channel(());
        waited_for.insert(root.clone(), sender);
        Ok(receiver)
    }

    fn waited_for(&self) -> MutexGuard<'_, HashMap<Root, watch::Sender<()>>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root::Address(([10, 96, 0, 1], 80).into())
    }

    #[tokio::test]
    async fn waiters_for_one_root_ask_once_and_wake_together() {
        let (demand, mut questions) = Demand::channel();
        let wait =
            |demand: Demand| async move { demand.wait(&root(), Duration::from_secs(5), || false).await };
        let (first, second) = (tokio::spawn(wait(demand.clone())), tokio::spawn(wait(demand.clone())));
        assert_eq!(questions.recv().await, Some(root()));
        tokio::task::yield_now().await;
        assert!(questions.try_recv().is_err());
        demand.answered(&root());
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn no_answer_is_a_failure_and_the_next_asks_again() {
        let (demand, mut questions) = Demand::channel();
        for _ in 0..2 {
            let waited = demand.wait(&root(), Duration::from_millis(5), || false).await;
            assert_eq!(waited, Err(Failure::DiscoveryTimeout));
            assert_eq!(questions.recv().await, Some(root()));
        }
    }

    #[tokio::test]
    async fn an_answer_that_came_before_the_wait_is_not_missed() {
        let (demand, _questions) = Demand::channel();
        assert_eq!(demand.wait(&root(), Duration::from_secs(5), || true).await, Ok(()));
    }
}
