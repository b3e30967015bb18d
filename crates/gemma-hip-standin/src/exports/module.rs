//! Modules, their kernels, and launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use hip_sys::{
    HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
    HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, HIP_FUNC_ATTRIBUTE_NUM_REGS,
    HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, hipErrorInvalidHandle, hipErrorNotFound, hipFunction_attribute,
    hipFunction_t, hipModule_t, hipStream_t,
};

use super::{exports, put};
use crate::code_object::{HEADER_BYTES, file_bytes, kernels};
use crate::emulation::Shape;
use crate::failure::{Outcome, fail, invalid};
use crate::launch::Given;
use crate::state::Module;
use crate::stream::Command;

exports! {
    fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) |state| {
        if image.is_null() {
            return invalid("no module");
        }
        // SAFETY: the program says that a whole code object is there.
        let kernels = kernels(unsafe { file(image) }?)?;
        let kernels = kernels.into_iter().map(|kernel| (kernel.name.clone(), (Arc::new(kernel), None))).collect();
        let handle = state.modules.insert(Module { kernels });
        // SAFETY: as the interface says.
        unsafe { put(module, ptr::without_provenance_mut(handle)) }
    }

    fn hipModuleUnload(module: hipModule_t) |state| {
        state.run_all()?;
        let Some(module) = state.modules.remove(module.addr()) else {
            return fail(hipErrorNotFound, format!("{module:?} is no module, or was unloaded already"));
        };
        let handles = module.kernels.into_values().filter_map(|(_, handle)| handle);
        handles.for_each(|handle| drop(state.functions.remove(handle)));
        Ok(())
    }

    fn hipModuleGetFunction(function: *mut hipFunction_t, module: hipModule_t, name: *const c_char) |state| {
        if name.is_null() {
            return invalid("no name of a kernel");
        }
        // SAFETY: as the interface says.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let Some(found) = state.modules.get_mut(module.addr()) else {
            return fail(hipErrorInvalidHandle, format!("{module:?} is no module, or was unloaded"));
        };
        let Some((kernel, handle)) = found.kernels.get_mut(&*name) else {
            return fail(hipErrorNotFound, format!("the module has no kernel {name}"));
        };
        let handle = *handle.get_or_insert_with(|| state.functions.insert(kernel.clone()));
        // SAFETY: as the interface says.
        unsafe { put(function, ptr::without_provenance_mut(handle)) }
    }

    fn hipFuncGetAttribute(value: *mut c_int, attribute: hipFunction_attribute, function: hipFunction_t) |state| {
        let Some(kernel) = state.functions.get(function.addr()) else {
            return fail(hipErrorInvalidHandle, format!("{function:?} is no kernel"));
        };
        let number = match attribute {
            HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => kernel.block_size,
            HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => kernel.shared_bytes,
            HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES => 0,
            HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => kernel.private_bytes,
            HIP_FUNC_ATTRIBUTE_NUM_REGS => kernel.vector_registers,
            _ => return invalid(format!("attribute {attribute} is not known here")),
        };
        // SAFETY: as the interface says.
        unsafe { put(value, c_int::try_from(number).unwrap_or(c_int::MAX)) }
    }

    fn hipModuleLaunchKernel(
        function: hipFunction_t,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        dynamic_shared_bytes: c_uint,
        stream: hipStream_t,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) |state| {
        if state.streams.get(stream.addr()).is_none() {
            return invalid(format!("{stream:?} is no stream"));
        }
        let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared_bytes };
        // SAFETY: as the interface says.
        let launch = unsafe { state.prepare(function.addr(), shape, Given { params, extra }) }?;
        state.launch(stream.addr(), Command::Launch(launch))
    }
}

/// The bytes of a module, of which the program gives only where it begins.
///
/// # Safety
/// A whole code object is there.
unsafe fn file<'image>(image: *const c_void) -> Outcome<&'image [u8]> {
    // SAFETY: a code object is longer than that.
    let header = unsafe { &*image.cast::<[u8; HEADER_BYTES]>() };
    let bytes = file_bytes(header)?;
    // SAFETY: the header of a whole code object gives its size.
    Ok(unsafe { std::slice::from_raw_parts(image.cast(), bytes) })
}
