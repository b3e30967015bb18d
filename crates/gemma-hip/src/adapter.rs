//! [`devices`]: the GPUs that AMD's runtime knows on this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gemma_hal::DeviceError;
use hip_sys::{
    Hip, LoadError, hipDeviceAttributeIntegrated, hipDeviceAttributeMultiprocessorCount,
    hipDeviceAttributePhysicalMultiProcessorCount,
};

use crate::objects;
use crate::runtime::{Driver, architecture_of};

/// What the runtime is called in errors, before there is a device.
const RUNTIME: &str = "hip";

/// A GPU that the runtime knows. Clones are the same GPU.
#[derive(Clone)]
pub struct HipAdapter {
    /// Short name that `--device` takes ("hip:0").
    pub id: String,
    /// The maker's name for it.
    pub name: String,
    /// Its instruction set without settings ("gfx1103"); empty where the runtime's answer is not understood.
    pub architecture: String,
    /// Bytes of memory that the runtime says it has.
    pub memory: u64,
    /// Whether it shares the machine's memory.
    pub is_integrated: bool,
    /// Compute units, where the runtime tells.
    pub compute_units: usize,
    /// The runtime's version.
    pub runtime: String,
    /// The runtime's file, or the name by which the system's loader found it.
    pub library: PathBuf,
    pub(crate) driver: Driver,
}

impl HipAdapter {
    /// Whether there are kernels for it.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] names its architecture and those that kernels are written for.
    pub fn is_supported(&self) -> Result<(), DeviceError> {
        objects::check_architecture(&self.architecture)
            .map_err(|what| DeviceError::Unsupported { device: self.id.clone(), what })
    }
}

impl fmt::Debug for HipAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HipAdapter")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("architecture", &self.architecture)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// The GPUs of this machine, in the runtime's order. Which of them have kernels says [`HipAdapter::is_supported`].
///
/// # Errors
/// [`DeviceError::Driver`]: there is no runtime and where it was looked for, it is too old or incomplete, or it has no device.
pub fn devices() -> Result<Vec<HipAdapter>, DeviceError> {
    adapters(Hip::load())
}

/// [`devices`] of the runtime in a file.
///
/// # Errors
/// As [`devices`].
pub fn devices_of(library: &Path) -> Result<Vec<HipAdapter>, DeviceError> {
    adapters(Hip::open(library))
}

fn adapters(hip: Result<Hip, LoadError>) -> Result<Vec<HipAdapter>, DeviceError> {
    let hip =
        hip.map_err(|error| DeviceError::Driver { device: RUNTIME.to_owned(), detail: error.to_string() })?;
    let hip = Arc::new(hip);
    let mut count = 0;
    let driver = Driver::of_runtime(&hip, RUNTIME);
    // SAFETY: flags must be zero.
    driver.ask("hipInit", |hip| unsafe { (hip.hipInit)(0) })?;
    // SAFETY: the place lives as long as the call.
    driver.ask("hipGetDeviceCount", |hip| unsafe { (hip.hipGetDeviceCount)(&raw mut count) })?;
    (0..count).map(|ordinal| adapter(Driver::new(&hip, ordinal))).collect()
}

fn adapter(driver: Driver) -> Result<HipAdapter, DeviceError> {
    let hip = Arc::clone(&driver.hip);
    let named = hip.architecture(driver.ordinal).map_err(|error| driver.refused(error.to_string()))?;
    let units = [hipDeviceAttributePhysicalMultiProcessorCount, hipDeviceAttributeMultiprocessorCount];
    let units =
        units.into_iter().find_map(|attribute| driver.attribute(attribute).filter(|units| *units > 0));
    Ok(HipAdapter {
        id: driver.id.to_string(),
        name: driver.name()?,
        architecture: architecture_of(named.as_deref().unwrap_or_default()).to_owned(),
        memory: driver.memory()?,
        is_integrated: driver.attribute(hipDeviceAttributeIntegrated).unwrap_or(0) != 0,
        compute_units: units.and_then(|units| usize::try_from(units).ok()).unwrap_or(1),
        runtime: hip.version().to_string(),
        library: hip.path().to_owned(),
        driver,
    })
}
