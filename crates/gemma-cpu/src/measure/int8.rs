//! Multiply-adds of bytes into i32 sums each second, in registers: no memory is touched.
//!
//! Every way that this processor has is measured, since which is best differs: `vpdpbusd` on 512 or 256 bits counts 64
//! or 32 multiply-adds; `vpmaddubsw`, `vpmaddwd` and `vpaddd` together count as many; `smmla` counts 32, `sdot` 16, `smull`
//! and `sadalp` together 8. Whether sums saturate is not looked at: these are times, not results.

use std::hint::black_box;

use super::{CHAINS, DURATION, best_of};
use crate::pool::Pool;
use crate::simd::Isa;

/// Multiply-adds of one call of a kernel of `rounds` rounds, for each chain and round.
type Round = fn(usize) -> i32;

/// Rounds of one pass: less than a millisecond, much more than a barrier.
const ROUNDS: usize = 100_000;

/// What one instruction, or group of instructions, reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int8Peak {
    /// Its name in reports.
    pub instruction: &'static str,
    /// Operations a second, a multiply-add being two.
    pub operations: f64,
}

/// A way to multiply bytes.
#[derive(Clone, Copy)]
struct Way {
    instruction: &'static str,
    /// Multiply-adds in a chain's step.
    products: usize,
    kernel: Round,
}

/// The fastest of [`int8_peaks`]. Takes about 0.2 s.
pub fn int8_peak(isa: Isa, pool: &Pool) -> Int8Peak {
    let better = |a: Int8Peak, b: Int8Peak| if b.operations > a.operations { b } else { a };
    let none = Int8Peak { instruction: "none", operations: 0.0 };
    int8_peaks(isa, pool).into_iter().fold(none, better)
}

/// Every way that this processor has to multiply bytes within `isa`: a peak of instructions that the kernels must not
/// use would be no peak of theirs. All threads of `pool` together; about 0.2 s in all.
pub fn int8_peaks(isa: Isa, pool: &Pool) -> Vec<Int8Peak> {
    let ways = ways(isa);
    let duration = DURATION / ways.len() as u32;
    let measure = |way: &Way| {
        let pass = || {
            pool.run(|_, _| {
                black_box((way.kernel)(black_box(ROUNDS)));
            });
        };
        let operations = 2 * ROUNDS * CHAINS * way.products * pool.threads();
        let seconds = best_of(duration, pass).as_secs_f64();
        Int8Peak { instruction: way.instruction, operations: operations as f64 / seconds }
    };
    ways.iter().map(measure).collect()
}

fn ways(isa: Isa) -> Vec<Way> {
    let mut ways = vec![Way { instruction: "portable", products: 2 * LANES, kernel: portable }];
    #[cfg(target_arch = "x86_64")]
    x86::add(isa, &mut ways);
    #[cfg(target_arch = "aarch64")]
    aarch64::add(isa, &mut ways);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let Isa::Portable(_) = isa;
    // Where there are others, plain Rust is what nobody would use.
    if ways.len() > 1 {
        ways.remove(0);
    }
    ways
}

/// Sums of a portable vector.
const LANES: usize = 8;

