//! [`Simd`]: the vector operations that kernels are written in, one implementation an instruction set.
//!
//! A value of an implementing type is a capability: it exists only where the processor has the instructions, so its
//! methods are safe. Memory is touched only through references to whole blocks of [`BLOCK`] values, so kernels built
//! on this trait contain no `unsafe` at all.

use gemma_hal::block::BLOCK;

/// Vectors of `LANES` f32 values and what can be done with them.
///
/// Methods that take a block and a number `v` work on values `v * LANES .. (v + 1) * LANES` of it.
/// Every method must be `#[inline(always)]`, so that it is compiled with its caller's instruction set.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector.
    type F: Copy;
    /// Values in a vector.
    const LANES: usize;
    /// Vectors in a block.
    const VECTORS: usize = BLOCK / Self::LANES;
    /// Inputs that fit in registers next to 4 rows of weights: 4 accumulators for each.
    const TOKENS: usize;
    /// The lanes in the order in which the leaves of the tree stand by which [`Simd::sums`] adds them: first with
    /// second, third with fourth, then those sums, and so on.
    const SUM_ORDER: &'static [usize];

    /// All values zero.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }
    /// All values the same.
    fn splat(self, value: f32) -> Self::F;

    /// Values of an f32 block in memory order of this machine.
    fn load(self, block: &[f32; BLOCK], v: usize) -> Self::F;
    /// Writes values of a block.
    fn store(self, block: &mut [f32; BLOCK], v: usize, values: Self::F);
    /// Stored f32 values.
    fn f32(self, block: &[u8; 4 * BLOCK], v: usize) -> Self::F;
    /// Stored f16 values.
    fn f16(self, block: &[u8; 2 * BLOCK], v: usize) -> Self::F;
    /// Stored bf16 values.
    fn bf16(self, block: &[u8; 2 * BLOCK], v: usize) -> Self::F;
    /// Values of a `BlockQ8_0`, exactly.
    fn q8_0(self, block: &[u8; 34], v: usize) -> Self::F;
    /// Values of a `BlockQ4_0`, exactly.
    fn q4_0(self, block: &[u8; 18], v: usize) -> Self::F;

    /// Signed bytes.
    fn i8(self, block: &[u8; BLOCK], v: usize) -> Self::F;
    /// Nibbles less 8: value `i` in the low half of byte `i`, value `i + 16` in its high half.
    fn i4(self, block: &[u8; BLOCK / 2], v: usize) -> Self::F;
    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` when either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` when either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// Two to the power of `a`, an integer in −126 to 127.
    fn exp2_int(self, a: Self::F) -> Self::F;
    /// The magnitude of `a` with the sign of `sign`.
    fn copy_sign(self, a: Self::F, sign: Self::F) -> Self::F;

    /// The sums of four vectors, each added up in the same order.
    fn sums(self, vectors: [Self::F; 4]) -> [f32; 4];

    /// Asks for the cache line at `address`, which need not be valid.
    fn prefetch(self, address: *const u8);

    /// The sum of a vector, in the order of [`Simd::sums`].
    #[inline(always)]
    fn sum(self, vector: Self::F) -> f32 {
        self.sums([vector, self.zero(), self.zero(), self.zero()])[0]
    }
}

/// `N` items of `block` from `start` on.
///
/// The check disappears where `start` is known, which is everywhere in this crate once loops are unrolled.
#[inline(always)]
pub(super) fn part<const N: usize, T>(block: &[T], start: usize) -> &[T; N] {
    block[start..].first_chunk().expect("part lies in its block")
}

/// [`part`], to write to.
#[inline(always)]
pub(super) fn part_mut<const N: usize, T>(block: &mut [T], start: usize) -> &mut [T; N] {
    block[start..].first_chunk_mut().expect("part lies in its block")
}
