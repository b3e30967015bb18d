//! Linear layers: `output[t][r] = Σ_c weight[r][c] · input[t][c]`, over weights as they are stored.
//!
//! Few inputs (decode): a tile of rows is decoded in registers as it streams by. Many inputs (prefill): a panel of
//! rows is decoded into scratch memory once and used for all of them. Both sum in the same order, so an output does
//! not depend on how many inputs there are, nor on the number of threads.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use gemma_hal::block::BLOCK;
use gemma_hal::{DType, Weight, block};

use super::format::{self, Format};
use super::kernels::Kernels;
use super::lanes::Simd;
use super::operands::{Inputs, Matrix, Target};
use super::quantised;
use super::tile::{self, Chunk, DEPTH, ROWS};
use super::{Isa, Kernel};
use crate::pool::Pool;

/// Rows decoded together into scratch memory: 64 KiB, which fits the second-level cache beside the inputs.
const PANEL_ROWS: usize = 16;

/// Multiplications below which waking the other threads costs more than it saves.
const SERIAL_WORK: usize = 1 << 15;

/// A weight and where its results go.
#[derive(Debug)]
pub struct Output<'a> {
    weight: &'a Weight,
    values: &'a mut [f32],
    stride: usize,
}

impl<'a> Output<'a> {
    /// Results of `weight` as a dense matrix `[inputs, weight.rows()]`.
    pub fn new(weight: &'a Weight, values: &'a mut [f32]) -> Self {
        let stride = weight.rows();
        Self { weight, values, stride }
    }

    /// Results whose rows begin `stride` values apart; what lies between is left alone.
    pub fn with_stride(weight: &'a Weight, values: &'a mut [f32], stride: usize) -> Self {
        Self { weight, values, stride }
    }
}

/// `output = input · weightᵀ` for an input `[n, columns]` and an output `[n, rows]`, both dense.
///
/// # Panics
/// When a slice does not have exactly that size.
pub fn linear(
    kernels: impl Into<Kernels>,
    pool: &Pool,
    weight: &Weight,
    input: &[f32],
    n: usize,
    output: &mut [f32],
) {
    assert_eq!(output.len(), n * weight.rows(), "output of {n} inputs and {} rows", weight.rows());
    linear_many(kernels, pool, &mut [Output::new(weight, output)], input, n);
}

