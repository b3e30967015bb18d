//! Where a model's weights go: [`Projection`]s on a device of Burn's choice or of the engine's, and [`Table`]s that stay in
//! the file.

use burn::module::{Module, Param};
use burn::nn::{Linear, RmsNorm};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_hal::{DeviceError, Weight, block};
use gemma_igpu::IgpuDevice;

use crate::quantised::{QuantisedLinear, burn_device};

/// Where matrices are, and whose kernels multiply them.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// Decoded to f32 on a Burn device; products are Burn's. Takes four bytes a value.
    Dense(&'a Device),
    /// As they are stored, on a GPU; products are the engine's, all else is Burn's.
    Quantised(&'a IgpuDevice),
}

/// A linear layer without bias.
#[derive(Module, Debug)]
pub enum Projection {
    /// Burn's own, in f32.
    Dense(Linear),
    /// The engine's, over the stored weight.
    Quantised(QuantisedLinear),
}

/// A table of embeddings in the model file, of which rows are decoded when they are looked up.
#[derive(Module, Debug)]
pub struct Table {
    #[module(skip)]
    weight: Weight,
}

impl Place<'_> {
    /// The device of activations.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(device) => (*device).clone(),
            Self::Quantised(gpu) => burn_device(gpu),
        }
    }

    /// A `[outputs, inputs]` matrix; `name` stands in errors.
    ///
    /// # Errors
    /// As [`IgpuDevice::linear`], on a GPU.
    pub fn matrix(&self, name: &str, weight: &Weight) -> Result<Projection, DeviceError> {
        Ok(match self {
            // Burn keeps `[inputs, outputs]`.
            Self::Dense(_) => {
                Projection::Dense(Linear { weight: param(self.values(weight).transpose()), bias: None })
            }
            Self::Quantised(gpu) => Projection::Quantised(QuantisedLinear::new(gpu, name, weight)?),
        })
    }

    /// A norm over the values of a `[1, width]` weight.
    pub fn norm(&self, weight: &Weight, eps: f32) -> RmsNorm {
        RmsNorm { gamma: self.vector(weight), epsilon: f64::from(eps) }
    }

    /// The values of a `[1, width]` weight.
    pub fn vector(&self, weight: &Weight) -> Param<Tensor<1>> {
        param(self.values(weight).squeeze_dim(0))
    }

    /// The values of a small matrix, in f32 wherever it is.
    pub fn small(&self, weight: &Weight) -> Param<Tensor<2>> {
        param(self.values(weight))
    }

    fn values(&self, weight: &Weight) -> Tensor<2> {
        rows(weight, 0..weight.rows(), &self.device())
    }
}

impl Projection {
    /// `[…, inputs]` to `[…, outputs]`.
    ///
    /// # Panics
    /// When the input has another width or is elsewhere, as Burn's own modules do.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Dense(linear) => linear.forward(input),
            Self::Quantised(linear) => linear.forward(input),
        }
    }
}

impl Table {
    /// Of `weight` `[ids, width]`.
    pub fn new(weight: &Weight) -> Self {
        Self { weight: weight.clone() }
    }

    /// Ids that have a row.
    pub fn len(&self) -> usize {
        self.weight.rows()
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[ids, width]`, the rows of `ids`.
    ///
    /// # Panics
    /// When an id has none.
    pub fn rows(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        rows(&self.weight, ids.iter().map(|id| *id as usize), device)
    }
}

/// The given rows of `weight`, decoded.
fn rows(weight: &Weight, wanted: impl ExactSizeIterator<Item = usize>, device: &Device) -> Tensor<2> {
    let (count, columns) = (wanted.len(), weight.columns());
    let mut values = vec![0.0; count * columns];
    for (row, out) in wanted.zip(values.chunks_exact_mut(columns)) {
        block::dequantise_row(weight.dtype(), weight.row(row), out);
    }
    Tensor::from_data(TensorData::new(values, [count, columns]), device)
}

fn param<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(tensor)
}
