//! When each thing that closures are made of was changed last, and what one closure is made of.
//!
//! Things are told apart by a hash into a fixed number of places, so that nothing grows with the names that come and go.
//! Two in one place cost a closure that is worked out again for nothing, never one that is not.

use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;

use xxhash_rust::xxh3::Xxh3;

const PLACES: u64 = 1 << 15;

/// Something that closures are made of and that changes while others do not.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum Subject<'s> {
    /// What stands behind a host.
    Endpoints(&'s str),
    /// A pod, by namespace and name.
    Pod(&'s str, &'s str),
    /// The pods that have an address.
    Address(IpAddr),
    /// The VirtualServices that write a host so, in lower case.
    Rules(&'s str),
    /// Those that may be about any host: for a wildcard, or without hosts, for others to delegate to.
    WideRules,
    /// Any VirtualService.
    AnyRules,
}

/// Generations by place.
#[derive(Clone)]
pub(super) struct Stamps(Box<[u64]>);

/// What something was made of: places, with the stamps that they had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis(Box<[(usize, u64)]>);

impl Basis {
    /// What all of these rest on together.
    pub fn union<'b>(bases: impl Iterator<Item = &'b Self>) -> Self {
        let mut all: Vec<_> = bases.flat_map(|basis| basis.0.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Stamps {
    /// Everything was changed in this generation.
    pub(super) fn new(generation: u64) -> Self {
        Self((0..PLACES).map(|_| generation).collect())
    }

    /// Something was changed in this generation.
    pub(super) fn set(&mut self, subject: Subject<'_>, generation: u64) {
        self.0[place(subject)] = generation;
    }

    /// A basis to which subjects are added.
    pub(super) const fn begin(&self) -> Draft<'_> {
        Draft { stamps: self, places: Vec::new() }
    }

    /// Whether nothing of it has changed since, nor before if it was made of later stamps.
    pub(super) fn support(&self, basis: &Basis) -> bool {
        basis.0.iter().all(|(place, stamp)| self.0[*place] == *stamp)
    }
}

/// A basis that is not complete.
pub(super) struct Draft<'a> {
    stamps: &'a Stamps,
    places: Vec<usize>,
}

impl Draft<'_> {
    pub(super) fn add(&mut self, subject: Subject<'_>) {
        self.places.push(place(subject));
    }

    pub(super) fn finish(mut self) -> Basis {
        self.places.sort_unstable();
        self.places.dedup();
        Basis(self.places.into_iter().map(|place| (place, self.stamps.0[place])).collect())
    }
}

fn place(subject: Subject<'_>) -> usize {
    let mut hasher = Xxh3::new();
    subject.hash(&mut hasher);
    usize::try_from(hasher.finish() % PLACES).unwrap_or_default()
}