/// Several weights that share one input, as one parallel region. An [`Isa`] for `kernels` means exact activations.
///
/// # Panics
/// When the weights have no columns or differ in them, when the input is not `[n, columns]`, or when an output is too short.
pub fn linear_many(
    kernels: impl Into<Kernels>,
    pool: &Pool,
    outputs: &mut [Output<'_>],
    input: &[f32],
    n: usize,
) {
    let kernels = kernels.into();
    let Some(columns) = outputs.first().map(|output| output.weight.columns()) else { return };
    assert_eq!(input.len(), n * columns, "input of {n} times {columns} values");
    assert!(columns > 0, "weights without columns");
    if n == 0 {
        return;
    }
    let mut work = 0;
    for output in outputs.iter() {
        let rows = output.weight.rows();
        assert_eq!(output.weight.columns(), columns, "weights that share an input");
        assert!(output.stride >= rows, "stride {} of {rows} rows", output.stride);
        assert!(rows == 0 || output.values.len() >= (n - 1) * output.stride + rows, "output of {n} inputs");
        work += rows * columns * n;
    }
    // Arrays of every length that plans have, so that nothing is allocated.
    match outputs {
        [] => {}
        [a] => run(kernels, pool, &[Part::of(a)], input, columns, work),
        [a, b] => run(kernels, pool, &[Part::of(a), Part::of(b)], input, columns, work),
        [a, b, c] => run(kernels, pool, &[Part::of(a), Part::of(b), Part::of(c)], input, columns, work),
        [a, b, c, d, more @ ..] => {
            run(kernels, pool, &[Part::of(a), Part::of(b), Part::of(c), Part::of(d)], input, columns, work);
            linear_many(kernels, pool, more, input, n);
        }
    }
}

/// [`linear`] for one input and the rows listed in `rows` only: `output[i]` is row `rows[i]` times the input.
///
/// # Panics
/// When the sizes of the slices do not fit, or a row does not exist.
pub fn linear_rows(
    kernels: impl Into<Kernels>,
    pool: &Pool,
    weight: &Weight,
    rows: &[u32],
    input: &[f32],
    output: &mut [f32],
) {
    assert_eq!(output.len(), rows.len(), "one output a row");
    assert_eq!(input.len(), weight.columns(), "one input");
    assert!(weight.columns() > 0, "weights without columns");
    assert!(rows.iter().all(|row| (*row as usize) < weight.rows()), "rows of the weight");
    let part = Part {
        matrix: Matrix::of(weight, Some(rows)),
        target: Target::new(output, rows.len()),
        rows: rows.len(),
    };
    run(kernels.into(), pool, &[part], input, weight.columns(), rows.len() * weight.columns());
}

/// Says which weights the next call of [`linear_many`] multiplies, so that threads that wait can ask memory for them.
pub fn foresee<'a>(pool: &Pool, weights: impl IntoIterator<Item = &'a Weight>) {
    let mut weights = weights.into_iter();
    let Some(first) = weights.next() else { return };
    let total = whole_panels(first.rows()) + weights.map(|weight| whole_panels(weight.rows())).sum::<usize>();
    pool.foresee(first.span(), first.row_stride(), total, quantised::PANEL_ROWS);
}

/// Rows that a weight counts for in a region: each starts on a whole panel of either kind.
fn whole_panels(rows: usize) -> usize {
    rows.next_multiple_of(quantised::PANEL_ROWS)
}

/// One weight of a region.
struct Part<'a> {
    matrix: Matrix<'a>,
    target: Target<'a>,
    rows: usize,
}

impl<'a> Part<'a> {
    fn of(output: &'a mut Output<'_>) -> Self {
        Self {
            matrix: Matrix::of(output.weight, None),
            target: Target::new(output.values, output.stride),
            rows: output.weight.rows(),
        }
    }
}

thread_local! {
    /// Inputs padded to whole chunks. Kept, so that a step of decode allocates nothing.
    static PADDED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// A panel of decoded rows, on each thread.
    static PANEL: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// A chunk that begins on a cache line: vectors that straddle two lines take twice as long to load.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(128))]
struct Aligned(Chunk);

/// Makes the scratch memory of the current thread, so that no product does it later.
pub(crate) fn reserve_scratch() {
    PANEL.with_borrow_mut(|scratch| scratch.resize(PANEL_ROWS * DEPTH, Aligned([0.0; BLOCK])));
}

/// Makes the inputs what the parts' kernels read, and runs all parts as one region.
fn run(kernels: Kernels, pool: &Pool, parts: &[Part<'_>], input: &[f32], columns: usize, work: usize) {
    let isa = kernels.isa;
    let rounded = |part: &Part<'_>| kernels.rounds_for(part.matrix.dtype);
    let plain = parts.iter().any(|part| !rounded(part));
    let with_floats = |rounded: Option<quantised::Inputs<'_>>| {
        let region = |inputs: Inputs<'_>| {
            run_region(pool, parts, work, |part, rows| match rounded {
                Some(rounded) if kernels.rounds_for(part.matrix.dtype) => {
                    quantised::run_rows(isa, part.matrix, rows, rounded, part.target);
                }
                _ => run_rows(isa, part, rows, inputs),
            });
        };
        if plain { with_chunks(input, columns, region) } else { region(Inputs::new(&[], 1)) }
    };
    if parts.iter().any(rounded) {
        quantised::with_inputs(kernels, pool, input, columns, |inputs| with_floats(Some(inputs)));
    } else {
        with_floats(None);
    }
}

