//! A choice by weight.

use crate::dice::Dice;
use crate::model::Weight;

/// Items with relative weights. A single item ignores its weight (semantics.md 6).
#[derive(Debug, Clone)]
pub struct Weighted<T> {
    items: Box<[T]>,
    /// Running sums of the weights.
    sums: Box<[u64]>,
}

impl<T> Weighted<T> {
    /// From items and weights.
    pub fn new(weighted: impl IntoIterator<Item = (T, Weight)>) -> Self {
        let mut sum = 0;
        let add = |(item, weight): (T, Weight)| {
            sum += u64::from(weight.0);
            (item, sum)
        };
        let (items, sums): (Vec<_>, Vec<_>) = weighted.into_iter().map(add).unzip();
        Self { items: items.into(), sums: sums.into() }
    }

    /// All items.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The index of one, by weight. `None` when there is none, or when several all weigh nothing.
    pub fn pick(&self, dice: &mut Dice) -> Option<usize> {
        self.at(|| dice.wide())
    }

    /// As [`Weighted::pick`], with a number uniform over the whole of `u64` in place of the dice: the same number gives
    /// the same item, and a changed weight moves as few numbers as can be between two items.
    pub fn at(&self, number: impl FnOnce() -> u64) -> Option<usize> {
        match *self.sums {
            [] => None,
            [_] => Some(0),
            [.., 0] => None,
            [.., total] => {
                let at = Dice::scale(number(), total);
                Some(self.sums.partition_point(|&sum| sum <= at))
            }
        }
    }

    /// The share of an item, of the whole.
    pub fn share(&self, at: usize) -> (u64, u64) {
        let before = at.checked_sub(1).map_or(0, |before| self.sums[before]);
        (self.sums[at] - before, self.sums.last().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_converge_to_the_weights(weights in prop::collection::vec(0_u32..1000, 2..6), seed: u64) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let split = Weighted::new(weights.iter().map(|&weight| ((), Weight(weight))));
            let (mut dice, rolls) = (Dice::seeded(seed), 20_000);
            let mut seen = vec![0_u32; weights.len()];
            for _ in 0..rolls {
                seen[split.pick(&mut dice).expect("some weight")] += 1;
            }
            for (seen, weight) in seen.into_iter().zip(weights) {
                let (seen, wanted) = (f64::from(seen) / f64::from(rolls), f64::from(weight) / f64::from(total));
                prop_assert!((seen - wanted).abs() < 0.03, "{seen} instead of {wanted}");
                prop_assert!(weight > 0 || seen == 0.0);
            }
        }
    }

    /// Semantics 6.
    #[test]
    fn a_single_item_ignores_its_weight_and_several_weightless_ones_serve_nobody() {
        let split = |weights: &[u32]| Weighted::new(weights.iter().map(|&weight| ((), Weight(weight))));
        assert_eq!(split(&[0]).pick(&mut Dice::seeded(1)), Some(0));
        assert_eq!(split(&[0, 0]).pick(&mut Dice::seeded(1)), None);
        assert_eq!(split(&[]).pick(&mut Dice::seeded(1)), None);
        assert_eq!(split(&[90, 10]).share(1), (10, 100));
    }
}
