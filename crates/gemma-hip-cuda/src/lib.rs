//! A libamdhip64 for tests and timings: the C interface of AMD's HIP runtime, over the driver of an NVIDIA GPU.
//!
//! The HIP driver of this repository and its kernels run through it on a real GPU where there is none of AMD's: calls go one to one to
//! CUDA's driver interface, which has the same ones. Code objects for AMD GPUs are told apart by their kernels' names alone: what runs
//! is the same source, compiled for the NVIDIA GPU into the `.ptx` files of the folder that `GEMMA_HIP_CUDA` names.
//!
//! It says of itself what it is: the device's name begins with the NVIDIA GPU's. Its architecture is said to be gfx1103, because that is
//! what is asked for. Nothing that is shipped uses this crate, and no figure of it is one of an AMD GPU. How it is used: docs/hip.md.

mod cuda;
mod exports;
