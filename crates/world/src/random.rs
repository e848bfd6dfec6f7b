//! Randomness as the core sees it.

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `buf`. The real one is cryptographically strong; a failing operating system source aborts the process,
    /// since an incarnation that repeats would make two different lines look like one.
    fn fill(&self, buf: &mut [u8]);

    /// 128 random bits.
    fn u128(&self) -> u128 {
        let mut b = [0; 16];
        self.fill(&mut b);
        u128::from_le_bytes(b)
    }
}
