//! Random numbers that are a pure function of a seed and a count.

/// SplitMix64 (Steele, Lea, Flood 2014): number n is a mix of `seed + n * 0x9E3779B97F4A7C15`, so a sequence can be
/// taken up at any point. The same on every machine. It stands here although `gemma-hal` has the mix too, because this
/// crate uses nothing of ours, and a sampler needs the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRng {
    seed: u64,
    drawn: u64,
}

impl CounterRng {
    /// The start of the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// How many numbers were drawn.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// The next 64 bits.
    pub fn next_bits(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut bits = self.seed.wrapping_add(self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// The next number of [0, 1), a multiple of 2⁻⁵³.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference() {
        // First outputs of Vigna's splitmix64.c for the seed 1234567.
        let mut rng = CounterRng::new(1_234_567);
        let drawn: [u64; 5] = std::array::from_fn(|_| rng.next_bits());
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, expected);
    }

    #[test]
    fn units_are_below_one() {
        let mut rng = CounterRng::new(7);
        let units: Vec<f64> = (0..10_000).map(|_| rng.next_unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = units.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
