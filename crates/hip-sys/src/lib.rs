//! Raw bindings to AMD's HIP runtime, libamdhip64 of ROCm 5.7, 6 and 7, which is loaded when the program runs.
//!
//! Functions, structures and numbers are those of the C headers, under their C names; nothing is needed to build or link.
//! What is added is finding the library, checking its version, and turning codes into errors. There is no policy here: no
//! ownership, no waiting, no choice of a device. It knows no other crate of ours.
//!
//! - [`Hip::load`], [`Hip::open`]: the library, found or named; [`LoadError`] says where it was looked for.
//! - [`Functions`]: its functions, one field each; those that not every version has are `Option`s.
//! - [`Hip::check`]: a [`hipError_t`] as `Result<(), Error>`, with name and text.
//! - [`Hip::architecture`]: the name of the instruction set, as `gfx1103`, from either layout of the properties.

#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![doc = ""]
#![doc = include_str!("../README.md")]

mod error;
mod functions;
mod load;
mod numbers;
mod properties;
mod search;
mod types;

pub use error::codes::*;
pub use error::{Error, ErrorNames, hipError_t};
pub use functions::Functions;
pub use load::{Hip, LoadError, NEWEST_COMPARED, OLDEST, Version};
pub use numbers::*;
pub use types::*;
