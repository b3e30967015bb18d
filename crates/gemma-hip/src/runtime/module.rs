//! [`Kernels`]: the loaded code objects of a card, and their kernels by name.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use gemma_hal::DeviceError;
use gemma_hip_kernels::Launch;
use gemma_hip_kernels::images::{Image, KernelShape};
use hip_sys::{HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, hipFunction_t, hipModule_t};

use super::driver::Driver;

/// A kernel that is loaded.
struct Kernel {
    function: hipFunction_t,
    shape: KernelShape,
}

/// A loaded object.
struct Module {
    handle: hipModule_t,
    /// The runtime may read it as long as the module is loaded.
    _words: Vec<u128>,
}

/// All kernels of a card.
pub(crate) struct Kernels {
    driver: Driver,
    modules: Vec<Module>,
    by_name: HashMap<String, Kernel>,
    /// Whether the GPU may run them for ever.
    stays: AtomicBool,
}

// SAFETY: the runtime takes modules and functions from any thread.
unsafe impl Send for Kernels {}
// SAFETY: as above; nothing is changed behind a shared reference.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Loads objects.
    ///
    /// # Errors
    /// What the runtime says, with the object's name; [`DeviceError::Driver`] where an object is not what it says of itself.
    pub(crate) fn load(driver: &Driver, images: Vec<Image>) -> Result<Self, DeviceError> {
        let mut all = Self {
            driver: driver.clone(),
            modules: Vec::new(),
            by_name: HashMap::new(),
            stays: AtomicBool::new(false),
        };
        for image in images {
            let mut handle = ptr::null_mut();
            driver.ask(&format!("hipModuleLoadData of {}", image.file), |hip| {
                // SAFETY: the words are a whole code object, of which the manifest has the digest, and stay as long as the module.
                unsafe { (hip.hipModuleLoadData)(&raw mut handle, image.words.as_ptr().cast()) }
            })?;
            all.modules.push(Module { handle, _words: image.words });
            for shape in image.kernels {
                let function = function(driver, handle, &image.file, &shape)?;
                all.by_name.insert(shape.name.clone(), Kernel { function, shape });
            }
        }
        Ok(all)
    }

    /// The kernel of a launch, which must be of its shape.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where there is no such kernel.
    pub(crate) fn get(&self, driver: &Driver, launch: &Launch) -> Result<hipFunction_t, DeviceError> {
        let Some(Kernel { function, shape }) = self.by_name.get(&launch.kernel) else {
            let what = format!("kernel {}, which no code object has", launch.kernel);
            return Err(DeviceError::Unsupported { device: driver.id.to_string(), what });
        };
        if launch.block == shape.threads && launch.arguments.len() == shape.argument_bytes {
            return Ok(*function);
        }
        Err(driver.refused(format!(
            "kernel {} takes {} bytes in blocks of {}, not {} in blocks of {}: its code object is of other sources",
            launch.kernel,
            shape.argument_bytes,
            shape.threads,
            launch.arguments.len(),
            launch.block,
        )))
    }

    /// Leaves the modules loaded.
    pub(super) fn forget(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

fn function(
    driver: &Driver,
    module: hipModule_t,
    file: &str,
    shape: &KernelShape,
) -> Result<hipFunction_t, DeviceError> {
    let name = CString::new(shape.name.as_str())
        .map_err(|_| driver.refused(format!("{file}: a kernel's name has a zero")))?;
    let mut function = ptr::null_mut();
    driver.ask(&format!("hipModuleGetFunction of {} in {file}", shape.name), |hip| {
        // SAFETY: the place and the name live as long as the call.
        unsafe { (hip.hipModuleGetFunction)(&raw mut function, module, name.as_ptr()) }
    })?;
    let mut most = 0;
    driver.ask("hipFuncGetAttribute", |hip| {
        // SAFETY: the place lives as long as the call, and the function as long as its module.
        unsafe {
            (hip.hipFuncGetAttribute)(&raw mut most, HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function)
        }
    })?;
    if c_int::try_from(shape.threads).is_ok_and(|threads| threads <= most) {
        return Ok(function);
    }
    let (name, threads) = (&shape.name, shape.threads);
    Err(driver.refused(format!(
        "{file}: {name} takes blocks of {most} work-items, not the {threads} of the manifest"
    )))
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed) || self.driver.is_lost() {
            // The GPU may still read them.
            self.modules.drain(..).for_each(std::mem::forget);
            return;
        }
        for module in &self.modules {
            // SAFETY: nobody has its kernels any more. What is said of it is no news to anybody.
            let _ = self.driver.ask("hipModuleUnload", |hip| unsafe { (hip.hipModuleUnload)(module.handle) });
        }
    }
}
