//! Codes of the runtime, their names, and the error that a code becomes.
//!
//! The table is that of the headers; a library of a later version may give codes and texts that it does not have.

use std::fmt;

/// What most functions return; 0 is success. Any number may come, hence no `enum`.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub struct hipError_t(pub u32);

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What it returned.
    pub code: hipError_t,
    /// The code's name, as `hipErrorOutOfMemory`.
    pub name: String,
    /// The library's words for it, in English.
    pub text: String,
}

/// Codes and their names.
pub type ErrorNames = &'static [(hipError_t, &'static str)];

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        $(
            #[doc = concat!("Code ", stringify!($code), ".")]
            pub const $name: hipError_t = hipError_t($code);
        )*

        impl hipError_t {
            /// Every code of the table; codes are rising.
            pub const NAMES: ErrorNames = &[$(($name, stringify!($name)),)*];
        }
    };
}

/// The codes, in a module of their own so that their docs do not crowd out the rest.
pub(crate) mod codes {
    use super::{ErrorNames, hipError_t};

    codes! {
        hipSuccess = 0,
        hipErrorInvalidValue = 1,
        hipErrorOutOfMemory = 2,
        hipErrorNotInitialized = 3,
        hipErrorDeinitialized = 4,
        hipErrorProfilerDisabled = 5,
        hipErrorProfilerNotInitialized = 6,
        hipErrorProfilerAlreadyStarted = 7,
        hipErrorProfilerAlreadyStopped = 8,
        hipErrorInvalidConfiguration = 9,
        hipErrorInvalidPitchValue = 12,
        hipErrorInvalidSymbol = 13,
        hipErrorInvalidDevicePointer = 17,
        hipErrorInvalidMemcpyDirection = 21,
        hipErrorInsufficientDriver = 35,
        hipErrorMissingConfiguration = 52,
        hipErrorPriorLaunchFailure = 53,
        hipErrorInvalidDeviceFunction = 98,
        hipErrorNoDevice = 100,
        hipErrorInvalidDevice = 101,
        hipErrorInvalidImage = 200,
        hipErrorInvalidContext = 201,
        hipErrorContextAlreadyCurrent = 202,
        hipErrorMapFailed = 205,
        hipErrorUnmapFailed = 206,
        hipErrorArrayIsMapped = 207,
        hipErrorAlreadyMapped = 208,
        hipErrorNoBinaryForGpu = 209,
        hipErrorAlreadyAcquired = 210,
        hipErrorNotMapped = 211,
        hipErrorNotMappedAsArray = 212,
        hipErrorNotMappedAsPointer = 213,
        hipErrorECCNotCorrectable = 214,
        hipErrorUnsupportedLimit = 215,
        hipErrorContextAlreadyInUse = 216,
        hipErrorPeerAccessUnsupported = 217,
        hipErrorInvalidKernelFile = 218,
        hipErrorInvalidGraphicsContext = 219,
        hipErrorInvalidSource = 300,
        hipErrorFileNotFound = 301,
        hipErrorSharedObjectSymbolNotFound = 302,
        hipErrorSharedObjectInitFailed = 303,
        hipErrorOperatingSystem = 304,
        hipErrorInvalidHandle = 400,
        hipErrorIllegalState = 401,
        hipErrorNotFound = 500,
        hipErrorNotReady = 600,
        hipErrorIllegalAddress = 700,
        hipErrorLaunchOutOfResources = 701,
        hipErrorLaunchTimeOut = 702,
        hipErrorPeerAccessAlreadyEnabled = 704,
        hipErrorPeerAccessNotEnabled = 705,
        hipErrorSetOnActiveProcess = 708,
        hipErrorContextIsDestroyed = 709,
        hipErrorAssert = 710,
        hipErrorHostMemoryAlreadyRegistered = 712,
        hipErrorHostMemoryNotRegistered = 713,
        hipErrorLaunchFailure = 719,
        hipErrorCooperativeLaunchTooLarge = 720,
        hipErrorNotSupported = 801,
        hipErrorStreamCaptureUnsupported = 900,
        hipErrorStreamCaptureInvalidated = 901,
        hipErrorStreamCaptureMerge = 902,
        hipErrorStreamCaptureUnmatched = 903,
        hipErrorStreamCaptureUnjoined = 904,
        hipErrorStreamCaptureIsolation = 905,
        hipErrorStreamCaptureImplicit = 906,
        hipErrorCapturedEvent = 907,
        hipErrorStreamCaptureWrongThread = 908,
        hipErrorGraphExecUpdateFailure = 910,
        hipErrorInvalidChannelDescriptor = 911,
        hipErrorInvalidTexture = 912,
        hipErrorUnknown = 999,
        hipErrorRuntimeMemory = 1052,
        hipErrorRuntimeOther = 1053,
    }
}

impl hipError_t {
    /// Its name in the headers; none of a code that the table does not have.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.binary_search_by_key(&self, |(code, _)| *code).ok().map(|index| Self::NAMES[index].1)
    }
}

impl fmt::Debug for hipError_t {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "hipError_t({})", self.0),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.code.0, self.text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::codes::*;
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(hipError_t::NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
        for (code, name) in hipError_t::NAMES {
            assert_eq!(code.name(), Some(*name));
        }
        assert_eq!(hipError_t(55).name(), None);
    }

    #[test]
    fn a_code_and_an_error_can_be_read() {
        assert_eq!(
            format!("{hipErrorOutOfMemory:?} {:?}", hipError_t(55)),
            "hipErrorOutOfMemory hipError_t(55)"
        );
        let error = Error {
            code: hipErrorLaunchFailure,
            name: "hipErrorLaunchFailure".to_owned(),
            text: "unspecified launch failure".to_owned(),
        };
        assert_eq!(error.to_string(), "hipErrorLaunchFailure (719): unspecified launch failure");
    }
}
