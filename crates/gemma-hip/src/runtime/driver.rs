//! [`Driver`]: calls of the runtime for one device, and what their codes mean.

use std::ffi::{c_char, c_int};
use std::sync::{Arc, OnceLock};

use gemma_hal::DeviceError;
use hip_sys::{
    Hip, hipDeviceAttribute_t, hipError_t, hipErrorAssert, hipErrorContextIsDestroyed, hipErrorDeinitialized,
    hipErrorECCNotCorrectable, hipErrorIllegalAddress, hipErrorInsufficientDriver, hipErrorInvalidImage,
    hipErrorInvalidKernelFile, hipErrorLaunchFailure, hipErrorLaunchTimeOut, hipErrorNoBinaryForGpu,
    hipErrorNoDevice, hipErrorNotInitialized, hipErrorNotReady, hipErrorNotSupported, hipErrorOutOfMemory,
    hipErrorRuntimeMemory, hipErrorUnknown,
};

/// After these nothing of the device can be used any more, says the runtime's documentation; every later call fails too.
const LOST: [hipError_t; 8] = [
    hipErrorLaunchFailure,
    hipErrorIllegalAddress,
    hipErrorUnknown,
    hipErrorLaunchTimeOut,
    hipErrorContextIsDestroyed,
    hipErrorDeinitialized,
    hipErrorECCNotCorrectable,
    hipErrorAssert,
];

/// What to do where the runtime finds no device, or not the one that it found before.
const NO_DEVICE: &str = "the kernel's driver has no device for HIP: is there a /dev/kfd, is the user in the groups render and video, \
                         and is it a GPU that ROCm knows? See docs/hip-troubleshooting.md";

/// What to do where an object is refused.
const REFUSED_OBJECT: &str =
    "the code object is not for this GPU: build it with `cargo xtask build-kernels --hip`";

/// Room for a device's name.
const NAME_BYTES: usize = 256;

/// The runtime, asked about one device. Clones are the same device.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) hip: Arc<Hip>,
    pub(crate) ordinal: c_int,
    /// Name in errors.
    pub(crate) id: Arc<str>,
    /// Why the device is lost, once it is.
    lost: Arc<OnceLock<String>>,
}

impl Driver {
    /// Device `ordinal` of the runtime.
    pub(crate) fn new(hip: &Arc<Hip>, ordinal: c_int) -> Self {
        let id = format!("hip:{ordinal}").into();
        Self { hip: Arc::clone(hip), ordinal, id, lost: Arc::default() }
    }

    /// The runtime before there is a device: its calls and errors.
    pub(crate) fn of_runtime(hip: &Arc<Hip>, id: &str) -> Self {
        Self { id: id.into(), ..Self::new(hip, 0) }
    }

    /// Whether the device is lost. Then the runtime is not called any more: some versions end the process.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Calls `function`, unless the device is lost.
    ///
    /// # Errors
    /// What its code means.
    pub(crate) fn ask(
        &self,
        function: &str,
        call: impl FnOnce(&Hip) -> hipError_t,
    ) -> Result<(), DeviceError> {
        self.alive()?;
        let code = call(&self.hip);
        self.outcome(function, code)
    }

    /// Calls a `function` that answers whether something is done.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    #[expect(non_upper_case_globals, reason = "the names of the interface")]
    pub(crate) fn is_done(
        &self,
        function: &str,
        call: impl FnOnce(&Hip) -> hipError_t,
    ) -> Result<bool, DeviceError> {
        self.alive()?;
        match call(&self.hip) {
            hipErrorNotReady => Ok(false),
            code => self.outcome(function, code).map(|()| true),
        }
    }

