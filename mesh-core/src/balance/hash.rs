//! Consistent hashing: Maglev's table (Eisenbud et al., NSDI 2016 §3.4), used for ring hash as well.
//!
//! Both promise the same to the operator (one key, one endpoint; few keys move when endpoints come and go), and Maglev
//! spreads keys more evenly in less memory. `minimumRingSize` raises the table's size.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::Endpoint;
use crate::model::{ConsistentHash, EndpointAddress};

/// Table sizes: primes, the first being small enough for a sidecar that knows many clusters.
const SIZES: [u32; 4] = [1_021, 8_191, 65_537, 655_373];

/// Slots per endpoint that keep the spread even to about a percent.
const SLOTS_PER_ENDPOINT: usize = 100;

/// Which endpoint owns which slot.
#[derive(Debug)]
pub struct Maglev {
    slots: Box<[u32]>,
}

impl Maglev {
    pub(super) fn new(policy: &ConsistentHash, endpoints: &[Arc<Endpoint>]) -> Self {
        let wanted =
            (endpoints.len() * SLOTS_PER_ENDPOINT).max(policy.minimum_ring_size.unwrap_or(0) as usize);
        let size = SIZES.into_iter().find(|&size| size as usize >= wanted).unwrap_or(SIZES[3]);
        Self { slots: fill(size, endpoints) }
    }

    /// The endpoint of `hash`, then the others in an order that depends on the hash alone.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let count = self.slots.len();
        let start = usize::try_from(hash % (count as u64).max(1)).unwrap_or(0);
        (0..count).map(move |step| self.slots[(start + step) % count] as usize)
    }
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
            permutation.credit += endpoints[at as usize].weight();
            if permutation.credit < heaviest || left == 0 {
                continue;
            }
            permutation.credit -= heaviest;
            let free = permutation.find(|&slot| slots[slot] == FREE);
            slots[free.unwrap_or(0)] = at;
            left -= 1;
        }
    }
    slots
}

struct Permutation {
    offset: u64,
    skip: u64,
    size: u64,
    credit: u32,
}

impl Permutation {
    fn of(endpoint: &Endpoint, size: u32) -> Self {
        let name = match &endpoint.model.address {
            EndpointAddress::Socket(address) => address.to_string(),
            EndpointAddress::Name(host, port) => format!("{host}:{port}"),
        };
        let size = u64::from(size);
        let (offset, skip) = (xxh64(name.as_bytes(), 0) % size, xxh64(name.as_bytes(), 1) % (size - 1) + 1);
        Self { offset, skip, size, credit: 0 }
    }
}

impl Iterator for Permutation {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.offset;
        self.offset = (at + self.skip) % self.size;
        usize::try_from(at).ok()
    }
}
