//! How one authority follows another without a failed handshake: pure, with the time handed in.
//!
//! A pair that those who trust the mesh believe already (an intermediate of the same root, or the root that signed before) signs
//! at once. Any other is *introduced* first: the present one goes on signing while both are handed out as trust anchors. When all
//! proxies trust the new one it signs, and the old one *retires*: it is trusted until the last certificate that it can have signed
//! has run out, and its key is forgotten at once.
//!
//! Invariants: who signs is believed by all that have been told; nobody is told to trust a pair that has not been checked; an
//! authority is dropped only when nothing that it signed is valid any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LIFETIME, short_hash};

/// Seconds since 1970.
pub type Seconds = u64;

/// How long the phases take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A new authority is introduced at least this long: a proxy that has just lost its stream is back by then.
    pub introduce: Duration,
    /// And at most this long. Whatever proxy has not acknowledged by then (one of an earlier version, say) has learned of it
    /// when it renewed, or has no valid certificate any more.
    pub patience: Duration,
    /// Proxies renew within this time once the new one signs.
    pub renew: Duration,
    /// The old one is trusted this long after it signed last: as long as what it signed lives, and somewhat longer for a
    /// replica of the control plane that has heard of the new one late.
    pub retire: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            introduce: Duration::from_secs(60),
            patience: LIFETIME,
            renew: Duration::from_secs(600),
            retire: LIFETIME + Duration::from_secs(300),
        }
    }
}

/// What signs, as it was given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// PEM, the signing one first.
    pub certificates: String,
    /// PEM.
    pub key: String,
    /// Whom to trust, PEM.
    pub anchors: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pair").field("anchors", &self.anchors).finish_non_exhaustive()
    }
}

/// Who signs, who will and who did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    signer: Pair,
    next: Option<Next>,
    retired: Vec<Retired>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    pair: Pair,
    since: Seconds,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Retired {
    anchors: String,
    until: Seconds,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// One authority.
    Settled,
    /// Another is being made known.
    Introducing,
    /// Another has signed before and is trusted still.
    Retiring,
}

/// What is known beside the time.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Every connected proxy has acknowledged the anchors that are handed out.
    pub all_trust: bool,
    /// The signer's certificate has run out.
    pub expired: bool,
}

impl Succession {
    /// One authority, and no other.
    pub const fn settled(signer: Pair) -> Self {
        Self { signer, next: None, retired: Vec::new() }
    }

    /// What signs now.
    pub const fn signer(&self) -> &Pair {
        &self.signer
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        match (&self.next, self.retired.is_empty()) {
            (Some(_), _) => Phase::Introducing,
            (None, false) => Phase::Retiring,
            (None, true) => Phase::Settled,
        }
    }

    /// Everyone to trust, PEM, each once.
    pub fn anchors(&self) -> String {
        let next = self.next.iter().map(|next| &next.pair.anchors);
        let retired = self.retired.iter().map(|retired| &retired.anchors);
        bundle([&self.signer.anchors].into_iter().chain(next).chain(retired))
    }

    /// Those that everyone trusts already, PEM: all but the ones just being introduced.
    pub fn known_anchors(&self) -> String {
        let retired = self.retired.iter().map(|retired| &retired.anchors);
        bundle([&self.signer.anchors].into_iter().chain(retired))
    }

    /// Takes in what is given now; `believed` if the [known anchors](Self::known_anchors) make it so. True if that changes
    /// anything.
    pub fn offer(&mut self, pair: Pair, believed: bool, now: Seconds, pace: &Pace) -> bool {
        let before = self.clone();
        if pair == self.signer {
            self.next = None;
        } else if believed {
            self.succeed(pair, now, pace);
        } else if self.next.as_ref().is_none_or(|next| next.pair != pair) {
            self.next = Some(Next { pair, since: now });
        }
        *self != before
    }

    /// Goes on if it is time. True if that changes anything.
    pub fn step(&mut self, known: Known, now: Seconds, pace: &Pace) -> bool {
        let before = self.retired.len();
        self.retired.retain(|retired| retired.until > now);
        let dropped = self.retired.len() < before;
        let Some(next) = self.next.take_if(|next| {
            let age = Duration::from_secs(now.saturating_sub(next.since));
            known.expired || age >= pace.patience || (known.all_trust && age >= pace.introduce)
        }) else {
            return dropped;
        };
        self.succeed(next.pair, now, pace);
        true
    }

    fn succeed(&mut self, pair: Pair, now: Seconds, pace: &Pace) {
        self.next = None;
        let old = std::mem::replace(&mut self.signer, pair);
        self.retired.retain(|retired| retired.anchors != self.signer.anchors);
        if old.anchors != self.signer.anchors {
            self.retired.retain(|retired| retired.anchors != old.anchors);
            self.retired.push(Retired { anchors: old.anchors, until: now + pace.retire.as_secs() });
        }
    }
}

/// Tells one set of anchors from another.
pub fn anchors_id(anchors: &str) -> String {
    short_hash(anchors.as_bytes())
}

/// The certificates of all, PEM, each once.
fn bundle<'a>(all: impl Iterator<Item = &'a String>) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut blocks: Vec<&str> = Vec::new();
    for pem in all {
        for part in pem.split_inclusive(END) {
            let Some(at) = part.find(BEGIN).filter(|_| part.ends_with(END)) else { continue };
            if !blocks.contains(&&part[at..]) {
                blocks.push(&part[at..]);
            }
        }
    }
    blocks.iter().map(|block| format!("{block}\n")).collect()
}

#[cfg(test)]
mod tests;
