//! When and how often to try again, compiled.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::message::Headers;
use crate::model::{RetryOn, RetryPolicy};

/// A retry policy, compiled. The conditions are judged by `decide::retry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// Time for one try.
    pub per_try_timeout: Option<Duration>,
    /// First back-off.
    pub backoff: Duration,
    /// Whether endpoints that were tried are avoided.
    pub elsewhere: bool,
    /// Whether localities that two tries have failed in are left.
    pub other_localities: bool,
    conditions: u32,
    statuses: Box<[u16]>,
    headers: Box<[String]>,
}

impl Retry {
    /// Compiles a policy. A time per try that is not shorter than the route's is ignored (semantics.md 15).
    pub fn new(model: &RetryPolicy, timeout: Option<Duration>) -> Self {
        let per_try = model.per_try_timeout.map(|time| time.duration()).filter(|time| !time.is_zero());
        Self {
            attempts: model.attempts,
            per_try_timeout: per_try.filter(|time| timeout.is_none_or(|whole| *time < whole)),
            backoff: model.backoff.duration(),
            elsewhere: !model.same_endpoints,
            other_localities: model.other_localities,
            conditions: model.on.iter().fold(0, |set, on| set | bit(*on)),
            statuses: model.statuses.as_slice().into(),
            headers: model.headers.as_slice().into(),
        }
    }

    /// Istio's default policy: what routes without one of their own have.
    pub fn standard() -> Arc<Self> {
        static STANDARD: LazyLock<Arc<Retry>> =
            LazyLock::new(|| Arc::new(Retry::new(&RetryPolicy::default(), None)));
        Arc::clone(&STANDARD)
    }

    /// For the hop to the application beside a sidecar: only what it has not been sent (semantics.md 14).
    pub fn inbound() -> Arc<Self> {
        static INBOUND: LazyLock<Arc<Retry>> = LazyLock::new(|| {
            let on = vec![RetryOn::ResetBeforeRequest];
            Arc::new(Retry::new(&RetryPolicy { on, ..RetryPolicy::default() }, None))
        });
        Arc::clone(&INBOUND)
    }

    /// Never again.
    pub fn never() -> Arc<Self> {
        static NEVER: LazyLock<Arc<Retry>> = LazyLock::new(|| {
            let (attempts, on) = (0, Vec::new());
            Arc::new(Retry::new(&RetryPolicy { attempts, on, ..RetryPolicy::default() }, None))
        });
        Arc::clone(&NEVER)
    }

    /// Whether a condition is among the policy's.
    pub fn on(&self, condition: RetryOn) -> bool {
        self.conditions & bit(condition) != 0
    }

    /// Whether a status is on the policy's list.
    pub fn lists(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Whether a response has a header of the policy's list.
    pub fn lists_one_of(&self, headers: &Headers) -> bool {
        self.headers.iter().any(|name| headers.contains(name))
    }
}

const fn bit(condition: RetryOn) -> u32 {
    1 << condition as u32
}