/// Pairs of 16-bit products, which compilers know as one instruction on most processors. Each factor depends on the
/// sum, so that no product can be computed once for all rounds.
fn portable(rounds: usize) -> i32 {
    let factors: [i16; 2 * LANES] = black_box([3; 2 * LANES]);
    let mut sums = [[1_i32; LANES]; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in 0..LANES {
                let low = i32::from(sum[lane] as i16) * i32::from(factors[2 * lane]);
                let high = i32::from((sum[lane] >> 16) as i16) * i32::from(factors[2 * lane + 1]);
                sum[lane] = sum[lane].wrapping_add(low.wrapping_add(high));
            }
        }
    }
    sums.iter().flatten().fold(0, |total, sum| total.wrapping_add(*sum))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same with the instructions of x86-64.

    #[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, Way};
    use crate::simd::Isa;

    /// Adds what the processor has and `isa` allows.
    pub(super) fn add(isa: Isa, ways: &mut Vec<Way>) {
        if matches!(isa, Isa::Portable(_)) {
            return;
        }
        let mut way = |there: bool, instruction, products, kernel| {
            if there {
                ways.push(Way { instruction, products, kernel });
            }
        };
        way(is_x86_feature_detected!("avx2"), "vpmaddubsw 256", 32, maddubs_256);
        if matches!(isa, Isa::Avx2(_)) {
            return;
        }
        let avx_vnni = is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2");
        way(avx_vnni && !matches!(isa, Isa::Avx512(_)), "AVX-VNNI vpdpbusd 256", 32, avx_vnni_256);
        if matches!(isa, Isa::AvxVnni(_)) {
            return;
        }
        let bw = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        way(bw, "vpmaddubsw 512", 64, maddubs_512);
        let vnni = bw && matches!(isa, Isa::Avx512Vnni(_)) && is_x86_feature_detected!("avx512vnni");
        way(vnni, "AVX-512 vpdpbusd 512", 64, vnni_512);
        way(vnni && is_x86_feature_detected!("avx512vl"), "AVX-512 vpdpbusd 256", 32, vnni_256);
    }

    /// A function `rounds -> sum` that runs `$step` on every chain, compiled for the features; `$step` sees `sum` and
    /// two factors.
    macro_rules! kernel {
        ($name:ident, $features:literal, $splat:ident, $add:ident, $first:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
            fn $name(rounds: usize) -> i32 {
                #[target_feature(enable = $features)]
                fn inner(rounds: usize) -> i32 {
                    let ($a, $b) = ($splat(black_box(0x0102_0301)), $splat(black_box(0x0001_0001)));
                    let mut sums = [$splat(black_box(1)); CHAINS];
                    for _ in 0..rounds {
                        for sum in &mut sums {
                            let $sum = *sum;
                            *sum = $step;
                        }
                    }
                    let mut total = $splat(0);
                    for sum in sums {
                        total = $add(total, sum);
                    }
                    $first(total)
                }
                // SAFETY: `add` hands the function out only where the processor has these features.
                unsafe { inner(rounds) }
            }
        };
    }

    #[target_feature(enable = "avx512f")]
    fn first_of_512(vector: __m512i) -> i32 {
        _mm512_cvtsi512_si32(vector)
    }

    // The first factor of `vpmaddubsw` is the sum itself: with two constants the compiler would multiply once, before
    // the loop. The chain's latency is then that of all three, which 12 chains still cover.
    kernel!(maddubs_256, "avx2", _mm256_set1_epi32, _mm256_add_epi32, _mm256_cvtsi256_si32, |sum, a, b| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(sum, a), b))
    });
    kernel!(
        maddubs_512,
        "avx512f,avx512bw",
        _mm512_set1_epi32,
        _mm512_add_epi32,
        first_of_512,
        |sum, a, b| _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(sum, a), b))
    );
    kernel!(
        avx_vnni_256,
        "avx2,avxvnni",
        _mm256_set1_epi32,
        _mm256_add_epi32,
        _mm256_cvtsi256_si32,
        |sum, a, b| _mm256_dpbusd_avx_epi32(sum, a, b)
    );
    kernel!(
        vnni_256,
        "avx2,avx512f,avx512vl,avx512vnni",
        _mm256_set1_epi32,
        _mm256_add_epi32,
        _mm256_cvtsi256_si32,
        |sum, a, b| _mm256_dpbusd_epi32(sum, a, b)
    );
    kernel!(
        vnni_512,
        "avx512f,avx512bw,avx512vnni",
        _mm512_set1_epi32,
        _mm512_add_epi32,
        first_of_512,
        |sum, a, b| _mm512_dpbusd_epi32(sum, a, b)
    );
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    //! The same with the instructions of AArch64.

    use std::arch::aarch64::{int8x16_t, int32x4_t, vaddq_s32, vaddvq_s32, vdupq_n_s8, vdupq_n_s32};
    use std::arch::asm;
    use std::hint::black_box;

    use super::{CHAINS, Way};
    use crate::simd::Isa;

    /// Adds what `isa` has, which proves that the processor has it.
    pub(super) fn add(isa: Isa, ways: &mut Vec<Way>) {
        if matches!(isa, Isa::Portable(_)) {
            return;
        }
        ways.push(Way { instruction: "smull, sadalp", products: 8, kernel: smull });
        if matches!(isa, Isa::Neon(_)) {
            return;
        }
        ways.push(Way { instruction: "sdot", products: 16, kernel: sdot });
        if matches!(isa, Isa::NeonDot(_)) {
            return;
        }
        ways.push(Way { instruction: "smmla", products: 32, kernel: smmla });
    }

    /// A function `rounds -> sum` that runs the instructions on every chain, compiled for the features.
    macro_rules! kernel {
        ($name:ident, $features:literal, $($instruction:literal),+) => {
            fn $name(rounds: usize) -> i32 {
                #[target_feature(enable = $features)]
                fn step(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
                    // SAFETY: the instructions read and write the named registers only, and the features are enabled.
                    unsafe {
                        asm!(
                            $($instruction,)+
                            // A place for products of 16 bits.
                            "/* {products:v} */",
                            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b, products = out(vreg) _,
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                    sum
                }

                #[target_feature(enable = $features)]
                fn inner(rounds: usize) -> i32 {
                    let (a, b) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(1)));
                    let mut sums = [vdupq_n_s32(black_box(1)); CHAINS];
                    for _ in 0..rounds {
                        for sum in &mut sums {
                            *sum = step(*sum, a, b);
                        }
                    }
                    let mut total = vdupq_n_s32(0);
                    for sum in sums {
                        total = vaddq_s32(total, sum);
                    }
                    vaddvq_s32(total)
                }
                // SAFETY: `add` hands the function out only where the processor has these features.
                unsafe { inner(rounds) }
            }
        };
    }

    kernel!(smull, "neon", "smull {products:v}.8h, {a:v}.8b, {b:v}.8b", "sadalp {sum:v}.4s, {products:v}.8h");
    kernel!(sdot, "neon,dotprod", "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b");
    kernel!(smmla, "neon,dotprod,i8mm", "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b");
}
