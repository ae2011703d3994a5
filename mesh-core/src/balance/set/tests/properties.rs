//! What holds for every balancer, whatever the weights.

use proptest::prelude::*;

use super::*;

fn hashing(table: HashTable) -> LoadBalancer {
    LoadBalancer::ConsistentHash(ConsistentHash { key: HashKey::SourceAddress, table })
}

const RING: HashTable = HashTable::Ring { minimum_size: 8_192 };
const MAGLEV: HashTable = HashTable::Maglev { size: Some(8_191) };

/// The share of each endpoint in so many picks, each with a hash of its own.
fn shares(balancer: &LoadBalancer, weights: &[u32], seed: u64, count: u32) -> Vec<f64> {
    let set = made(models(weights), balancer.clone(), None);
    let (cluster, cursor, mut dice) = (cluster(balancer.clone()), Cursor::default(), Dice::seeded(seed));
    let mut seen = vec![0_u32; weights.len()];
    for _ in 0..count {
        let hash = Some(dice.wide());
        let how = Pick::first(Instant::now(), &mut dice, hash);
        let picked = set.pick(&cluster, CALM, &cursor, how).unwrap();
        seen[set.endpoints().iter().position(|each| each.key() == picked.key()).unwrap()] += 1;
    }
    seen.into_iter().map(|seen| f64::from(seen) / f64::from(count)).collect()
}

/// The endpoint of a hash.
fn owner(set: &EndpointSet, balancer: &LoadBalancer, hash: u64) -> EndpointKey {
    let mut dice = Dice::seeded(0);
    let how = Pick::first(Instant::now(), &mut dice, Some(hash));
    set.pick(&cluster(balancer.clone()), CALM, &Cursor::default(), how).unwrap().key().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_balancer_follows_the_weights(weights in prop::collection::vec(1_u32..20, 2..8), seed: u64) {
        let total: u32 = weights.iter().sum();
        let simple = [LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, LoadBalancer::Random];
        for balancer in simple.into_iter().chain([RING, MAGLEV].map(hashing)) {
            let seen = shares(&balancer, &weights, seed, 5_000);
            for (seen, weight) in seen.into_iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(total);
                prop_assert!((seen - wanted).abs() < 0.04, "{balancer:?}: {seen} instead of {wanted}");
            }
        }
    }

    /// Turns are taken, not drawn: after as many picks as the weights come to, each has had exactly its share.
    #[test]
    fn round_robin_is_exact(weights in prop::collection::vec(1_u32..20, 1..8), seed: u64, rounds in 1_u32..5) {
        let total: u32 = weights.iter().sum();
        let seen = shares(&LoadBalancer::RoundRobin, &weights, seed, total * rounds);
        let wanted: Vec<_> = weights.iter().map(|weight| f64::from(*weight) / f64::from(total)).collect();
        prop_assert!(seen.iter().zip(&wanted).all(|(seen, wanted)| (seen - wanted).abs() < 1e-9), "{seen:?}");
    }

    /// All keys of the endpoint that leaves must move; of the others at most its share does.
    #[test]
    fn a_removal_moves_few_other_keys(count in 2_usize..20, leaving: prop::sample::Index, seed: u64) {
        const KEYS: u32 = 1_000;
        for balancer in [RING, MAGLEV].map(hashing) {
            let mut left = models(&vec![1; count]);
            let before = made(left.clone(), balancer.clone(), None);
            let gone = before.endpoints()[leaving.index(count)].key().clone();
            left.remove(leaving.index(count));
            let after = made(left, balancer.clone(), None);
            let mut dice = Dice::seeded(seed);
            let moved = (0..KEYS).map(|_| dice.wide()).filter(|&key| {
                let old = owner(&before, &balancer, key);
                old != gone && old != owner(&after, &balancer, key)
            });
            let (moved, share) = (f64::from(u32::try_from(moved.count()).unwrap()), 1.0 / count as f64);
            prop_assert!(moved / f64::from(KEYS) < share + 0.05, "{balancer:?}: {moved} of {KEYS}");
        }
    }
}
