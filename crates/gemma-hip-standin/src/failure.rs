//! A call's failure, with words for people, and the texts of codes.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use hip_sys::{hipError_t, hipErrorInvalidImage, hipErrorInvalidValue, hipErrorNoBinaryForGpu};

use crate::code_object::Refusal;

/// What a call answers, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: hipError_t,
    pub(crate) reason: String,
}

/// What a call came to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A failure with this code.
pub(crate) fn fail<T>(code: hipError_t, reason: impl Into<String>) -> Outcome<T> {
    Err(Failure { code, reason: reason.into() })
}

/// A failure as of a wrong argument.
pub(crate) fn invalid<T>(reason: impl Into<String>) -> Outcome<T> {
    fail(hipErrorInvalidValue, reason)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(reason) => Self { code: hipErrorInvalidImage, reason },
            Refusal::OtherDevice(reason) => Self { code: hipErrorNoBinaryForGpu, reason },
        }
    }
}

/// The name and the text of a code, which stay.
pub(crate) fn words(code: hipError_t) -> (*const c_char, *const c_char) {
    static WORDS: OnceLock<HashMap<u32, (CString, CString)>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let entry =
            |(code, name): &(hipError_t, &str)| Some((code.0, (CString::new(*name).ok()?, text(name)?)));
        hipError_t::NAMES.iter().filter_map(entry).collect()
    });
    match words.get(&code.0) {
        Some((name, text)) => (name.as_ptr(), text.as_ptr()),
        None => (c"hipErrorUnknown".as_ptr(), c"unknown error".as_ptr()),
    }
}

/// The words that a name is made of: "out of memory" of `hipErrorOutOfMemory`.
fn text(name: &str) -> Option<CString> {
    let name = name.strip_prefix("hipError").or_else(|| name.strip_prefix("hip"))?;
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    CString::new(text).ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use hip_sys::{hipErrorOutOfMemory, hipSuccess};

    use super::*;

    #[test]
    fn codes_have_words() {
        for (code, name, text) in [
            (hipErrorOutOfMemory, "hipErrorOutOfMemory", "out of memory"),
            (hipSuccess, "hipSuccess", "success"),
            (hipError_t(77), "hipErrorUnknown", "unknown error"),
        ] {
            let words = words(code);
            // SAFETY: both are strings that end and stay.
            let words = unsafe { (CStr::from_ptr(words.0), CStr::from_ptr(words.1)) };
            assert_eq!((words.0.to_str(), words.1.to_str()), (Ok(name), Ok(text)));
        }
    }
}
