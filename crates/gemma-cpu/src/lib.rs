//! The CPU backend of the Gemma 3n engine: kernels, the thread pool they run on, and what the machine can do.

pub mod bandwidth;
pub mod pool;
pub mod simd;
