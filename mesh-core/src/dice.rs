//! Randomness as an argument: a small seeded generator that pure code is handed.
//!
//! Fast, not secret: never for keys, nonces or identifiers that must not be guessed.

/// A seeded generator; the same seed rolls the same numbers.
#[derive(Debug, Clone)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// A generator whose rolls follow from `seed` alone.
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number, uniform over the whole of `u32`.
    pub fn roll(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// A number, uniform over `0..limit`; zero when `limit` is zero.
    pub fn below(&mut self, limit: u32) -> u32 {
        if limit == 0 { 0 } else { self.0.u32(..limit) }
    }

    /// A number, uniform over the whole of `u64`.
    pub fn wide(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number uniform over the whole of `u64`, scaled to `0..limit`; zero when `limit` is zero.
    pub const fn scale(number: u64, limit: u64) -> u64 {
        ((number as u128 * limit as u128) >> 64) as u64
    }

    /// As [`Dice::below`], for sums that may exceed `u32`.
    pub fn below_wide(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.0.u64(..limit) }
    }
}
