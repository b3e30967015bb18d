//! CUDA's driver interface, loaded at run time, and its one context.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use hip_sys::{hipError_t, hipErrorNoDevice, hipErrorNotFound, hipSuccess};
use libloading::Library;

/// Where compiled kernels are.
const FOLDER: &str = "GEMMA_HIP_CUDA";

/// The attribute of a kernel that asks for more shared memory than usual.
const DYNAMIC_SHARED_BYTES: c_int = 8;

/// A handle, of whichever kind.
pub(crate) type Handle = *mut c_void;

/// An address on the device.
pub(crate) type Address = c_ulonglong;

/// `CUDA_KERNEL_NODE_PARAMS`, in its first version.
#[repr(C)]
pub(crate) struct KernelNode {
    pub(crate) function: Handle,
    pub(crate) grid: [c_uint; 3],
    pub(crate) block: [c_uint; 3],
    pub(crate) shared_bytes: c_uint,
    pub(crate) params: *mut *mut c_void,
    pub(crate) extra: *mut *mut c_void,
}

macro_rules! functions {
    ($(fn $name:ident($($type:ty),* $(,)?);)*) => {
        /// The functions of the driver, under their names. All answer with an error's number, which is HIP's too.
        #[allow(non_snake_case, reason = "they are the driver's names")]
        pub(crate) struct Cuda {
            $(
                // SAFETY: a type alone; who calls it keeps to the documentation of the driver.
                pub(crate) $name: unsafe extern "C" fn($($type),*) -> c_int,
            )*
            context: usize,
            modules: Vec<usize>,
            /// Kernels whose shared memory is more than the driver gives without being asked, with its bytes.
            large: Mutex<Vec<(usize, c_uint)>>,
        }

        impl Cuda {
            /// Looks them up.
            ///
            /// # Safety
            /// The library is CUDA's driver and stays loaded.
            unsafe fn find(library: &Library) -> Option<Self> {
                Some(Self {
                    $($name: {
                        // SAFETY: the driver's functions have these types, and the library stays.
                        unsafe { *library.get(concat!(stringify!($name), "\0").as_bytes()).ok()? }
                    },)*
                    context: 0,
                    modules: Vec::new(),
                    large: Mutex::default(),
                })
            }
        }
    };
}

functions! {
    fn cuInit(c_uint);
    fn cuGetErrorName(c_int, *mut *const c_char);
    fn cuGetErrorString(c_int, *mut *const c_char);
    fn cuDeviceGet(*mut c_int, c_int);
    fn cuDeviceGetName(*mut c_char, c_int, c_int);
    fn cuDeviceGetPCIBusId(*mut c_char, c_int, c_int);
    fn cuDeviceTotalMem_v2(*mut usize, c_int);
    fn cuDeviceGetAttribute(*mut c_int, c_int, c_int);
    fn cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    fn cuCtxSetCurrent(Handle);
    fn cuCtxSynchronize();
    fn cuCtxGetStreamPriorityRange(*mut c_int, *mut c_int);
    fn cuMemAlloc_v2(*mut Address, usize);
    fn cuMemFree_v2(Address);
    fn cuMemAllocManaged(*mut Address, usize, c_uint);
    fn cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    fn cuMemFreeHost(*mut c_void);
    fn cuMemHostRegister_v2(*mut c_void, usize, c_uint);
    fn cuMemHostUnregister(*mut c_void);
    fn cuMemHostGetDevicePointer_v2(*mut Address, *mut c_void, c_uint);
    fn cuMemGetInfo_v2(*mut usize, *mut usize);
    fn cuMemcpy(Address, Address, usize);
    fn cuMemcpyAsync(Address, Address, usize, Handle);
    fn cuMemsetD8_v2(Address, u8, usize);
    fn cuMemsetD8Async(Address, u8, usize, Handle);
    fn cuMemsetD32Async(Address, c_uint, usize, Handle);
    fn cuStreamCreate(*mut Handle, c_uint);
    fn cuStreamCreateWithPriority(*mut Handle, c_uint, c_int);
    fn cuStreamDestroy_v2(Handle);
    fn cuStreamSynchronize(Handle);
    fn cuStreamQuery(Handle);
    fn cuStreamWaitEvent(Handle, Handle, c_uint);
    fn cuStreamBeginCapture_v2(Handle, c_uint);
    fn cuStreamEndCapture(Handle, *mut Handle);
    fn cuStreamIsCapturing(Handle, *mut c_uint);
    fn cuEventCreate(*mut Handle, c_uint);
    fn cuEventDestroy_v2(Handle);
    fn cuEventRecord(Handle, Handle);
    fn cuEventSynchronize(Handle);
    fn cuEventQuery(Handle);
    fn cuEventElapsedTime(*mut f32, Handle, Handle);
    fn cuModuleLoadData(*mut Handle, *const c_void);
    fn cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    fn cuModuleGetGlobal_v2(*mut Address, *mut usize, Handle, *const c_char);
    fn cuFuncGetAttribute(*mut c_int, c_int, Handle);
    fn cuFuncSetAttribute(Handle, c_int, c_int);
    fn cuLaunchKernel(
        Handle,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        Handle,
        *mut *mut c_void,
        *mut *mut c_void,
    );
    fn cuGraphInstantiateWithFlags(*mut Handle, Handle, c_ulonglong);
    fn cuGraphLaunch(Handle, Handle);
    fn cuGraphExecDestroy(Handle);
    fn cuGraphDestroy(Handle);
    fn cuGraphGetNodes(Handle, *mut Handle, *mut usize);
    fn cuGraphNodeGetType(Handle, *mut c_uint);
    fn cuGraphKernelNodeGetParams(Handle, *mut KernelNode);
    fn cuGraphExecKernelNodeSetParams(Handle, Handle, *const KernelNode);
}

