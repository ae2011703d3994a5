//! Consistent hashing: a ring of points, and Maglev's table (Eisenbud et al., NSDI 2016 §3.4).
//!
//! Both promise one key one endpoint, and that few keys move when endpoints come and go. Maglev spreads keys more evenly
//! and finds them in one step.
//!
//! Tables are filled when endpoints change, not when a request comes. Their size is bounded, whatever users ask for: a
//! proxy holds one per cluster.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::Endpoint;
use crate::model::{EndpointAddress, HashTable};

/// Sizes of Maglev's table when nobody says: primes, the last being Envoy's, the first small enough for a sidecar that
/// knows many clusters.
const SIZES: [u32; 3] = [1_021, 8_191, 65_537];
/// Slots per endpoint that keep the spread even to about a percent.
const SLOTS_PER_ENDPOINT: usize = 100;
/// The most points of a ring (4 MiB).
const LARGEST_RING: u32 = 1 << 18;

/// Which endpoint owns which hashes.
#[derive(Debug)]
pub(super) enum Table {
    /// Sorted by the first; an endpoint owns what lies before its points.
    Ring(Box<[(u64, u32)]>),
    /// An endpoint per slot.
    Maglev(Box<[u32]>),
}

impl Table {
    pub(super) fn new(kind: HashTable, endpoints: &[Arc<Endpoint>]) -> Self {
        match kind {
            HashTable::Ring { minimum_size } => Self::Ring(ring(minimum_size.min(LARGEST_RING), endpoints)),
            HashTable::Maglev { size } => {
                let size = size.filter(|size| HashTable::takes(*size));
                Self::Maglev(fill(size.unwrap_or_else(|| fitting(endpoints.len())), endpoints))
            }
        }
    }

    /// The endpoint of `hash`, or if it is not usable the next that is, in an order that depends on the hash alone.
    pub(super) fn find(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (count, start) = match self {
            Self::Ring(points) => (points.len(), points.partition_point(|(point, _)| *point < hash)),
            Self::Maglev(slots) => (slots.len(), to_usize(hash % (slots.len() as u64).max(1))),
        };
        let owner = |at: usize| match self {
            Self::Ring(points) => points[at].1 as usize,
            Self::Maglev(slots) => slots[at] as usize,
        };
        (start..start + count).map(|at| owner(at % count)).find(|&at| usable(at))
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Points in proportion to the weights, each endpoint at least one.
fn ring(size: u32, endpoints: &[Arc<Endpoint>]) -> Box<[(u64, u32)]> {
    let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight())).sum();
    let mut points = Vec::with_capacity(size as usize + endpoints.len());
    for (at, endpoint) in (0_u32..).zip(endpoints) {
        let name = name(endpoint);
        let own = (u64::from(size) * u64::from(endpoint.weight())).div_ceil(total.max(1)).max(1);
        points.extend((0..own).map(|point| (xxh64(format!("{name}_{point}").as_bytes(), 0), at)));
    }
    points.sort_unstable();
    points.into()
}

fn fitting(endpoints: usize) -> u32 {
    let wanted = endpoints * SLOTS_PER_ENDPOINT;
    SIZES.into_iter().find(|&size| size as usize >= wanted).unwrap_or(SIZES[2])
}

/// Each endpoint in turn takes the next free slot of its own permutation; heavier ones take more turns.
fn fill(size: u32, endpoints: &[Arc<Endpoint>]) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let heaviest = endpoints.iter().map(|endpoint| endpoint.weight()).max().unwrap_or(1);
    let mut slots = vec![FREE; if endpoints.is_empty() { 0 } else { size as usize }].into_boxed_slice();
    let mut permutations: Vec<Permutation> =
        endpoints.iter().map(|each| Permutation::of(each, size)).collect();
    let mut left = slots.len();
    while left > 0 {
        for (at, permutation) in (0_u32..).zip(&mut permutations) {
            permutation.credit += u64::from(endpoints[at as usize].weight());
            if permutation.credit < u64::from(heaviest) || left == 0 {
                continue;
            }
            permutation.credit -= u64::from(heaviest);
            let free = permutation.find(|&slot| slots[slot] == FREE);
            slots[free.unwrap_or(0)] = at;
            left -= 1;
        }
    }
    slots
}

fn name(endpoint: &Endpoint) -> String {
    match &endpoint.model.address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}

/// All slots once, in an order of the endpoint's own: the size is a prime.
struct Permutation {
    offset: u64,
    skip: u64,
    size: u64,
    credit: u64,
}

impl Permutation {
    fn of(endpoint: &Endpoint, size: u32) -> Self {
        let (name, size) = (name(endpoint), u64::from(size));
        let (offset, skip) = (xxh64(name.as_bytes(), 0) % size, xxh64(name.as_bytes(), 1) % (size - 1) + 1);
        Self { offset, skip, size, credit: 0 }
    }
}

impl Iterator for Permutation {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.offset;
        self.offset = (at + self.skip) % self.size;
        Some(to_usize(at))
    }
}
