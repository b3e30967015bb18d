//! What an application is told of the adapter: RADV's word on everything but memory and queues.
//!
//! The physical device that applications hold is lavapipe's; functions here look away from it to the target.

use std::ffi::CStr;
use std::sync::OnceLock;

use ash::vk;

use crate::device;
use crate::drivers::{self, Target};

/// A function of type `$kind` as Vulkan hands it out.
macro_rules! untyped {
    ($kind:ty, $function:expr) => {{
        let function: $kind = $function;
        // SAFETY: pointers to functions have one size, and whoever asks for a name casts back to the type of that name.
        Some(unsafe { std::mem::transmute::<$kind, unsafe extern "system" fn()>(function) })
    }};
}
pub(crate) use untyped;

/// Calls a function of the target's instance, where there is a target.
macro_rules! ask_target {
    ($version:ident, $function:ident $(, $argument:expr)*) => {
        if let Some(Target { instance, adapter }) = drivers::target() {
            // SAFETY: the caller's pointers are what the function's own contract asks for.
            unsafe { (instance.$version().$function)(*adapter $(, $argument)*) }
        }
    };
}

/// Functions of lavapipe's instances. They are the same for each.
static SOFTWARE: OnceLock<ash::Instance> = OnceLock::new();

/// lavapipe's functions of instances, once there was one.
pub(crate) fn software() -> Option<&'static ash::Instance> {
    SOFTWARE.get()
}

/// The functions of this driver that are not of devices.
pub(crate) fn function(name: &CStr) -> vk::PFN_vkVoidFunction {
    match name.to_bytes() {
        b"vkCreateInstance" => untyped!(vk::PFN_vkCreateInstance, create_instance),
        b"vkGetDeviceProcAddr" => untyped!(vk::PFN_vkGetDeviceProcAddr, device::find),
        _ => function_of_adapters(name).or_else(|| device::function(name)),
    }
}

/// The functions of this driver that take a physical device.
pub(crate) fn function_of_adapters(name: &CStr) -> vk::PFN_vkVoidFunction {
    match name.to_bytes() {
        b"vkGetPhysicalDeviceProperties" => untyped!(vk::PFN_vkGetPhysicalDeviceProperties, properties),
        b"vkGetPhysicalDeviceProperties2" | b"vkGetPhysicalDeviceProperties2KHR" => {
            untyped!(vk::PFN_vkGetPhysicalDeviceProperties2, properties2)
        }
        b"vkGetPhysicalDeviceFeatures" => untyped!(vk::PFN_vkGetPhysicalDeviceFeatures, features),
        b"vkGetPhysicalDeviceFeatures2" | b"vkGetPhysicalDeviceFeatures2KHR" => {
            untyped!(vk::PFN_vkGetPhysicalDeviceFeatures2, features2)
        }
        b"vkEnumerateDeviceExtensionProperties" => {
            untyped!(vk::PFN_vkEnumerateDeviceExtensionProperties, extensions)
        }
        b"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR" => {
            untyped!(vk::PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR, matrices)
        }
        b"vkCreateDevice" => untyped!(vk::PFN_vkCreateDevice, device::create_device),
        _ => None,
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    let (Some(drivers), Some(_)) = (drivers::drivers(), drivers::target()) else {
        return vk::Result::ERROR_INCOMPATIBLE_DRIVER;
    };
    let entry = drivers.software.entry();
    // SAFETY: the arguments are the caller's, for this very function.
    let result = unsafe { (entry.fp_v1_0().create_instance)(info, allocator, instance) };
    if result == vk::Result::SUCCESS {
        // SAFETY: the instance has just been made; its functions belong to the driver and outlive it.
        SOFTWARE.get_or_init(|| unsafe { ash::Instance::load(entry.static_fn(), *instance) });
    }
    result
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn properties(_: vk::PhysicalDevice, out: *mut vk::PhysicalDeviceProperties) {
    ask_target!(fp_v1_0, get_physical_device_properties, out);
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn properties2(_: vk::PhysicalDevice, out: *mut vk::PhysicalDeviceProperties2<'_>) {
    ask_target!(fp_v1_1, get_physical_device_properties2, out);
    if let Some(size) = drivers::subgroup() {
        // SAFETY: the caller gives a chain, which has just been filled.
        unsafe { fix_subgroups(out.cast(), size) };
    }
}

/// Overwrites what was said of sizes of subgroups.
///
/// # Safety
/// `next` is a chain of properties.
unsafe fn fix_subgroups(mut next: *mut vk::BaseOutStructure<'_>, size: u32) {
    // SAFETY: as the caller promises; the type of a structure says which it is.
    while let Some(structure) = unsafe { next.as_mut() } {
        let this = std::mem::replace(&mut next, structure.p_next);
        // SAFETY: as above.
        unsafe {
            match structure.s_type {
                vk::StructureType::PHYSICAL_DEVICE_SUBGROUP_PROPERTIES => {
                    (*this.cast::<vk::PhysicalDeviceSubgroupProperties<'_>>()).subgroup_size = size;
                }
                vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES => {
                    (*this.cast::<vk::PhysicalDeviceVulkan11Properties<'_>>()).subgroup_size = size;
                }
                vk::StructureType::PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES => {
                    let control = &mut *this.cast::<vk::PhysicalDeviceSubgroupSizeControlProperties<'_>>();
                    (control.min_subgroup_size, control.max_subgroup_size) = (size, size);
                }
                vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES => {
                    let control = &mut *this.cast::<vk::PhysicalDeviceVulkan13Properties<'_>>();
                    (control.min_subgroup_size, control.max_subgroup_size) = (size, size);
                }
                _ => {}
            }
        }
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn features(_: vk::PhysicalDevice, out: *mut vk::PhysicalDeviceFeatures) {
    ask_target!(fp_v1_0, get_physical_device_features, out);
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn features2(_: vk::PhysicalDevice, out: *mut vk::PhysicalDeviceFeatures2<'_>) {
    ask_target!(fp_v1_1, get_physical_device_features2, out);
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn extensions(
    _: vk::PhysicalDevice,
    layer: *const std::ffi::c_char,
    count: *mut u32,
    out: *mut vk::ExtensionProperties,
) -> vk::Result {
    let Some(Target { instance, adapter }) = drivers::target() else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    // SAFETY: the arguments are the caller's, for this very function.
    unsafe { (instance.fp_v1_0().enumerate_device_extension_properties)(*adapter, layer, count, out) }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn matrices(
    _: vk::PhysicalDevice,
    count: *mut u32,
    out: *mut vk::CooperativeMatrixPropertiesKHR<'_>,
) -> vk::Result {
    let Some(Target { instance, adapter }) = drivers::target() else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let Some(drivers) = drivers::drivers() else { return vk::Result::ERROR_INITIALIZATION_FAILED };
    let extension = ash::khr::cooperative_matrix::Instance::new(&drivers.compiler_entry(), instance);
    // SAFETY: the arguments are the caller's, for this very function.
    unsafe { (extension.fp().get_physical_device_cooperative_matrix_properties_khr)(*adapter, count, out) }
}
