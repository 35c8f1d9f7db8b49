//! Which accounts a round of transfers touches: uniform, or by Zipf's law; reproducible.
//!
//! In: a seed. Out: account numbers below [`ACCOUNTS`]. A module of the benches, not a bench.

/// How many accounts there are.
pub const ACCOUNTS: u64 = 10_000;

/// A reproducible stream: xorshift64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Accounts by Zipf's law: the k-th is picked in proportion to `k^-s`.
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// The law with exponent `s`.
    pub fn new(s: f64) -> Self {
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "ten thousand accounts")]
        let weights = (1..=ACCOUNTS).map(|k| (k as f64).powf(-s));
        let cumulative = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    /// One account.
    pub fn pick(&self, random: &mut Random) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
        let unit = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let at = unit * self.cumulative.last().copied().unwrap_or(1.0);
        self.cumulative.partition_point(|sum| *sum < at) as u64
    }
}
