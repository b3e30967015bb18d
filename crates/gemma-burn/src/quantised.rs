//! [`QuantisedLinear`]: the engine's product with a stored weight, as a Burn module.
//!
//! Tensors go in and come out as handles on the runtime that Burn and the engine share. The weight is no parameter: it is not
//! trained, recorded or moved to another device.

use burn::backend::{Cube, CubeDevice};
use burn::module::Module;
use burn::tensor::{DType, Device, PrimitiveConversionError, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use gemma_hal::{DeviceError, Weight};
use gemma_igpu::{IgpuDevice, Linear};

/// The Burn device that is `gpu`.
pub fn burn_device(gpu: &IgpuDevice) -> Device {
    Device::new(CubeDevice::Wgpu(gpu.runtime()))
}

/// A linear layer without bias over a weight of any type that the engine reads, on a GPU.
#[derive(Module, Debug)]
pub struct QuantisedLinear {
    #[module(skip)]
    linear: Linear,
}

/// Why a tensor cannot be multiplied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinearError {
    /// It is on another backend than the GPU's, or carries gradients.
    #[error("the tensor is not on the layer's GPU: {0}; move it there with to_device")]
    Backend(String),
    /// Activations are f32.
    #[error("the tensor holds {0:?}, and the layer takes F32; cast it")]
    Type(DType),
    /// The last dimension is not the layer's.
    #[error("the tensor ends in {found} values, and the layer takes {inputs}")]
    Width {
        /// Values in the tensor's last dimension.
        found: usize,
        /// Values that the layer takes.
        inputs: usize,
    },
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl QuantisedLinear {
    /// `weight` `[outputs, inputs]` on `gpu`, in its type; `name` stands in errors.
    ///
    /// # Errors
    /// As [`IgpuDevice::linear`].
    pub fn new(gpu: &IgpuDevice, name: &str, weight: &Weight) -> Result<Self, DeviceError> {
        Ok(Self { linear: gpu.linear(name, weight)? })
    }

    /// Values that come in.
    pub fn inputs(&self) -> usize {
        self.linear.inputs()
    }

    /// Values that come out.
    pub fn outputs(&self) -> usize {
        self.linear.outputs()
    }

    /// `[…, inputs]` to `[…, outputs]`.
    ///
    /// # Panics
    /// Where [`QuantisedLinear::try_forward`] gives an error, as Burn's own modules do.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.try_forward(input).unwrap_or_else(|error| panic!("quantised linear layer: {error}"))
    }

    /// `[…, inputs]` to `[…, outputs]`.
    ///
    /// # Errors
    /// [`LinearError`]. What the driver finds wrong later comes when the result is read.
    pub fn try_forward<const D: usize>(&self, input: Tensor<D>) -> Result<Tensor<D>, LinearError> {
        let input = input.try_into_primitive::<Cube>().map_err(|error| match error {
            PrimitiveConversionError::BackendMismatch(text)
            | PrimitiveConversionError::KindMismatch(text) => LinearError::Backend(text),
        })?;
        Ok(Tensor::from_primitive::<Cube>(self.forward_primitive(input)?))
    }

    /// The same over the primitive of Burn's CubeCL backend, for kernels and backend extensions of your own.
    ///
    /// # Errors
    /// As [`QuantisedLinear::try_forward`].
    pub fn forward_primitive(&self, input: CubeTensor) -> Result<CubeTensor, LinearError> {
        if input.dtype != DType::F32 {
            return Err(LinearError::Type(input.dtype));
        }
        let input = into_contiguous(input);
        let (outer, inputs) = match input.meta.shape().as_slice() {
            [outer @ .., inputs] => (outer.to_vec(), *inputs),
            [] => (Vec::new(), 0),
        };
        if inputs != self.inputs() {
            return Err(LinearError::Width { found: inputs, inputs: self.inputs() });
        }
        let output = self.linear.forward(&input.handle, outer.iter().product())?;
        let shape = Shape::from([outer, vec![self.outputs()]].concat());
        Ok(CubeTensor::new_contiguous(input.client, input.device, shape, output, DType::F32))
    }
}
