//! A launch as the program asks for it, checked against the kernel's metadata.
//!
//! Stricter than AMD's runtime in two ways: the block has exactly the size that the kernel was compiled for, and the buffer of
//! arguments has the size of the metadata. Either would be a fault of ours that shows only on a device.

use std::ffi::c_void;
use std::ptr;

use hip_sys::{
    HIP_LAUNCH_PARAM_BUFFER_POINTER, HIP_LAUNCH_PARAM_BUFFER_SIZE, HIP_LAUNCH_PARAM_END,
    hipErrorInvalidConfiguration, hipErrorInvalidDeviceFunction, hipErrorInvalidHandle,
    hipErrorLaunchFailure,
};

use crate::code_object::Kernel;
use crate::emulation::Shape;
use crate::failure::{Outcome, fail, invalid};
use crate::state::State;
use crate::stream::Launch;

/// Most bytes of shared memory of a block, on every RDNA 3 GPU.
pub(crate) const MAX_SHARED: u32 = 64 << 10;
/// Most work-items of a block.
pub(crate) const MAX_BLOCK: u32 = 1024;
/// Most blocks of the second and third dimension of a grid.
const MAX_GRID: u32 = 1 << 16;

/// Where the program has its arguments: both are C arrays or null.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    pub(crate) params: *mut *mut c_void,
    pub(crate) extra: *mut *mut c_void,
}

impl State {
    /// Checks a launch and takes its arguments.
    ///
    /// # Safety
    /// What is given is null, or has an entry for each argument, or is such a list as `HIP_LAUNCH_PARAM_END` ends.
    pub(crate) unsafe fn prepare(&mut self, function: usize, shape: Shape, given: Given) -> Outcome<Launch> {
        let Some(kernel) = self.functions.get(function).cloned() else {
            return fail(
                hipErrorInvalidHandle,
                format!("{function:#x} is no kernel, or its module was unloaded"),
            );
        };
        check(&kernel, &shape)?;
        // SAFETY: as the caller promises.
        let arguments = unsafe { given.arguments(&kernel) }?;
        let emulation = self.emulation()?;
        emulation.knows(&kernel.name)?;
        Ok(Launch { function, kernel, emulation, shape, arguments })
    }
}

/// Checks the sizes of a launch.
fn check(kernel: &Kernel, shape: &Shape) -> Outcome {
    let (name, Shape { grid, block, dynamic_shared_bytes }) = (&kernel.name, *shape);
    if kernel.hidden_arguments {
        let problem =
            format!("kernel {name} reads arguments that the runtime would add, which are not emulated");
        return fail(hipErrorInvalidDeviceFunction, problem);
    }
    if block.contains(&0) {
        return fail(hipErrorInvalidConfiguration, format!("kernel {name}: a block of {block:?}"));
    }
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > MAX_GRID || grid[2] > MAX_GRID {
        return invalid(format!("kernel {name}: a grid of {grid:?}"));
    }
    if grid
        .iter()
        .zip(block)
        .any(|(blocks, items)| u64::from(*blocks) * u64::from(items) > u64::from(u32::MAX))
    {
        return fail(hipErrorInvalidConfiguration, format!("kernel {name}: {grid:?} blocks of {block:?}"));
    }
    let items = block.iter().map(|size| u64::from(*size)).product::<u64>();
    let shared = u64::from(kernel.shared_bytes) + u64::from(dynamic_shared_bytes);
    if items > u64::from(MAX_BLOCK) || shared > u64::from(MAX_SHARED) {
        return invalid(format!(
            "kernel {name}: {items} work-items and {shared} bytes of shared memory in a block"
        ));
    }
    let problem = format!("kernel {name}: blocks of {items} work-items, compiled for {}", kernel.block_size);
    match items.cmp(&u64::from(kernel.block_size)) {
        std::cmp::Ordering::Greater => fail(hipErrorLaunchFailure, problem),
        std::cmp::Ordering::Less => fail(hipErrorInvalidConfiguration, problem),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

impl Given {
    /// The segment of arguments.
    ///
    /// # Safety
    /// As [`State::prepare`].
    unsafe fn arguments(self, kernel: &Kernel) -> Outcome<Vec<u64>> {
        let name = &kernel.name;
        let mut segment = vec![0; kernel.segment_bytes];
        match (self.params.is_null(), self.extra.is_null()) {
            (false, false) => return invalid(format!("kernel {name}: arguments are given in both ways")),
            (true, true) if kernel.arguments.is_empty() => {}
            (true, true) => return invalid(format!("kernel {name}: no arguments are given")),
            // SAFETY: as the caller promises.
            (false, true) => unsafe { one_by_one(self.params, kernel, &mut segment) }?,
            // SAFETY: as the caller promises.
            (true, false) => unsafe { as_a_buffer(self.extra, kernel, &mut segment) }?,
        }
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        };
        Ok(segment.chunks(8).map(word).collect())
    }
}

/// # Safety
/// There is an entry for each argument, which is null or points to as many bytes as it has.
unsafe fn one_by_one(params: *mut *mut c_void, kernel: &Kernel, segment: &mut [u8]) -> Outcome {
    for (index, argument) in kernel.arguments.iter().enumerate() {
        // SAFETY: as the caller promises.
        let from = unsafe { *params.add(index) };
        if from.is_null() {
            return invalid(format!("kernel {}: argument {index} is null", kernel.name));
        }
        let to = &mut segment[argument.offset..][..argument.size];
        // SAFETY: as the caller promises.
        unsafe { ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), argument.size) };
    }
    Ok(())
}

/// # Safety
/// The list is one that `HIP_LAUNCH_PARAM_END` ends.
unsafe fn as_a_buffer(extra: *mut *mut c_void, kernel: &Kernel, segment: &mut [u8]) -> Outcome {
    let (mut buffer, mut bytes) = (ptr::null_mut(), None);
    // Each key once, in any order: AMD's runtime wants the order of the two that its documentation shows.
    for (at, key) in [(0, HIP_LAUNCH_PARAM_BUFFER_POINTER), (2, HIP_LAUNCH_PARAM_BUFFER_SIZE)] {
        // SAFETY: the list has not ended.
        let (found, value) = unsafe { (*extra.add(at), *extra.add(at + 1)) };
        if found != key || value.is_null() {
            return invalid(format!(
                "kernel {}: entry {at} of extra is {found:?}, of {value:?}",
                kernel.name
            ));
        }
        if key == HIP_LAUNCH_PARAM_BUFFER_POINTER {
            buffer = value;
        } else {
            // SAFETY: the key says that this is the address of a size.
            bytes = Some(unsafe { value.cast::<usize>().read_unaligned() });
        }
    }
    // SAFETY: the list has not ended.
    if unsafe { *extra.add(4) } != HIP_LAUNCH_PARAM_END {
        return invalid(format!("kernel {}: extra does not end behind the buffer and its size", kernel.name));
    }
    let bytes = bytes.unwrap_or(0);
    if !(kernel.explicit_bytes()..=segment.len()).contains(&bytes) {
        let (name, wanted) = (&kernel.name, segment.len());
        return invalid(format!("kernel {name}: {bytes} bytes of arguments, its metadata has {wanted}"));
    }
    // SAFETY: the program says that the buffer has so many bytes.
    unsafe { ptr::copy_nonoverlapping(buffer.cast_const().cast(), segment.as_mut_ptr(), bytes) };
    Ok(())
}