    /// Makes the device that of the calling thread.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub(crate) fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the number is one of the runtime's devices, else the call says so.
        self.ask("hipSetDevice", |hip| unsafe { (hip.hipSetDevice)(self.ordinal) })
    }

    /// A number that the device has of itself; none where the runtime does not know it.
    pub(crate) fn attribute(&self, attribute: hipDeviceAttribute_t) -> Option<c_int> {
        let mut value = 0;
        // SAFETY: the place lives as long as the call.
        let code = unsafe { (self.hip.hipDeviceGetAttribute)(&raw mut value, attribute, self.ordinal) };
        self.hip.check(code).is_ok().then_some(value)
    }

    /// The maker's name for the device.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub(crate) fn name(&self) -> Result<String, DeviceError> {
        let mut name = [0_u8; NAME_BYTES];
        self.ask("hipDeviceGetName", |hip| {
            // SAFETY: the place has as many bytes as the call is told.
            unsafe {
                (hip.hipDeviceGetName)(name.as_mut_ptr().cast::<c_char>(), NAME_BYTES as c_int, self.ordinal)
            }
        })?;
        let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Bytes of the device's memory.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub(crate) fn memory(&self) -> Result<u64, DeviceError> {
        let mut bytes = 0;
        // SAFETY: the place lives as long as the call.
        self.ask("hipDeviceTotalMem", |hip| unsafe {
            (hip.hipDeviceTotalMem)(&raw mut bytes, self.ordinal)
        })?;
        Ok(bytes as u64)
    }

    /// Bytes that are free, as far as the runtime knows: on GPUs without memory of their own it may say more than there are.
    pub(crate) fn free_memory(&self) -> u64 {
        let (mut free, mut total) = (0, 0);
        if self.is_lost() {
            return 0;
        }
        // SAFETY: both places live as long as the call.
        let code = unsafe { (self.hip.hipMemGetInfo)(&raw mut free, &raw mut total) };
        if self.hip.check(code).is_ok() { free.min(total) as u64 } else { 0 }
    }

    /// There was no memory for `what`.
    pub(crate) fn out_of_memory(&self, what: &str, wanted: u64) -> DeviceError {
        let available = self.free_memory();
        DeviceError::OutOfMemory { device: self.id.to_string(), what: what.to_owned(), wanted, available }
    }

    /// Something that the driver refused, in our words.
    pub(crate) fn refused(&self, detail: String) -> DeviceError {
        DeviceError::Driver { device: self.id.to_string(), detail }
    }

    /// Takes the device for lost, for this reason if it is the first one.
    pub(crate) fn lose(&self, detail: String) -> DeviceError {
        let detail = self.lost.get_or_init(|| detail).clone();
        DeviceError::Lost { device: self.id.to_string(), detail }
    }

    fn alive(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            Some(detail) => Err(DeviceError::Lost { device: self.id.to_string(), detail: detail.clone() }),
            None => Ok(()),
        }
    }

    /// What a code that `function` has returned means.
    #[expect(non_upper_case_globals, reason = "the names of the interface")]
    fn outcome(&self, function: &str, code: hipError_t) -> Result<(), DeviceError> {
        let Err(error) = self.hip.check(code) else { return Ok(()) };
        let detail = format!("{function}: {error}");
        if LOST.contains(&code) {
            return Err(self.lose(detail));
        }
        Err(match code {
            hipErrorOutOfMemory | hipErrorRuntimeMemory => self.out_of_memory(function, 0),
            hipErrorNotSupported => DeviceError::Unsupported { device: self.id.to_string(), what: detail },
            hipErrorNoDevice | hipErrorNotInitialized | hipErrorInsufficientDriver => {
                self.refused(format!("{detail}; {NO_DEVICE}"))
            }
            hipErrorNoBinaryForGpu | hipErrorInvalidImage | hipErrorInvalidKernelFile => {
                self.refused(format!("{detail}; {REFUSED_OBJECT}"))
            }
            _ => self.refused(detail),
        })
    }
}

/// The architecture of a name such as `gfx90a:sramecc+:xnack-`, without the settings behind it.
pub(crate) fn architecture_of(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_no_part_of_an_architecture() {
        for (name, architecture) in [
            ("gfx1103", "gfx1103"),
            ("gfx90a:sramecc+:xnack-", "gfx90a"),
            ("gfx1100:sramecc+", "gfx1100"),
            ("", ""),
        ] {
            assert_eq!(architecture_of(name), architecture);
        }
    }
}
