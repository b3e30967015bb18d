//! The two drivers behind this one, loaded without Vulkan's loader in between, and RADV's only adapter.

use std::env;
use std::ffi::c_char;
use std::sync::OnceLock;

use ash::vk;
use libloading::Library;

// SAFETY: every driver exports a function of this type.
type Negotiate = unsafe extern "system" fn(*mut u32) -> vk::Result;
// SAFETY: every driver exports a function of this type.
type Find = unsafe extern "system" fn(vk::Instance, *const c_char) -> vk::PFN_vkVoidFunction;

/// Where a driver's library is named.
const COMPILER: &str = "GEMMA_RADV_COMPILER";
const SOFTWARE: &str = "GEMMA_RADV_SOFTWARE";

/// Where the one size of subgroups is given.
const SUBGROUP: &str = "GEMMA_RADV_SUBGROUP";

/// A driver's library.
pub(crate) struct Driver {
    negotiate: Negotiate,
    find: Find,
    find_of_adapters: Find,
}

/// Both.
pub(crate) struct Drivers {
    /// lavapipe.
    pub(crate) software: Driver,
    /// RADV.
    compiler: Driver,
}

/// The adapter that kernels are compiled for.
pub(crate) struct Target {
    pub(crate) instance: ash::Instance,
    pub(crate) adapter: vk::PhysicalDevice,
}

/// The drivers that the environment names; none where one cannot be loaded.
pub(crate) fn drivers() -> Option<&'static Drivers> {
    static DRIVERS: OnceLock<Option<Drivers>> = OnceLock::new();
    let load = || Some(Drivers { software: Driver::load(SOFTWARE)?, compiler: Driver::load(COMPILER)? });
    DRIVERS.get_or_init(load).as_ref()
}

/// RADV's first adapter; none where there is none.
pub(crate) fn target() -> Option<&'static Target> {
    static TARGET: OnceLock<Option<Target>> = OnceLock::new();
    TARGET.get_or_init(|| Target::open(&drivers()?.compiler)).as_ref()
}

/// The one size that subgroups shall have; none where it is RADV's choice.
pub(crate) fn subgroup() -> Option<u32> {
    static SIZE: OnceLock<Option<u32>> = OnceLock::new();
    *SIZE.get_or_init(|| env::var(SUBGROUP).ok()?.parse().ok())
}

impl Driver {
    fn load(variable: &str) -> Option<Self> {
        // SAFETY: the library is a Vulkan driver, which is what the variable is documented to name; loading one has no
        // conditions.
        let library = unsafe { Library::new(env::var_os(variable)?) }.ok()?;
        // A driver stays until the process ends.
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: every Vulkan driver exports these three with these types.
        unsafe {
            Some(Self {
                negotiate: *library.get(b"vk_icdNegotiateLoaderICDInterfaceVersion\0").ok()?,
                find: *library.get(b"vk_icdGetInstanceProcAddr\0").ok()?,
                find_of_adapters: *library.get(b"vk_icdGetPhysicalDeviceProcAddr\0").ok()?,
            })
        }
    }

    /// # Safety
    /// `instance` is this driver's or null, `name` ends with a zero.
    pub(crate) unsafe fn instance_function(
        &self,
        instance: vk::Instance,
        name: *const c_char,
    ) -> vk::PFN_vkVoidFunction {
        // SAFETY: as the caller promises.
        unsafe { (self.find)(instance, name) }
    }

    /// # Safety
    /// As [`Driver::instance_function`].
    pub(crate) unsafe fn adapter_function(
        &self,
        instance: vk::Instance,
        name: *const c_char,
    ) -> vk::PFN_vkVoidFunction {
        // SAFETY: as the caller promises.
        unsafe { (self.find_of_adapters)(instance, name) }
    }

    /// Its functions that need no instance.
    pub(crate) fn entry(&self) -> ash::Entry {
        // SAFETY: `find` is a driver's, which lives until the process ends.
        unsafe { ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr: self.find }) }
    }
}

impl Drivers {
    /// RADV's functions that need no instance.
    pub(crate) fn compiler_entry(&self) -> ash::Entry {
        self.compiler.entry()
    }

    /// Agrees on a version of the loader's interface: the older one of both drivers.
    ///
    /// # Safety
    /// `version` points to the loader's.
    pub(crate) unsafe fn negotiate(&self, version: *mut u32) -> vk::Result {
        // SAFETY: as the caller promises.
        let (mut one, mut two) = unsafe { (*version, *version) };
        // SAFETY: both places live as long as the calls.
        let results =
            unsafe { [(self.software.negotiate)(&raw mut one), (self.compiler.negotiate)(&raw mut two)] };
        // SAFETY: as the caller promises.
        unsafe { *version = one.min(two) };
        results.into_iter().find(|result| *result != vk::Result::SUCCESS).unwrap_or(vk::Result::SUCCESS)
    }
}

impl Target {
    fn open(compiler: &Driver) -> Option<Self> {
        let application =
            vk::ApplicationInfo::default().application_name(c"gemma-radv").api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the instance lives until the process ends; all that `info` points to outlives the call.
        let instance = unsafe { compiler.entry().create_instance(&info, None) }.ok()?;
        // SAFETY: the instance has just been made.
        let adapter = unsafe { instance.enumerate_physical_devices() }.ok()?.first().copied()?;
        Some(Self { instance, adapter })
    }
}
