//! An interpreter of RDNA3 machine code, for tests: it executes the kernels of a code object as a compiler made them.
//!
//! One workgroup runs at a time, its waves in a seeded random order. What the hardware would do silently is an error
//! here: an access outside of a buffer, a register used before its load was waited for, a value that nobody wrote, a
//! barrier before writes to LDS have arrived, an instruction that is not known. Nothing that is shipped uses this crate,
//! and it never claims to be fast or exact in time: there is no cache, no clock and no occupancy.
//!
//! ```no_run
//! use gemma_rdna3::{CodeObject, Memory, Options, launch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // extern "C" __global__ void twice(Arguments { float *values; int count; })
//! let object = CodeObject::parse(&std::fs::read("twice.gfx1103.co")?)?;
//! let kernel = object.kernel("twice").ok_or("no such kernel")?;
//! let mut memory = Memory::new();
//! let values: Vec<u8> = [1.0_f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let address = memory.allocate_with(&values);
//! let mut arguments = address.to_le_bytes().to_vec();
//! arguments.extend(3_u32.to_le_bytes());
//! arguments.resize(kernel.argument_bytes(), 0);
//! let report =
//!     launch(&object, kernel, [1, 1, 1], [32, 1, 1], &arguments, &mut memory, &Options::default())?;
//! let (covered, all) = report.covered();
//! println!("{covered} of {all} instructions, {} executed", report.executed());
//! println!("{:?}", memory.read(address, 12));
//! # Ok(())
//! # }
//! ```
//!
//! What is exact and what is not, what is refused and why the encoding is decoded rather than a disassembler's text:
//! `docs/adr/0019-rdna3-interpreter.md`.

mod arguments;
mod decode;
mod error;
mod execute;
mod instruction;
mod launch;
mod memory;
mod metadata;
mod object;
mod operations;
mod program;
mod random;
mod report;
mod wave;

pub use decode::{Undecoded, decode};
pub use error::{Error, Fault, Problem};
pub use instruction::{Instruction, MAX_WORDS};
pub use launch::{MAX_LDS_BYTES, MAX_WORK_ITEMS, Options, launch};
pub use memory::Memory;
pub use object::{
    CodeObject, Descriptor, Kernel, MAX_CODE_BYTES, MAX_IMAGE_BYTES, MAX_KERNELS, MAX_OBJECT_BYTES,
};
pub use report::Report;