/// Pads the input to whole chunks if it needs to be.
fn with_chunks(input: &[f32], columns: usize, then: impl FnOnce(Inputs<'_>)) {
    if columns.is_multiple_of(BLOCK) {
        then(Inputs::new(input, columns / BLOCK));
    } else {
        PADDED.with_borrow_mut(|padded| {
            let width = columns.next_multiple_of(BLOCK);
            padded.clear();
            padded.resize(input.len() / columns * width, 0.0);
            for (padded, input) in padded.chunks_exact_mut(width).zip(input.chunks_exact(columns)) {
                padded[..columns].copy_from_slice(input);
            }
            then(Inputs::new(padded, width / BLOCK));
        });
    }
}

/// Calls `job` with every part and ranges of its rows, on all threads where that pays.
fn run_region(pool: &Pool, parts: &[Part<'_>], work: usize, job: impl Fn(&Part<'_>, Range<usize>) + Sync) {
    // Rows of all parts in one count.
    let total: usize = parts.iter().map(|part| whole_panels(part.rows)).sum();
    let region = |range: Range<usize>| {
        let mut start = 0;
        for part in parts {
            let first = range.start.saturating_sub(start).min(part.rows);
            let last = range.end.saturating_sub(start).min(part.rows);
            start += whole_panels(part.rows);
            if first < last {
                job(part, first..last);
            }
        }
    };
    if work < SERIAL_WORK { region(0..total) } else { pool.for_ranges(total, quantised::PANEL_ROWS, region) }
}

fn run_rows(isa: Isa, part: &Part<'_>, rows: Range<usize>, inputs: Inputs<'_>) {
    match part.matrix.dtype {
        DType::F32 => run_format(isa, product::<format::F32>(part, rows, inputs)),
        DType::F16 => run_format(isa, product::<format::F16>(part, rows, inputs)),
        DType::BF16 => run_format(isa, product::<format::BF16>(part, rows, inputs)),
        DType::Q8_0 => run_format(isa, product::<format::Q8_0>(part, rows, inputs)),
        DType::Q4_0 => run_format(isa, product::<format::Q4_0>(part, rows, inputs)),
        DType::Q6K | DType::Q5K | DType::Q5_0 | DType::Q4_1 | DType::Q4K => {
            run_stored(isa, &product::<Stored>(part, rows, inputs));
        }
    }
}

fn product<'a, F>(part: &Part<'a>, rows: Range<usize>, inputs: Inputs<'a>) -> Product<'a, F> {
    Product { matrix: part.matrix, rows, inputs, target: part.target, format: PhantomData }
}

fn run_format<F: Format>(isa: Isa, product: Product<'_, F>) {
    let whole_chunks = product.matrix.columns.is_multiple_of(BLOCK);
    if whole_chunks && product.inputs.count() <= isa.run(DirectInputs::<F>(PhantomData)) {
        isa.run(Direct(product));
    } else {
        product.panels(isa, |rows, depth, scratch| {
            isa.run(DecodePanel { product: &product, rows, depth, scratch });
        });
    }
}

/// Formats without vector code of their own, decoded by the plain functions of `gemma-hal`. Their rows end on a chunk.
struct Stored;

fn run_stored(isa: Isa, product: &Product<'_, Stored>) {
    let matrix = &product.matrix;
    let bytes = |chunks: usize| {
        matrix.dtype.row_bytes(chunks * BLOCK).expect("blocks of columns end on blocks of every format")
    };
    product.panels(isa, |rows, depth, scratch| {
        for (row, out) in rows.clone().zip(scratch.chunks_exact_mut(DEPTH)) {
            let stored = &matrix.row(row)[bytes(depth.start)..bytes(depth.end)];
            block::dequantise_row(matrix.dtype, stored, out[..depth.len()].as_flattened_mut());
        }
    });
}

/// Some rows of one weight times all inputs.
struct Product<'a, F> {
    matrix: Matrix<'a>,
    rows: Range<usize>,
    inputs: Inputs<'a>,
    target: Target<'a>,
    format: PhantomData<F>,
}

