//! The engine and the [Burn](https://burn.dev) framework joined: quantised linear layers over Burn tensors, and Gemma 3n's
//! decoder as ordinary Burn modules.
//!
//! [`QuantisedLinear`] multiplies the rows of a Burn tensor on a GPU with a weight as a model file stores it, by the engine's
//! kernels: same runtime, same memory, nothing copied to the host. [`Decoder`] is the model written with Burn's public API
//! and nothing else of the engine than its file reader; it shows the formulas, loads any checkpoint that the engine
//! loads, and on Burn's Flex backend is a second oracle that shares no arithmetic with the first. It is not how to run the model
//! fast: that is the engine, which does not know this crate.
//!
//! ```no_run
//! use burn::module::Module;
//! use burn::tensor::{Device, Tensor, activation::gelu_approximate};
//! use gemma_burn::{QuantisedLinear, burn_device};
//! use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};
//! use gemma_matformer::Checkpoint;
//!
//! #[derive(Module, Debug)]
//! struct Gate {
//!     gate: QuantisedLinear,
//!     up: QuantisedLinear,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = IgpuDevice::new(&adapters()[0], IgpuOptions::new(8 << 30))?;
//! let device: Device = burn_device(&gpu);
//! let weights = Checkpoint::open(std::path::Path::new("model.gguf"))?.weights()?;
//! let layer = &weights.layers[0];
//! let gate = Gate {
//!     gate: QuantisedLinear::new(&gpu, "gate", &layer.gate)?,
//!     up: QuantisedLinear::new(&gpu, "up", &layer.up)?,
//! };
//! let x = Tensor::<2>::ones([3, gate.gate.inputs()], &device);
//! let y = gelu_approximate(gate.gate.forward(x.clone())) * gate.up.forward(x);
//! # Ok(())
//! # }
//! ```
//!
//! The adapter has to be opened by the engine before Burn first uses it: a runtime is set up once in a process.

mod layer;
mod model;
mod place;
mod quantised;

pub use layer::{Attention, DecoderLayer, Reach, Router};
pub use model::{Cache, Decoder, DecoderError};
pub use place::{Place, Projection, Table};
pub use quantised::{LinearError, QuantisedLinear, burn_device};
