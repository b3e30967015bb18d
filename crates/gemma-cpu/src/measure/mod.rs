//! What the machine can do at best: bytes read from memory, multiply-adds in f32 and in bytes, each second.
//!
//! Reports divide by these figures. Measured with the instruction set and the threads that the kernels use, best of
//! several passes, because everything that disturbs a pass makes it slower. A multiply-add counts as two operations.

mod bandwidth;
mod float;
mod int8;

use std::time::{Duration, Instant};

use crate::pool::{Pool, PoolError};
use crate::simd::Isa;

pub use bandwidth::read_bandwidth;
pub use float::f32_peak;
pub use int8::{Int8Peak, int8_peak, int8_peaks};

/// Each measurement goes on for at least this long.
const DURATION: Duration = Duration::from_millis(200);

/// Independent chains of multiply-adds: more than latency times units of current processors.
const CHAINS: usize = 12;

/// Everything a roofline needs, measured one after the other on an idle machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaks {
    /// Bytes a second that all threads together read from memory.
    pub read_bandwidth: f64,
    /// f32 operations a second of all threads together.
    pub f32_flops: f64,
    /// f32 operations a second of one thread.
    pub f32_flops_one_thread: f64,
    /// Operations a second on bytes of all threads together.
    pub int8: Int8Peak,
    /// Operations a second on bytes of one thread.
    pub int8_one_thread: Int8Peak,
}

impl Peaks {
    /// Measures all of them, which takes about 1.2 s and the memory of [`read_bandwidth`].
    ///
    /// # Errors
    /// Those of [`Pool::new`], which one thread does not meet in practice.
    pub fn measure(isa: Isa, pool: &Pool) -> Result<Self, PoolError> {
        let one = Pool::new(1)?;
        Ok(Self {
            read_bandwidth: read_bandwidth(isa, pool),
            f32_flops: f32_peak(isa, pool),
            f32_flops_one_thread: f32_peak(isa, &one),
            int8: int8_peak(isa, pool),
            int8_one_thread: int8_peak(isa, &one),
        })
    }
}

/// The shortest of the passes that fit in `duration`, at least three.
fn best_of(duration: Duration, pass: impl Fn()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    let mut passes = 0;
    while passes < 3 || start.elapsed() < duration {
        let pass_start = Instant::now();
        pass();
        best = best.min(pass_start.elapsed());
        passes += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_slowest_machine_and_less_than_any() {
        let pool = Pool::new(1).unwrap();
        for isa in Isa::available() {
            let name = isa.name();
            let bytes = read_bandwidth(isa, &pool);
            assert!((1e8..1e12).contains(&bytes), "{name}: {bytes} bytes a second");
            let flops = f32_peak(isa, &pool);
            assert!((1e8..1e13).contains(&flops), "{name}: {flops} f32 operations a second");
            let all = int8_peaks(isa, &pool);
            for peak in &all {
                let operations = peak.operations;
                let what = peak.instruction;
                assert!((1e8..1e14).contains(&operations), "{name}: {operations} of {what} a second");
            }
            let names: Vec<_> = all.iter().map(|peak| peak.instruction).collect();
            assert!(names.contains(&int8_peak(isa, &pool).instruction), "{name}: {names:?}");
        }
    }

    #[test]
    fn portable_kernels_are_held_against_portable_peaks() {
        let pool = Pool::new(1).unwrap();
        let portable = Isa::from_name("portable").unwrap();
        assert_eq!(int8_peak(portable, &pool).instruction, "portable");
    }
}