/// Inputs up to which decoding in registers, once for each tile of inputs, beats decoding into scratch memory.
struct DirectInputs<F>(PhantomData<F>);

impl<F: Format> Kernel for DirectInputs<F> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        // Measured. With few registers a tile is too narrow to decode blocks for.
        if F::BLOCKED && S::TOKENS < 4 { 4 } else { 32 }
    }
}

/// Decodes rows in registers, for inputs of whole chunks.
struct Direct<'a, F>(Product<'a, F>);

impl<F: Format> Kernel for Direct<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inputs = self.0.inputs.count();
        for row in self.0.rows.clone().step_by(ROWS) {
            let mut token = 0;
            while token < inputs {
                let left = inputs - token;
                token += if S::TOKENS >= 6 && !F::BLOCKED && left >= 6 {
                    self.tile::<S, 6>(simd, row, token)
                } else if S::TOKENS >= 4 && left >= 4 {
                    self.tile::<S, 4>(simd, row, token)
                } else if S::TOKENS >= 2 && left >= 2 {
                    self.tile::<S, 2>(simd, row, token)
                } else {
                    self.tile::<S, 1>(simd, row, token)
                };
            }
        }
    }
}

impl<F: Format> Direct<'_, F> {
    /// Returns the number of inputs it did.
    #[inline(always)]
    fn tile<S: Simd, const T: usize>(&self, simd: S, row: usize, token: usize) -> usize {
        let product = &self.0;
        let count = ROWS.min(product.rows.end - row);
        let mut rows: [&[F::Chunk]; ROWS] = [&[]; ROWS];
        for (r, chunks) in rows.iter_mut().enumerate() {
            // Where fewer rows are left, the last one is computed again and not used.
            *chunks = F::chunks(product.matrix.row(row + r.min(count - 1))).0;
        }
        // The hardware sees four short streams that end with the tile; the next tile is for us to ask for.
        let in_order = product.matrix.chosen().is_none();
        let ahead = if token == 0 && in_order { ROWS * product.matrix.stride } else { 0 };
        if !in_order && token == 0 {
            for row in (row + ROWS..product.rows.end).take(ROWS) {
                product.matrix.row(row).chunks(64).for_each(|line| simd.prefetch(line.as_ptr()));
            }
        }
        for depth in product.inputs.depths() {
            let mut sums = [[simd.zero(); T]; ROWS];
            let inputs = product.inputs.blocks::<T>(token, &depth);
            let mut block = rows;
            for chunks in &mut block {
                *chunks = &chunks[depth.clone()];
            }
            tile::accumulate::<S, F, T>(simd, &mut sums, block, inputs, ahead);
            product.target.emit(depth.start == 0, row, count, token, &tile::reduce(simd, &sums));
        }
        T
    }
}

impl<F> Product<'_, F> {
    /// Has `decode` fill scratch memory, a panel of rows and a block of columns at a time, and multiplies that.
    fn panels(&self, isa: Isa, decode: impl Fn(&Range<usize>, &Range<usize>, &mut [Chunk])) {
        PANEL.with_borrow_mut(|scratch| {
            scratch.resize(PANEL_ROWS * DEPTH, Aligned([0.0; BLOCK]));
            self.panels_in(isa, bytemuck::cast_slice_mut(scratch), decode);
        });
    }

    fn panels_in(
        &self,
        isa: Isa,
        scratch: &mut [Chunk],
        decode: impl Fn(&Range<usize>, &Range<usize>, &mut [Chunk]),
    ) {
        for first in self.rows.clone().step_by(PANEL_ROWS) {
            let rows = first..self.rows.end.min(first + PANEL_ROWS);
            for depth in self.inputs.depths() {
                decode(&rows, &depth, scratch);
                isa.run(MultiplyPanel {
                    inputs: self.inputs,
                    target: self.target,
                    rows: &rows,
                    depth: &depth,
                    scratch,
                });
            }
        }
    }
}

