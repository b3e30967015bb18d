//! What a GPU reaches: bytes copied a second, and the time of a product alone.
//!
//! Reports divide by these figures. Times are those of events on the stream, so that the host's part is none of them, and the best of many
//! passes, because everything that disturbs a pass makes it slower. It measures the GPU alone, never a model.

use std::time::{Duration, Instant};

use gemma_hal::{Deadline, DeviceError, Weight};
use gemma_hip_kernels::Launch;
use gemma_hip_kernels::arguments::{ActivationHalf, ActivationRounded, Copy, Gemm, Method, Product};

use crate::device::HipDevice;
use crate::runtime::{Event, Placement, Turn};

/// Bytes that are copied in a pass: beyond the caches of the GPUs that this is for.
const COPIED: usize = 256 << 20;

/// Measured until no pass has been faster for this long: clocks of an idle GPU are low, and rise while it works.
const QUIET: Duration = Duration::from_millis(500);

/// How much less than the best pass so far one takes that counts as faster.
const RISE: f64 = 0.99;

/// How often the same work is done in a pass.
const TIMES: usize = 16;

/// When a GPU that does not answer is given up.
const PATIENCE: Duration = Duration::from_secs(20);

impl HipDevice {
    /// Bytes that a kernel copies within the GPU's memory a second; each counts once as read and once as written. Takes some 0.6 s
    /// and, for that time, 512 MiB of its memory.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Timeout`] after 20 s, or what the runtime says.
    pub fn copy_bandwidth(&self) -> Result<f64, DeviceError> {
        let deadline = Deadline::after(PATIENCE);
        let _reserved = self.setup.budget.reserve("measured memory", 2 * COPIED as u64)?;
        let turn = self.setup.card.turn(&deadline)?;
        let from = turn.allocate("measured memory", COPIED, Placement::Device)?;
        let to = turn.allocate("measured memory", COPIED, Placement::Device)?;
        let count = (COPIED / size_of::<f32>()) as u32;
        let copy = Copy { input: from.at(0), output: to.at(0), count, padding: 0 }.launch();
        Ok(2.0 * COPIED as f64 / seconds(&turn, &copy, &deadline)?)
    }

    /// Seconds that the product of `weight` with `tokens` rows of activations takes, launched one after the other: of one row as in
    /// decode, of several as in prefill, without the conversion of activations. Reading less than caches hold is faster than
    /// reading memory.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for columns that are no multiple of 8, otherwise as [`HipDevice::copy_bandwidth`].
    pub fn product_seconds(&self, weight: &Weight, tokens: usize) -> Result<f64, DeviceError> {
        let (rows, columns, dtype) = (weight.rows(), weight.columns(), weight.dtype());
        if columns % 8 != 0 {
            let what = format!("a matrix of {columns} columns (a multiple of 8)");
            return Err(DeviceError::Unsupported { device: self.setup.card.id().to_owned(), what });
        }
        let deadline = Deadline::after(PATIENCE);
        let room = ActivationHalf::bytes(columns, tokens).max(ActivationRounded::bytes(columns, tokens));
        let room = room.next_multiple_of(16);
        let sizes =
            [tokens * columns * size_of::<f32>(), 2 * room + 4 * tokens, tokens * rows * size_of::<f32>()];
        let _reserved =
            self.setup.budget.reserve("measured products", sizes.iter().map(|size| *size as u64).sum())?;
        let turn = self.setup.card.turn(&deadline)?;
        let matrix = self.setup.matrices.get(&self.setup, &turn, "measured", weight)?;
        let [plain, converted, output] = sizes.map(|size| turn.allocate("products", size, Placement::Device));
        let (plain, converted, output) = (plain?, converted?, output?);
        turn.put(&plain, 0, &vec![0; plain.len()])?;
        turn.put(&converted, 0, &vec![0; converted.len()])?;
        let method = Method::of(dtype, self.setup.activations);
        let launch = if tokens == 1 {
            Product {
                weight: matrix.planes,
                input: plain.at(0),
                output: output.at(0),
                first: 0,
                rows: rows as u32,
                columns: columns as u32,
                input_stride: columns as u32,
                output_stride: rows as u32,
                softcap: 0.0,
            }
            .launch(dtype, self.setup.activations, 1)
        } else {
            Gemm {
                weight: matrix.planes,
                input: if method == Method::Tile { plain.at(0) } else { converted.at(0) },
                blocks: converted.at(room),
                output: output.at(0),
                first: 0,
                rows: rows as u32,
                columns: columns as u32,
                tokens: tokens as u32,
                output_stride: rows as u32,
                input_stride: columns as u32,
            }
            .launch(dtype, method)
        };
        seconds(&turn, &launch, &deadline)
    }
}

/// Seconds of a launch that repeats what it does.
fn seconds(turn: &Turn<'_>, launch: &Launch, deadline: &Deadline) -> Result<f64, DeviceError> {
    let (begin, end) = (Event::new(turn, true)?, Event::new(turn, true)?);
    let pass = || {
        begin.record()?;
        (0..TIMES).try_for_each(|_| turn.launch(launch))?;
        end.record()?;
        turn.finish("measuring", deadline)?;
        end.seconds_since(&begin)
    };
    // One that warms up.
    pass()?;
    let (mut risen, mut best) = (Instant::now(), f64::MAX);
    while risen.elapsed() < QUIET {
        let seconds = pass()?;
        if seconds < RISE * best {
            risen = Instant::now();
        }
        best = best.min(seconds);
    }
    Ok(best.max(f64::MIN_POSITIVE) / TIMES as f64)
}

#[cfg(test)]
mod tests {
    use gemma_hal::{DType, Storage};

    use super::*;
    use crate::HipOptions;
    use crate::testing::Machine;

    #[test]
    fn products_of_one_row_and_of_many_take_time() {
        let machine = Machine::new();
        let device = HipDevice::new(&machine.adapter, &HipOptions::new(1 << 30)).unwrap();
        let weight = |dtype: DType| {
            let bytes = 8 * dtype.block_bytes() * 256 / dtype.block_len();
            Weight::new(Storage::new("ones", vec![0x11; bytes]), 0, 8, 256, dtype).unwrap()
        };
        for (dtype, tokens) in [(DType::Q4_0, 1), (DType::Q4_0, 8), (DType::F32, 8)] {
            let before = machine.library.count("kernels").unwrap();
            let seconds = device.product_seconds(&weight(dtype), tokens).unwrap();
            let launched = machine.library.count("kernels").unwrap() - before;
            assert!(
                launched >= 2 * TIMES as u64 && launched.is_multiple_of(TIMES as u64),
                "{launched} kernels"
            );
            // The stand-in's clock goes by what the host's does.
            assert!(
                seconds > f64::MIN_POSITIVE && seconds.is_finite(),
                "{dtype}, {tokens} rows: {seconds} s"
            );
        }
        assert_eq!(gemma_hal::Device::memory(&device).used, 0);
    }
}
