//! Sample kernels, compiled by clang in four ways and executed, against the same formulas in Rust.

mod assembly;
mod atomics;
mod common;
mod control;
mod disassembly;
mod elementwise;
mod faults;
mod gemv;
mod local;
mod math;
mod matrices;
mod narrow;
mod robustness;
mod waves;
