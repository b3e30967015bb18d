//! What the tests share: an installed copy of the library with its kernels, and short forms of the calls.

#![allow(dead_code)]

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;

use gemma_hip_standin::StandIn;
use hip_sys::*;

pub(crate) const MODULE: &[u8] = include_bytes!("../data/kernels.gfx1103.co");
pub(crate) const OTHER_MODULE: &[u8] = include_bytes!("../data/kernels.gfx1100.co");

/// What the kernel `scale` takes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ScaleArguments {
    pub(crate) from: *const c_void,
    pub(crate) to: *mut c_void,
    pub(crate) count: i32,
    pub(crate) factor: f32,
}

/// A copy of the library, opened as a program would.
pub(crate) struct Device {
    pub(crate) library: StandIn,
    pub(crate) hip: Hip,
}

impl Device {
    pub(crate) fn new() -> Self {
        let device = Self::new_without_settings();
        device.library.set(&format!("emulation={}", emulation().display())).expect("settings");
        device
    }

    pub(crate) fn new_without_settings() -> Self {
        let library = StandIn::install(&folder()).expect("library");
        let hip = Hip::open(library.path()).expect("runtime");
        Self { library, hip }
    }

    pub(crate) fn allocate(&self, bytes: usize) -> *mut c_void {
        let mut place = ptr::null_mut();
        // SAFETY: the place lives as long as the call.
        self.ok(unsafe { (self.hip.hipMalloc)(&raw mut place, bytes) });
        place
    }

    pub(crate) fn free(&self, place: *mut c_void) {
        // SAFETY: the library checks the address.
        self.ok(unsafe { (self.hip.hipFree)(place) });
    }

    pub(crate) fn write(&self, place: *mut c_void, values: &[f32]) {
        let bytes = size_of_val(values);
        // SAFETY: there are so many bytes on both sides, or the library says that there are not.
        self.ok(unsafe { (self.hip.hipMemcpy)(place, values.as_ptr().cast(), bytes, hipMemcpyHostToDevice) });
    }

    pub(crate) fn read(&self, place: *mut c_void, count: usize) -> Vec<f32> {
        let mut values = vec![0.0_f32; count];
        let bytes = size_of_val(values.as_slice());
        // SAFETY: as above.
        self.ok(unsafe {
            (self.hip.hipMemcpy)(values.as_mut_ptr().cast(), place, bytes, hipMemcpyDeviceToHost)
        });
        values
    }

    pub(crate) fn stream(&self, flags: u32) -> hipStream_t {
        let mut stream = ptr::null_mut();
        // SAFETY: the place lives as long as the call.
        self.ok(unsafe { (self.hip.hipStreamCreateWithFlags)(&raw mut stream, flags) });
        stream
    }

    pub(crate) fn wait(&self, stream: hipStream_t) -> hipError_t {
        // SAFETY: the library checks the stream.
        unsafe { (self.hip.hipStreamSynchronize)(stream) }
    }

    pub(crate) fn event(&self, flags: u32) -> hipEvent_t {
        let mut event = ptr::null_mut();
        // SAFETY: the place lives as long as the call.
        self.ok(unsafe { (self.hip.hipEventCreateWithFlags)(&raw mut event, flags) });
        event
    }

    pub(crate) fn record(&self, event: hipEvent_t, stream: hipStream_t) -> hipError_t {
        // SAFETY: the library checks both.
        unsafe { (self.hip.hipEventRecord)(event, stream) }
    }

    pub(crate) fn module(&self) -> hipModule_t {
        let mut module = ptr::null_mut();
        // SAFETY: it is a whole code object.
        self.ok(unsafe { (self.hip.hipModuleLoadData)(&raw mut module, MODULE.as_ptr().cast()) });
        module
    }

    pub(crate) fn function(&self, module: hipModule_t, name: &str) -> hipFunction_t {
        let (mut function, name) = (ptr::null_mut(), CString::new(name).expect("name"));
        // SAFETY: the place and the name live as long as the call.
        self.ok(unsafe { (self.hip.hipModuleGetFunction)(&raw mut function, module, name.as_ptr()) });
        function
    }

    /// Launches with the arguments as one buffer.
    pub(crate) fn launch<T>(
        &self,
        function: hipFunction_t,
        blocks: u32,
        items: u32,
        stream: hipStream_t,
        arguments: &mut T,
    ) -> hipError_t {
        let mut bytes = size_of::<T>();
        let mut extra = extra(arguments, &mut bytes);
        let (params, extra) = (ptr::null_mut(), extra.as_mut_ptr());
        // SAFETY: the list is a right one, and the arguments live as long as the call.
        unsafe {
            (self.hip.hipModuleLaunchKernel)(function, blocks, 1, 1, items, 1, 1, 0, stream, params, extra)
        }
    }

    pub(crate) fn begin_capture(&self, stream: hipStream_t) {
        // SAFETY: the library checks the stream.
        self.ok(unsafe { (self.hip.hipStreamBeginCapture)(stream, hipStreamCaptureModeGlobal) });
    }

    pub(crate) fn end_capture(&self, stream: hipStream_t) -> Result<hipGraph_t, hipError_t> {
        let mut graph = ptr::null_mut();
        // SAFETY: the place lives as long as the call.
        let code = unsafe { (self.hip.hipStreamEndCapture)(stream, &raw mut graph) };
        assert_eq!(graph.is_null(), code != hipSuccess);
        if code == hipSuccess { Ok(graph) } else { Err(code) }
    }

    pub(crate) fn instantiate(&self, graph: hipGraph_t) -> hipGraphExec_t {
        let mut exec = ptr::null_mut();
        // SAFETY: the place lives as long as the call; the others may be null.
        self.ok(unsafe {
            (self.hip.hipGraphInstantiate)(&raw mut exec, graph, ptr::null_mut(), ptr::null_mut(), 0)
        });
        exec
    }

    pub(crate) fn launch_graph(&self, exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t {
        // SAFETY: the library checks both.
        unsafe { (self.hip.hipGraphLaunch)(exec, stream) }
    }

    #[track_caller]
    pub(crate) fn ok(&self, code: hipError_t) {
        assert_eq!(code, hipSuccess, "{}", self.library.message());
    }

    /// The call must have failed with this code, for a reason that has these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: hipError_t, expected: hipError_t, words: &str) {
        let message = self.library.message();
        assert_eq!(code, expected, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

/// The list that stands for one buffer of arguments.
pub(crate) fn extra<T>(arguments: &mut T, bytes: &mut usize) -> [*mut c_void; 5] {
    [
        HIP_LAUNCH_PARAM_BUFFER_POINTER,
        ptr::from_mut(arguments).cast(),
        HIP_LAUNCH_PARAM_BUFFER_SIZE,
        ptr::from_mut(bytes).cast(),
        HIP_LAUNCH_PARAM_END,
    ]
}

/// A folder that stays until the tests are over, as libraries are never unloaded.
pub(crate) fn folder() -> PathBuf {
    tempfile::tempdir().expect("folder").keep()
}

/// The library of the kernels, compiled once a test's process.
pub(crate) fn emulation() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let (folder, data) = (folder(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/emulation.c"));
        let path = folder.join("libemulation.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status =
            Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(data).status();
        assert!(status.expect("a C compiler").success());
        path
    })
}
