//! Memory that is free goes back to the system.
//!
//! The system's allocator keeps what a burst has freed: glibc gives back only what lies at the end of its heap, and something
//! always lives there. It gives back every free page when it is asked to, which [`give_back`] does from time to time. That
//! costs microseconds when there is nothing to give.
//!
//! This belongs in a program, not in a library: whoever embeds the engine chooses an allocator of their own, and need not
//! run it. With another C library than glibc it does nothing.

#![expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often: a burst is forgotten within twice this time, and memory in use is hardly ever taken from under a worker.
const EVERY: Duration = Duration::from_secs(4);

/// Gives back what is free, again and again. Not to be run on a worker: it takes the allocator's locks one after the other,
/// and milliseconds when there are tens of megabytes to give.
pub async fn give_back() -> Infallible {
    let mut time = interval(EVERY);
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        time.tick().await;
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: it may be called at any time from any thread, and touches only memory that nobody holds.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn trim() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Memory of this process that is its own, in bytes.
    fn held() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
    }

    #[tokio::test]
    async fn what_is_free_between_what_is_in_use_goes_back() {
        const BLOCK: usize = 64 << 10;
        let mut blocks: Vec<Option<Vec<u8>>> = (0..1024).map(|_| Some(vec![1; BLOCK])).collect();
        let full = held();
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 16 != 0).for_each(|(_, block)| *block = None);
        let back = async {
            while held() > full - 512 * BLOCK {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            never = give_back() => match never {},
            back = timeout(Duration::from_secs(60), back) => back.unwrap(),
        }
    }
}
