//! Multiply-adds in f32 each second, in registers: no memory is touched.
//!
//! The instruction is the kernels' own: `vfmadd` on 16 (AVX-512) or 8 (AVX2) values, or what the compiler makes of a
//! product and a sum. Each counts two operations a value.

use std::hint::black_box;

use super::{CHAINS, DURATION, best_of};
use crate::pool::Pool;
use crate::simd::{Isa, Kernel, Simd};

/// f32 operations a second (a multiply-add is two) of all threads of `pool` together. Takes 0.2 s.
pub fn f32_peak(isa: Isa, pool: &Pool) -> f64 {
    const ROUNDS: usize = 200_000;
    let lanes = isa.run(Multiply { rounds: 0 }).1;
    let pass = || {
        pool.run(|_, _| {
            black_box(isa.run(Multiply { rounds: black_box(ROUNDS) }));
        });
    };
    let flops = 2 * ROUNDS * CHAINS * lanes * pool.threads();
    flops as f64 / best_of(DURATION, pass).as_secs_f64()
}

/// Multiply-adds in registers.
struct Multiply {
    rounds: usize,
}

impl Kernel for Multiply {
    /// The sum, and the lanes of a vector.
    type Output = (f32, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, usize) {
        let factor = simd.splat(black_box(0.999));
        let addend = simd.splat(black_box(0.001));
        let mut sums = [simd.zero(); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.fma(*sum, factor, addend);
            }
        }
        let mut total = simd.zero();
        for sum in sums {
            total = simd.add(total, sum);
        }
        (simd.sum(total), S::LANES)
    }
}
