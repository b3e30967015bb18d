//! All that the library knows, behind one lock, and the frame that every exported call runs in.
//!
//! Work runs on the thread that waits for it, with the lock held: what a program sees is one order of many that a device might
//! take, and always the same one.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use hip_sys::{hipError_t, hipErrorNotInitialized, hipErrorNotReady, hipSuccess};

use crate::code_object::Kernel;
use crate::emulation::Emulation;
use crate::failure::{Failure, Outcome, fail};
use crate::graph::{Exec, Graph, Node};
use crate::handles::Handles;
use crate::memory::Memory;
use crate::settings::{Faults, Setting, VARIABLE, parse};
use crate::stream::{Event, Stream};

/// The default stream's handle.
pub(crate) const DEFAULT_STREAM: usize = 0;

/// What has been done so far, for tests that count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kernels: u64,
    pub(crate) graphs: u64,
    pub(crate) copied_bytes: u64,
}

/// A loaded module: its kernels by name, with the handles that were given out.
#[derive(Default)]
pub(crate) struct Module {
    pub(crate) kernels: HashMap<String, (Arc<Kernel>, Option<usize>)>,
}

/// Everything.
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) streams: Handles<Stream>,
    pub(crate) events: Handles<Event>,
    pub(crate) modules: Handles<Module>,
    pub(crate) functions: Handles<Arc<Kernel>>,
    pub(crate) graphs: Handles<Graph>,
    pub(crate) nodes: Handles<Node>,
    pub(crate) execs: Handles<Exec>,
    pub(crate) faults: Faults,
    pub(crate) counts: Counts,
    pub(crate) seed: u64,
    /// What every call answers, once the device is lost.
    pub(crate) lost: Option<hipError_t>,
    emulation_path: Option<PathBuf>,
    emulation: Option<Arc<Emulation>>,
    message: String,
}

thread_local! {
    /// The last error of this thread, for `hipGetLastError`.
    static LAST: Cell<hipError_t> = const { Cell::new(hipSuccess) };
}

/// The state; the first caller reads the environment's settings.
pub(crate) fn state() -> MutexGuard<'static, State> {
    static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs an exported function: a lost device answers for it, and a failure is kept with its reason.
pub(crate) fn call(function: &str, body: impl FnOnce(&mut State) -> Outcome) -> hipError_t {
    let mut state = state();
    let refused = state.faults.refused.get(function).copied();
    let outcome = match (state.lost, refused) {
        (Some(code), _) => fail(code, ""),
        (None, Some(code)) => fail(code, "refused, as was set"),
        (None, None) => body(&mut state),
    };
    let Err(Failure { code, reason }) = outcome else { return hipSuccess };
    // Of a lost device the reason for which it is lost says more.
    if !reason.is_empty() && code != hipErrorNotReady {
        state.message = format!("{function}: {reason}");
    }
    if code != hipErrorNotReady {
        LAST.set(code);
    }
    code
}

/// The calling thread's last error, which is forgotten if that is wanted.
pub(crate) fn last_error(forget: bool) -> hipError_t {
    let last = LAST.get();
    if forget {
        LAST.set(hipSuccess);
    }
    last
}

impl State {
    fn new() -> Self {
        let mut streams = Handles::new(1);
        streams.insert_at(DEFAULT_STREAM, Stream::default());
        let mut state = Self {
            memory: Memory::default(),
            streams,
            events: Handles::new(2),
            modules: Handles::new(3),
            functions: Handles::new(4),
            graphs: Handles::new(5),
            nodes: Handles::new(6),
            execs: Handles::new(7),
            faults: Faults::default(),
            counts: Counts::default(),
            seed: 0,
            lost: None,
            emulation_path: None,
            emulation: None,
            message: String::new(),
        };
        let settings = std::env::var(VARIABLE).unwrap_or_default();
        if let Err(problem) = state.set(&settings) {
            state.message = format!("{VARIABLE}: {problem}");
            state.lost = Some(hipErrorNotInitialized);
        }
        state
    }

    /// Applies settings.
    pub(crate) fn set(&mut self, text: &str) -> Result<(), String> {
        for setting in parse(text)? {
            match setting {
                Setting::Memory(bytes) => self.memory.budget = bytes,
                Setting::DeviceMemory(bytes) => self.memory.device_budget = bytes,
                Setting::Seed(seed) => self.seed = seed,
                Setting::FailAllocation(fault) => self.faults.allocation = Some(fault),
                Setting::FailLaunch(fault) => self.faults.launch = Some(fault),
                Setting::FailCapture(fault) => self.faults.capture = Some(fault),
                Setting::LoseDevice(fault) => self.faults.lost = Some(fault),
                Setting::Hang(fault) => self.faults.hang = Some(fault),
                Setting::Refuse(function, code) => {
                    self.faults.refused.insert(function, code);
                }
                Setting::Emulation(path) => {
                    self.emulation_path = Some(path);
                    self.emulation = None;
                }
                Setting::Reset => {
                    self.faults = Faults::default();
                    self.lost = None;
                    self.streams.values_mut().for_each(Stream::clear);
                }
            }
        }
        Ok(())
    }

    /// Why the last call failed.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Keeps the reason of a failure.
    pub(crate) fn explain(&mut self, reason: String) {
        self.message = reason;
    }

    /// A number that tests ask for.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        Some(match name {
            "allocations" => self.memory.count(),
            "bytes" => self.memory.used(),
            "kernels" => self.counts.kernels,
            "graphs" => self.counts.graphs,
            "copied-bytes" => self.counts.copied_bytes,
            _ => return None,
        })
    }

    /// The library that kernels run by, loaded when it is first needed.
    pub(crate) fn emulation(&mut self) -> Outcome<Arc<Emulation>> {
        if let Some(emulation) = &self.emulation {
            return Ok(emulation.clone());
        }
        let emulation = Arc::new(Emulation::load(self.emulation_path.as_deref())?);
        self.emulation = Some(emulation.clone());
        Ok(emulation)
    }
}