/// Fills the scratch memory with a block of columns of some rows.
struct DecodePanel<'a, F> {
    product: &'a Product<'a, F>,
    rows: &'a Range<usize>,
    depth: &'a Range<usize>,
    scratch: &'a mut [Chunk],
}

impl<F: Format> Kernel for DecodePanel<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let depth = self.depth;
        // Memory fetches the next block while this one is multiplied: of the same rows, or of the next panel's.
        let inputs = self.product.inputs;
        let ahead = if depth.end < inputs.width {
            depth.len() * size_of::<F::Chunk>()
        } else {
            (PANEL_ROWS * self.product.matrix.stride).saturating_sub(depth.start * size_of::<F::Chunk>())
        };
        for (row, out) in self.rows.clone().zip(self.scratch.chunks_exact_mut(DEPTH)) {
            let (chunks, tail) = F::chunks(self.product.matrix.row(row));
            let end = depth.end.min(chunks.len());
            for (chunk, out) in chunks[depth.start..end].iter().zip(&mut *out) {
                simd.prefetch(std::ptr::from_ref(chunk).cast::<u8>().wrapping_add(ahead));
                for v in 0..S::VECTORS {
                    simd.store(out, v, F::decode(simd, chunk, v));
                }
            }
            if depth.end > chunks.len() {
                let chunk = F::padded(tail);
                for v in 0..S::VECTORS {
                    simd.store(&mut out[chunks.len() - depth.start], v, F::decode(simd, &chunk, v));
                }
            }
        }
    }
}

/// All inputs times the scratch memory; a tile of inputs stays in the first-level cache meanwhile.
struct MultiplyPanel<'a> {
    inputs: Inputs<'a>,
    target: Target<'a>,
    rows: &'a Range<usize>,
    depth: &'a Range<usize>,
    scratch: &'a [Chunk],
}

impl Kernel for MultiplyPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inputs = self.inputs.count();
        let mut token = 0;
        while token < inputs {
            let left = inputs - token;
            token += if S::TOKENS >= 6 && left >= 6 {
                self.tiles::<S, 6>(simd, token)
            } else if S::TOKENS >= 4 && left >= 4 {
                self.tiles::<S, 4>(simd, token)
            } else if S::TOKENS >= 3 && left >= 3 {
                self.tiles::<S, 3>(simd, token)
            } else if S::TOKENS >= 2 && left >= 2 {
                self.tiles::<S, 2>(simd, token)
            } else {
                self.tiles::<S, 1>(simd, token)
            };
        }
    }
}

impl MultiplyPanel<'_> {
    /// All rows of the panel times `T` inputs. Returns `T`.
    #[inline(always)]
    fn tiles<S: Simd, const T: usize>(&self, simd: S, token: usize) -> usize {
        let inputs = self.inputs.blocks::<T>(token, self.depth);
        for row in self.rows.clone().step_by(ROWS) {
            let mut rows: [&[Chunk]; ROWS] = [&[]; ROWS];
            for (r, block) in rows.iter_mut().enumerate() {
                // The panel is a multiple of a tile; rows beyond the last hold old values, which are not used.
                *block = &self.scratch[(row + r - self.rows.start) * DEPTH..][..self.depth.len()];
            }
            let mut sums = [[simd.zero(); T]; ROWS];
            tile::accumulate::<S, format::Decoded, T>(simd, &mut sums, rows, inputs, 0);
            let count = ROWS.min(self.rows.end - row);
            self.target.emit(self.depth.start == 0, row, count, token, &tile::reduce(simd, &sums));
        }
        T
    }
}
