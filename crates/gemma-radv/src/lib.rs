//! A Vulkan driver with the compiler of another one: `cargo xtask radv` compiles kernels with it for a GPU that is not there.
//!
//! What an application is told of the adapter, and what its pipelines become, is RADV's, which needs no GPU for that.
//! Memory, queues and waits are lavapipe's, which runs an empty kernel in place of each. Nothing is computed, and what is
//! read back means nothing. Each compiled pipeline is written to a report. Nothing that is shipped uses this crate.
//!
//! | variable | what it names |
//! | --- | --- |
//! | `GEMMA_RADV_COMPILER` | `libvulkan_radeon.so` |
//! | `GEMMA_RADV_SOFTWARE` | `libvulkan_lvp.so` |
//! | `GEMMA_RADV_REPORT` | a file to which each pipeline is appended as lines of JSON |
//! | `GEMMA_RADV_SUBGROUP` | not needed: the one size that subgroups have, 32 or 64, in place of both and RADV's choice |

mod adapter;
mod device;
mod drivers;
mod report;

use std::ffi::{CStr, c_char};

use ash::vk;

/// The loader asks with which version of its interface this driver speaks: that of the drivers behind it.
///
/// # Safety
/// As Vulkan's loader promises its drivers.
// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> vk::Result {
    let Some(drivers) = drivers::drivers() else { return vk::Result::ERROR_INCOMPATIBLE_DRIVER };
    // SAFETY: the loader gives a place with the version that it speaks.
    unsafe { drivers.negotiate(version) }
}

/// The address of a function that is not of a physical device.
///
/// # Safety
/// As Vulkan's loader promises its drivers.
// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetInstanceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the loader gives a name that ends.
    let ours = adapter::function(unsafe { CStr::from_ptr(name) });
    // SAFETY: the instance is the software driver's own.
    ours.or_else(|| unsafe { drivers::drivers()?.software.instance_function(instance, name) })
}

/// The address of a function of a physical device, also of those that the loader does not know.
///
/// # Safety
/// As Vulkan's loader promises its drivers.
// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetPhysicalDeviceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: as above.
    let ours = adapter::function_of_adapters(unsafe { CStr::from_ptr(name) });
    // SAFETY: as above.
    ours.or_else(|| unsafe { drivers::drivers()?.software.adapter_function(instance, name) })
}
