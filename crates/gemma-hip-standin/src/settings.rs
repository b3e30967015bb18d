//! What a test sets: budget, seed, emulation, faults. One short language, for the environment and for a function that is exported.
//!
//! `NAME=VALUE`, with `;` or lines between. `N` counts from 1, from when it is set; `CODE` is a number of `hipError_t`.
//!
//! | setting | effect |
//! | --- | --- |
//! | `memory=BYTES` | the budget of all allocations |
//! | `device-memory=BYTES` | the part of it that `hipMalloc` has |
//! | `emulation=PATH` | the library that kernels are emulated by |
//! | `seed=N` | in which order the emulation runs work-items: with 0, that of their numbers; else another one for each launch |
//! | `fail-allocation=N[:CODE]` | the Nth allocation fails, else with `hipErrorOutOfMemory` |
//! | `fail-launch=N[:CODE]` | the Nth launch of a kernel or graph is refused, else with `hipErrorLaunchFailure` |
//! | `fail-capture=N[:CODE]` | the Nth capture ends without a graph, else with `hipErrorStreamCaptureInvalidated` |
//! | `lose-device=N[:CODE]` | the work of the Nth launch fails, and so does every call from then on |
//! | `refuse=FUNCTION[:CODE]` | every call of the function fails, else with `hipErrorNotSupported` |
//! | `hang=N` | the work of the Nth launch never ends |
//! | `reset` | no faults, and the device is there again |

use std::collections::HashMap;
use std::path::PathBuf;

use hip_sys::{
    Functions, hipError_t, hipErrorLaunchFailure, hipErrorNotSupported, hipErrorOutOfMemory,
    hipErrorStreamCaptureInvalidated,
};

/// Where the environment has settings.
pub(crate) const VARIABLE: &str = "GEMMA_HIP_STANDIN";

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Memory(u64),
    DeviceMemory(u64),
    Emulation(PathBuf),
    Seed(u64),
    FailAllocation(Countdown),
    FailLaunch(Countdown),
    FailCapture(Countdown),
    LoseDevice(Countdown),
    Hang(Countdown),
    Refuse(&'static str, hipError_t),
    Reset,
}

/// Something that happens when it has been asked for often enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Countdown {
    left: u64,
    code: hipError_t,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Functions that are refused, and with which code.
    pub(crate) refused: HashMap<&'static str, hipError_t>,
    pub(crate) allocation: Option<Countdown>,
    pub(crate) launch: Option<Countdown>,
    pub(crate) capture: Option<Countdown>,
    pub(crate) lost: Option<Countdown>,
    pub(crate) hang: Option<Countdown>,
}

/// Counts down, and gives the code when it is time, once.
pub(crate) fn due(fault: &mut Option<Countdown>) -> Option<hipError_t> {
    let countdown = fault.as_mut()?;
    countdown.left -= 1;
    let code = (countdown.left == 0).then_some(countdown.code);
    if code.is_some() {
        *fault = None;
    }
    code
}

/// Reads settings; the first one that is none is the error.
pub(crate) fn parse(text: &str) -> Result<Vec<Setting>, String> {
    let parts = text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| setting(part).ok_or_else(|| format!("{part} is no setting"))).collect()
}

fn setting(part: &str) -> Option<Setting> {
    if part == "reset" {
        return Some(Setting::Reset);
    }
    let (name, value) = part.split_once('=')?;
    Some(match name {
        "memory" => Setting::Memory(value.parse().ok()?),
        "device-memory" => Setting::DeviceMemory(value.parse().ok()?),
        "emulation" => Setting::Emulation(value.into()),
        "seed" => Setting::Seed(value.parse().ok()?),
        "fail-allocation" => Setting::FailAllocation(countdown(value, hipErrorOutOfMemory)?),
        "fail-launch" => Setting::FailLaunch(countdown(value, hipErrorLaunchFailure)?),
        "fail-capture" => Setting::FailCapture(countdown(value, hipErrorStreamCaptureInvalidated)?),
        "lose-device" => Setting::LoseDevice(countdown(value, hipErrorLaunchFailure)?),
        "hang" => Setting::Hang(countdown(value, hipErrorLaunchFailure)?),
        "refuse" => {
            let (function, code) = with_code(value, hipErrorNotSupported)?;
            let mut functions = Functions::REQUIRED.iter().chain(Functions::OPTIONAL);
            Setting::Refuse(functions.find(|name| **name == function)?, code)
        }
        _ => return None,
    })
}

fn countdown(value: &str, code: hipError_t) -> Option<Countdown> {
    let (left, code) = with_code(value, code)?;
    Some(Countdown { left: left.parse().ok().filter(|left| *left != 0)?, code })
}

/// A value and the code behind it, if there is one.
fn with_code(value: &str, code: hipError_t) -> Option<(&str, hipError_t)> {
    match value.split_once(':') {
        Some((value, code)) => Some((value, hipError_t(code.parse().ok().filter(|code| *code != 0)?))),
        None => Some((value, code)),
    }
}

#[cfg(test)]
mod tests {
    use hip_sys::hipErrorUnknown;

    use super::*;

    #[test]
    fn settings_are_read() {
        let read = parse("refuse=hipMallocManaged; memory=4096; device-memory=96;seed=7\nfail-launch=2:999;reset ;lose-device=1;emulation=a=b")
            .expect("settings");
        let countdown = |left, code| Countdown { left, code };
        assert_eq!(
            read,
            [
                Setting::Refuse("hipMallocManaged", hipErrorNotSupported),
                Setting::Memory(4096),
                Setting::DeviceMemory(96),
                Setting::Seed(7),
                Setting::FailLaunch(countdown(2, hipErrorUnknown)),
                Setting::Reset,
                Setting::LoseDevice(countdown(1, hipErrorLaunchFailure)),
                Setting::Emulation("a=b".into()),
            ]
        );
        for wrong in [
            "memory",
            "memory=x",
            "fail-launch=0",
            "fail-launch=1:0",
            "fail-launch=1:x",
            "colour=red",
            "refuse=hipNothing",
        ] {
            assert_eq!(parse(wrong), Err(format!("{wrong} is no setting")));
        }
    }

    #[test]
    fn a_fault_comes_once_and_in_time() {
        let mut fault = countdown("3", hipErrorOutOfMemory);
        let codes: Vec<_> = (0..5).map(|_| due(&mut fault)).collect();
        assert_eq!(codes, [None, None, Some(hipErrorOutOfMemory), None, None]);
    }
}
