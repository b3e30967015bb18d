//! [`Linear`]: one weight on a GPU, multiplied outside of plans with activations that others of the same process hold there.
//!
//! It launches the kernels that plans do, on the stream of the calling thread, as other libraries on the CubeCL runtime launch
//! theirs. It never waits for the GPU and reads nothing back.

use std::sync::Arc;

use cubecl::server::Handle;
use gemma_hal::{Deadline, DeviceError};

use super::launch::{self, Halves, Launcher, Rows};
use crate::gpu::{Gpu, Region};
use crate::weight::Matrix;

/// The most rows of activations of one call, which every adapter has room for in a grid.
const MOST_ROWS: usize = 32_768;

/// A `[outputs, inputs]` matrix of any type on a GPU. Clones are the same matrix.
///
/// Made by [`IgpuDevice::linear`](crate::IgpuDevice::linear).
#[derive(Clone)]
pub struct Linear {
    gpu: Gpu,
    matrix: Arc<Matrix>,
    outputs: usize,
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (outputs, inputs, format) = (self.outputs, self.matrix.columns, self.matrix.format);
        write!(f, "Linear({outputs} x {inputs} {format:?} on {})", self.gpu.id)
    }
}

impl Linear {
    /// Over a matrix that is on `gpu`, whose client shall be one of the calling threads' streams.
    pub(crate) fn new(gpu: Gpu, matrix: Arc<Matrix>, outputs: usize) -> Self {
        Self { gpu, matrix, outputs }
    }

    /// Values of a row of activations that come in.
    pub fn inputs(&self) -> usize {
        self.matrix.columns
    }

    /// Values of a row that come out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `output[r] = weight · input[r]` for `rows` rows of f32 values.
    ///
    /// `input` is `[rows, inputs]` without gaps, from this adapter's runtime; the result is new memory, `[rows, outputs]`, of the
    /// calling thread's stream. What other streams have been asked for before is done first.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] when `input` is of another runtime, shorter, or not on a bound of 16 bytes, and for more than
    /// 32,768 rows; [`DeviceError::OutOfMemory`] when the result is larger than one piece of memory. Errors of the driver come
    /// when the result is read.
    pub fn forward(&self, input: &Handle, rows: usize) -> Result<Handle, DeviceError> {
        let refused = |detail: String| DeviceError::InvalidCall { device: self.gpu.id.to_string(), detail };
        if rows > MOST_ROWS {
            return Err(refused(format!("{rows} rows of activations, at most {MOST_ROWS}")));
        }
        if input.service != self.gpu.client.service_id() {
            return Err(refused("activations on another device or runtime".to_owned()));
        }
        let columns = self.matrix.columns;
        let Some(region) = Region::over(input.clone(), rows * columns) else {
            return Err(refused(format!("activations are not {rows} rows of {columns} values in fours")));
        };
        // Nothing else may be asked of the queue while a plan is recorded.
        let _turn = self.gpu.turn(&Deadline::never())?;
        let output = self.gpu.empty("a product", rows * self.outputs)?;
        if rows > 0 {
            let halves = Halves::new(&self.gpu, launch::halves_words(&self.gpu, rows, columns))?;
            let (input, written) =
                (Rows { region: &region, stride: columns }, Rows { region: &output, stride: self.outputs });
            let launcher = Launcher { gpu: &self.gpu, halves: halves.as_ref() };
            launcher.product(&self.matrix, 0..self.outputs, &input, &written, rows);
        }
        Ok(output.handle)
    }
}
