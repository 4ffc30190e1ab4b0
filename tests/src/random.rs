//! Numbers that differ from run to run, and can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence of numbers (xorshift); the same seed gives the same one.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// `BPFMAN_TEST_SEED`, else from the clock. The seed is printed, so that a failure can be had again.
    #[must_use]
    pub fn seeded() -> Self {
        let given = std::env::var("BPFMAN_TEST_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.unwrap_or_default().subsec_nanos()) | 1
        });
        eprintln!("BPFMAN_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next number, from 0 up to but not 1.
    pub fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let number = u32::try_from(self.0 >> 40).unwrap_or_default();
        f64::from(number) / f64::from(1 << 24)
    }
}
