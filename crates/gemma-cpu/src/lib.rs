//! CPU backend.
pub mod reference;
/// placeholder until merged
pub struct CpuDevice;
