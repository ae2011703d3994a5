//! When what has been told is handed on.
//!
//! A change is always everything that has been told until then, so nothing overtakes anything. Only the moment is decided
//! here, by who waits: a namespace that was quiet waits a moment only, one that changes all the time has its changes
//! collected. However many namespaces there are, changes are [`SPACING`] apart.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// What comes within this of the first event is one change.
const GATHER: Duration = Duration::from_millis(10);
/// How often one namespace alone has a change handed on in the long run.
const PATIENCE: Duration = Duration::from_millis(50);
/// Changes that a namespace may have handed on one right after the other.
const BURST: u32 = 3;
/// Between any two changes: each costs something whatever is in it.
const SPACING: Duration = Duration::from_millis(20);
/// Between two times that what is wrong is told: all of it is told each time, nobody's configuration depends on it, and
/// there may be very much.
const FINDINGS: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// By namespace, when its next change would be due if it had them at an even pace. Those of the past are left out.
    even: HashMap<String, Instant>,
    /// Namespaces that have something to be handed on.
    waiting: HashSet<String>,
    /// When the first of them has waited long enough.
    due: Option<Instant>,
    handed_on: Option<Instant>,
    findings_due: Option<Instant>,
    findings_told: Option<Instant>,
}

impl Pace {
    /// Something in a namespace waits to be handed on.
    pub(super) fn note(&mut self, namespace: &str, now: Instant) {
        if self.waiting.contains(namespace) {
            return;
        }
        self.waiting.insert(namespace.to_owned());
        let even = self.even.get(namespace).and_then(|even| even.checked_sub(PATIENCE * (BURST - 1)));
        let due = (now + GATHER).max(even.unwrap_or(now));
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Something else is wrong than was told.
    pub(super) fn note_findings(&mut self, now: Instant) {
        let allowed = self.findings_told.map_or(now, |told| told + FINDINGS);
        self.findings_due.get_or_insert_with(|| (now + GATHER).max(allowed));
    }

    /// When everything that waits is to be handed on; `None` if nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.due.into_iter().chain(self.findings_due).min()?;
        Some(self.handed_on.map_or(due, |before| due.max(before + SPACING)))
    }

    /// Everything is handed on now; true if what is wrong is to be told with it.
    pub(super) fn hand_on(&mut self, now: Instant) -> bool {
        self.even.retain(|_, even| *even > now);
        for namespace in self.waiting.drain() {
            let even = self.even.entry(namespace).or_insert(now);
            *even += PATIENCE;
        }
        self.due = None;
        self.handed_on = Some(now);
        // A moment too early is no reason for a change of its own.
        let tells = self.findings_due.take_if(|due| *due <= now + GATHER).is_some();
        if tells {
            self.findings_told = Some(now);
        }
        tells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Tells of every event at its time; when changes were handed on, in milliseconds, and which events each had.
    fn handed_on(events: &[(u32, &'static str)]) -> Vec<(u128, Vec<usize>)> {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let (mut changes, mut pending) = (Vec::new(), Vec::new());
        let hand_on = |pace: &mut Pace, pending: &mut Vec<usize>, due: Instant| {
            pace.hand_on(due);
            ((due - begin).as_millis(), std::mem::take(pending))
        };
        for (number, (at, namespace)) in events.iter().enumerate() {
            let now = begin + MILLISECOND * *at;
            while let Some(due) = pace.due().filter(|due| *due <= now) {
                changes.push(hand_on(&mut pace, &mut pending, due));
            }
            pace.note(namespace, now);
            pending.push(number);
        }
        while let Some(due) = pace.due() {
            changes.push(hand_on(&mut pace, &mut pending, due));
        }
        changes
    }

    #[test]
    fn a_namespace_that_was_quiet_does_not_wait_for_one_that_is_not() {
        let mut events: Vec<_> = (0..2000).map(|at| (at, "noisy")).collect();
        events.insert(1555, (1555, "quiet"));
        let changes = handed_on(&events);
        let (at, _) = changes.iter().find(|(_, events)| events.contains(&1555)).unwrap();
        assert!((1555..=1575).contains(at), "{at}");
        assert!((40..=46).contains(&changes.len()), "{} changes", changes.len());
    }

    #[test]
    fn nothing_overtakes_anything() {
        let names = ["a", "b", "c"];
        let events: Vec<_> = (0..500).map(|at| (at * 7 % 11 + at * 3, names[at as usize % 3])).collect();
        let mut sorted = events;
        sorted.sort_by_key(|(at, _)| *at);
        let all: Vec<_> = handed_on(&sorted).into_iter().flat_map(|(_, events)| events).collect();
        assert_eq!(all, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_few_changes_in_a_row_are_handed_on_at_once_and_more_at_an_even_pace() {
        let events: Vec<_> = (0..1000).map(|at| (at, "one")).collect();
        let times: Vec<_> = handed_on(&events).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times[..4], [10, 30, 50, 70]);
        assert!(times[4..].windows(2).all(|pair| pair[1] - pair[0] == 50), "{times:?}");
    }

    #[test]
    fn many_namespaces_do_not_add_up() {
        let names: Vec<&'static str> =
            (0..1000).map(|number| &*Box::leak(format!("n{number}").into_boxed_str())).collect();
        let events: Vec<_> = (0..1000).map(|at| (at, names[at as usize])).collect();
        let changes = handed_on(&events);
        assert!(changes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= SPACING.as_millis()));
        let worst = changes.iter().flat_map(|(at, all)| all.iter().map(move |event| at - *event as u128));
        assert!(worst.max() <= Some(30));
    }

    #[test]
    fn what_is_wrong_is_told_at_once_and_then_at_a_pace_of_its_own() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.note_findings(begin);
        assert_eq!(pace.due(), Some(begin + GATHER));
        assert!(pace.hand_on(begin + GATHER));
        pace.note_findings(begin + GATHER);
        let told = begin + GATHER;
        assert_eq!(pace.due(), Some(told + FINDINGS));
        pace.note("some", told + SPACING);
        assert_eq!(pace.due(), Some(told + SPACING + GATHER));
        assert!(!pace.hand_on(told + SPACING + GATHER), "configuration does not wait for it");
        assert!(pace.hand_on(told + FINDINGS));
        assert_eq!(pace.due(), None);
    }
}
