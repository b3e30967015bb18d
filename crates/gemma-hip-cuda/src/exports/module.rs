//! Kernels by name, and their launches. Of a code object for an AMD GPU nothing is read.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use hip_sys::{
    HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
    HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, HIP_FUNC_ATTRIBUTE_NUM_REGS,
    HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, HIP_LAUNCH_PARAM_BUFFER_POINTER, HIP_LAUNCH_PARAM_BUFFER_SIZE,
    HIP_LAUNCH_PARAM_END, hipError_t, hipErrorInvalidValue, hipFunction_attribute, hipFunction_t,
    hipModule_t, hipStream_t,
};

use super::{exports, put};
use crate::cuda::code;

/// The one handle of modules: kernels are looked for in all of the folder.
const MODULE: usize = 1;

/// HIP's attributes of kernels and the driver's numbers for them.
const ATTRIBUTES: [(hipFunction_attribute, c_int); 5] = [
    (HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0),
    (HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 1),
    (HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, 2),
    (HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, 3),
    (HIP_FUNC_ATTRIBUTE_NUM_REGS, 4),
];

/// The driver's keys of a list of launch parameters: end, pointer, size.
const END: *mut c_void = ptr::null_mut();
const POINTER: *mut c_void = ptr::without_provenance_mut(1);
const SIZE: *mut c_void = ptr::without_provenance_mut(2);

/// Entries of such a list, its end included.
pub(super) const LIST: usize = 5;

exports! {
    fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) |_cuda| {
        if image.is_null() {
            return Err(hipErrorInvalidValue);
        }
        // SAFETY: as the interface says.
        unsafe { put(module, ptr::without_provenance_mut(MODULE)) }
    }

    fn hipModuleUnload(_module: hipModule_t) |_cuda| {
        Ok(())
    }

    fn hipModuleGetFunction(function: *mut hipFunction_t, _module: hipModule_t, name: *const c_char) |cuda| {
        if name.is_null() {
            return Err(hipErrorInvalidValue);
        }
        // SAFETY: as the interface says.
        let found = cuda.kernel(unsafe { CStr::from_ptr(name) })?;
        // SAFETY: as the interface says.
        unsafe { put(function, found.cast()) }
    }

    fn hipFuncGetAttribute(value: *mut c_int, attribute: hipFunction_attribute, function: hipFunction_t) |cuda| {
        let known = ATTRIBUTES.iter().find(|(known, _)| *known == attribute).ok_or(hipErrorInvalidValue)?;
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuFuncGetAttribute)(value, known.1, function.cast()) })
    }

    fn hipModuleLaunchKernel(
        function: hipFunction_t,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: hipStream_t,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) |cuda| {
        // SAFETY: as the interface says.
        let mut list = unsafe { list(extra) }?;
        let extra = list.as_mut().map_or(ptr::null_mut(), |list| list.as_mut_ptr());
        let shared_bytes = shared_bytes + cuda.shared_bytes(function.cast());
        // SAFETY: as the interface says; the list lives until the call returns, by when the driver has read it.
        code(unsafe {
            (cuda.cuLaunchKernel)(
                function.cast(),
                grid_x,
                grid_y,
                grid_z,
                block_x,
                block_y,
                block_z,
                shared_bytes,
                stream.cast(),
                params,
                extra,
            )
        })
    }
}

/// The driver's list for HIP's, of which keys have other values. None for none.
///
/// # Safety
/// The list is null or ends with [`HIP_LAUNCH_PARAM_END`].
pub(super) unsafe fn list(extra: *mut *mut c_void) -> Result<Option<[*mut c_void; LIST]>, hipError_t> {
    if extra.is_null() {
        return Ok(None);
    }
    let mut list = [END; LIST];
    for at in (0..LIST - 1).step_by(2) {
        // SAFETY: its end has not come yet.
        let key = unsafe { extra.add(at).read() };
        if key == HIP_LAUNCH_PARAM_END {
            return Ok(Some(list));
        }
        list[at] = match key {
            HIP_LAUNCH_PARAM_BUFFER_POINTER => POINTER,
            HIP_LAUNCH_PARAM_BUFFER_SIZE => SIZE,
            _ => return Err(hipErrorInvalidValue),
        };
        // SAFETY: a key has a value.
        list[at + 1] = unsafe { extra.add(at + 1).read() };
    }
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_translated_and_strange_keys_refused() {
        let (mut argument, mut size) = (7_u64, 8_usize);
        let (argument, size) = ((&raw mut argument).cast::<c_void>(), (&raw mut size).cast::<c_void>());
        let mut given = [
            HIP_LAUNCH_PARAM_BUFFER_POINTER,
            argument,
            HIP_LAUNCH_PARAM_BUFFER_SIZE,
            size,
            HIP_LAUNCH_PARAM_END,
        ];
        // SAFETY: the list has its end.
        let found = unsafe { list(given.as_mut_ptr()) };
        assert_eq!(found, Ok(Some([POINTER, argument, SIZE, size, END])));
        given[2] = ptr::without_provenance_mut(9);
        // SAFETY: the list has its end.
        assert_eq!(unsafe { list(given.as_mut_ptr()) }, Err(hipErrorInvalidValue));
        // SAFETY: there is none.
        assert_eq!(unsafe { list(ptr::null_mut()) }, Ok(None));
    }
}
