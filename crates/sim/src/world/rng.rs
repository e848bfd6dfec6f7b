//! Random numbers that a seed determines, the same on every machine and in every version.
//!
//! xoshiro256** by Blackman and Vigna (public domain, prng.di.unimi.it), seeded by splitmix64. Not for secrets.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Rng {
        let mut state = seed;
        let mut splitmix = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng([splitmix(), splitmix(), splitmix(), splitmix()])
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number below `n` (0 when `n` is 0), as good as evenly distributed for small `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// [`Rng::below`] for lengths.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// True in `permyriad` of 10,000 cases.
    pub fn chance(&mut self, permyriad: u32) -> bool {
        permyriad > 0 && self.below(10_000) < u64::from(permyriad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_fixed() {
        // splitmix64 of seed 0 begins 0xe220a8397b1dcdaf, …: the reference implementation's values.
        assert_eq!(Rng::new(0).0[0], 0xe220_a839_7b1d_cdaf);
        let mut a = Rng::new(7);
        let mut b = a.clone();
        assert!((0..100).all(|_| a.draw() == b.draw()));
        assert!((0..1000).all(|_| a.below(3) < 3));
        assert!((0..1000).all(|_| !a.chance(0) && a.chance(10_000)));
    }
}