impl Cuda {
    /// The driver with the first GPU's context and the compiled kernels.
    fn open() -> Result<Self, hipError_t> {
        // SAFETY: the driver's library has no initialisation that anything could disturb.
        let library = unsafe { Library::new("libcuda.so.1") }.map_err(|_| hipErrorNoDevice)?;
        let library = ManuallyDrop::new(library);
        // SAFETY: it is the driver, and is never unloaded.
        let mut cuda = unsafe { Self::find(&library) }.ok_or(hipErrorNoDevice)?;
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: places are those of this frame.
        unsafe {
            code((cuda.cuInit)(0))?;
            code((cuda.cuDeviceGet)(&raw mut device, 0))?;
            code((cuda.cuDevicePrimaryCtxRetain)(&raw mut context, device))?;
            code((cuda.cuCtxSetCurrent)(context))?;
        }
        cuda.context = context.expose_provenance();
        let folder = std::env::var_os(FOLDER).map(PathBuf::from).ok_or(hipErrorNotFound)?;
        for entry in folder.read_dir().map_err(|_| hipErrorNotFound)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "ptx") {
                let mut image = std::fs::read(&path).map_err(|_| hipErrorNotFound)?;
                image.push(0);
                let mut module = ptr::null_mut();
                // SAFETY: the image is a text with its zero, and the place is one of this frame.
                code(unsafe { (cuda.cuModuleLoadData)(&raw mut module, image.as_ptr().cast()) })?;
                cuda.modules.push(module.expose_provenance());
            }
        }
        Ok(cuda)
    }

    /// The kernel `name` of whichever module.
    pub(crate) fn kernel(&self, name: &CStr) -> Result<Handle, hipError_t> {
        for module in &self.modules {
            let (mut function, module) = (ptr::null_mut(), ptr::with_exposed_provenance_mut(*module));
            // SAFETY: the module is loaded for ever, and the place is one of this frame.
            let found = unsafe { (self.cuModuleGetFunction)(&raw mut function, module, name.as_ptr()) };
            if found == 0 {
                self.ask_for_shared_memory(function, module, name)?;
                return Ok(function);
            }
        }
        Err(hipErrorNotFound)
    }

    /// Asks for the shared memory of a kernel beside which `<name>_shared_bytes` says how much it is.
    fn ask_for_shared_memory(&self, function: Handle, module: Handle, name: &CStr) -> Result<(), hipError_t> {
        let symbol = [name.to_bytes(), b"_shared_bytes\0"].concat();
        let (mut address, mut size, mut bytes) = (0, 0, 0_u32);
        // SAFETY: the name has its zero, and the places are those of this frame.
        let found = unsafe {
            (self.cuModuleGetGlobal_v2)(&raw mut address, &raw mut size, module, symbol.as_ptr().cast())
        };
        if found != 0 || size != size_of::<u32>() {
            return Ok(());
        }
        let place = (&raw mut bytes).expose_provenance() as Address;
        // SAFETY: both places have four bytes; the driver tells the host's from the device's by the address.
        code(unsafe { (self.cuMemcpy)(place, address, size) })?;
        // SAFETY: a number for a kernel that was just found.
        code(unsafe { (self.cuFuncSetAttribute)(function, DYNAMIC_SHARED_BYTES, bytes.cast_signed()) })?;
        self.large.lock().unwrap_or_else(PoisonError::into_inner).push((function.addr(), bytes));
        Ok(())
    }

    /// The bytes of shared memory that a kernel is launched with.
    pub(crate) fn shared_bytes(&self, function: Handle) -> c_uint {
        let large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        large.iter().find(|(known, _)| *known == function.addr()).map_or(0, |(_, bytes)| *bytes)
    }
}

/// The driver, with its context current on this thread.
pub(crate) fn cuda() -> Result<&'static Cuda, hipError_t> {
    static CUDA: OnceLock<Result<Cuda, hipError_t>> = OnceLock::new();
    thread_local!(static CURRENT: Cell<bool> = const { Cell::new(false) });
    let cuda = CUDA.get_or_init(Cuda::open).as_ref().map_err(|error| *error)?;
    if !CURRENT.replace(true) {
        // SAFETY: the context is that of the first GPU and is never destroyed.
        code(unsafe { (cuda.cuCtxSetCurrent)(ptr::with_exposed_provenance_mut(cuda.context)) })?;
    }
    Ok(cuda)
}

/// A number of the driver as a result. HIP has taken over what numbers mean.
pub(crate) fn code(number: c_int) -> Result<(), hipError_t> {
    let code = hipError_t(number.cast_unsigned());
    if code == hipSuccess { Ok(()) } else { Err(code) }
}
