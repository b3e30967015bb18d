//! [`Card`]: one GPU of this process, with its stream and its kernels; and [`Turn`], without which nobody asks anything of it.
//!
//! Waits poll, and look at their deadline while they do. What a wait gave up on may still be running, so memory is only given back when
//! the stream is empty; until then it is retired, and given back by whoever comes next.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use gemma_hal::{Deadline, DeviceError};
use gemma_hip_kernels::images::Image;
use gemma_hip_kernels::{Address, Launch};
use hip_sys::{
    HIP_LAUNCH_PARAM_BUFFER_POINTER, HIP_LAUNCH_PARAM_BUFFER_SIZE, HIP_LAUNCH_PARAM_END, Hip,
    hipDeviceAttributeCanMapHostMemory, hipDeviceAttributeIntegrated, hipGraphExec_t, hipMemcpyDeviceToHost,
    hipMemcpyHostToDevice, hipStream_t, hipStreamNonBlocking,
};

use super::buffer::{Buffer, Placement};
use super::driver::Driver;
use super::module::Kernels;

/// How long a wait polls without a pause: a short step is over by then.
const SPIN: Duration = Duration::from_micros(200);

/// The pause between two polls, and between two looks at the deadline.
const GLANCE: Duration = Duration::from_micros(50);

/// How long who has no deadline waits for work that does not end: longer than any run takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long the end of a card waits for its last work.
const ANSWER: Duration = Duration::from_secs(1);

/// What nobody needs any more, but the GPU may still be using.
pub(crate) enum Retired {
    /// Of `hipMalloc`.
    Device(*mut c_void),
    /// Of `hipHostMalloc`.
    Host(*mut c_void),
    /// A graph.
    Graph(hipGraphExec_t),
}

// SAFETY: the runtime takes addresses and handles from any thread.
unsafe impl Send for Retired {}

/// A GPU of this process.
pub(crate) struct Card {
    pub(crate) driver: Driver,
    /// Whether it shares the host's memory.
    pub(crate) is_integrated: bool,
    /// Whether it has addresses for memory of the host.
    pub(crate) maps_host_memory: bool,
    pub(crate) kernels: Kernels,
    /// The stream's handle, which the runtime takes from any thread. Only who has the turn puts another one there.
    stream: AtomicPtr<c_void>,
    turn: Mutex<()>,
    retired: Mutex<Vec<Retired>>,
    /// Whether somebody has given up waiting.
    is_unanswered: AtomicBool,
}

/// The right to ask something of a card, until it is dropped.
pub(crate) struct Turn<'a> {
    card: &'a Arc<Card>,
    _guard: MutexGuard<'a, ()>,
}

/// Which card: the runtime's file, the device's number, and the folder that its kernels are of.
type Key = (PathBuf, i32, PathBuf);

/// The deadline of who has none, from now on.
pub(crate) fn patience() -> Deadline {
    Deadline::after(PATIENCE)
}

impl Card {
    /// The card of this process for a device with the kernels of a folder; `images` gives their objects where it is not open yet.
    ///
    /// # Errors
    /// What the runtime says, and the images' errors.
    pub(crate) fn open(
        driver: &Driver,
        folder: PathBuf,
        images: impl FnOnce() -> Result<Vec<Image>, DeviceError>,
    ) -> Result<Arc<Self>, DeviceError> {
        static OPEN: Mutex<Vec<(Key, Weak<Card>)>> = Mutex::new(Vec::new());
        let key = (driver.hip.path().to_owned(), driver.ordinal, folder);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, card)| card.strong_count() > 0);
        let found = open.iter().find(|(known, _)| *known == key).and_then(|(_, card)| card.upgrade());
        if let Some(card) = found {
            return Ok(card);
        }
        let card = Arc::new(Self::new(driver.clone(), images()?)?);
        open.push((key, Arc::downgrade(&card)));
        Ok(card)
    }

    fn new(driver: Driver, images: Vec<Image>) -> Result<Self, DeviceError> {
        driver.enter()?;
        let is = |attribute| driver.attribute(attribute).unwrap_or(0) != 0;
        let (is_integrated, maps_host_memory) =
            (is(hipDeviceAttributeIntegrated), is(hipDeviceAttributeCanMapHostMemory));
        let kernels = Kernels::load(&driver, images)?;
        let stream = new_stream(&driver)?;
        Ok(Self {
            driver,
            is_integrated,
            maps_host_memory,
            kernels,
            stream: AtomicPtr::new(stream.cast()),
            turn: Mutex::default(),
            retired: Mutex::default(),
            is_unanswered: AtomicBool::new(false),
        })
    }

    /// Name in errors.
    pub(crate) fn id(&self) -> &str {
        &self.driver.id
    }

    pub(super) fn stream(&self) -> hipStream_t {
        self.stream.load(Ordering::Relaxed).cast()
    }

    /// Waits for the turn, and for work that somebody has given up on.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline; [`DeviceError::Lost`].
    pub(crate) fn turn<'a>(self: &'a Arc<Self>, deadline: &Deadline) -> Result<Turn<'a>, DeviceError> {
        let turn = self.lock(deadline)?;
        turn.settle(deadline)?;
        Ok(turn)
    }

    /// [`Card::turn`] for who has no deadline: it waits as long as others have the turn, but not for ever for work that hangs.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`]; [`DeviceError::Lost`].
    pub(crate) fn turn_in_time(self: &Arc<Self>) -> Result<Turn<'_>, DeviceError> {
        let turn = self.lock(&Deadline::never())?;
        turn.settle(&patience())?;
        Ok(turn)
    }

    fn lock<'a>(self: &'a Arc<Self>, deadline: &Deadline) -> Result<Turn<'a>, DeviceError> {
        let guard = loop {
            match self.turn.try_lock() {
                Ok(guard) => break guard,
                // What a panic leaves behind is a stream that goes on.
                Err(TryLockError::Poisoned(guard)) => break guard.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    deadline.check(self.id(), "waiting for the queue")?;
                    thread::park_timeout(GLANCE);
                }
            }
        };
        self.driver.enter()?;
        Ok(Turn { card: self, _guard: guard })
    }

    /// Takes what nobody needs any more, to be given back when the stream is empty.
    pub(super) fn retire(&self, retired: Retired) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(retired);
        // Who has the turn may be capturing the stream, and must not be disturbed by a question.
        if let Ok(_guard) = self.turn.try_lock() {
            self.reclaim();
        }
    }

    /// Gives back what is retired, if the stream is empty. Only who has the turn may ask.
    fn reclaim(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if retired.is_empty() {
            return;
        }
        if self.driver.is_lost() {
            // It is gone with the device.
            retired.clear();
            return;
        }
        if self.driver.enter().is_ok() && self.is_idle().unwrap_or(false) {
            retired.drain(..).for_each(|retired| self.give_back(&retired));
        }
    }

    fn give_back(&self, retired: &Retired) {
        let (function, call): (_, &dyn Fn(&Hip) -> _) = match retired {
            // SAFETY: the address is one of this allocator, which nobody has any more.
            Retired::Device(address) => ("hipFree", &|hip: &Hip| unsafe { (hip.hipFree)(*address) }),
            // SAFETY: as above.
            Retired::Host(address) => ("hipHostFree", &|hip: &Hip| unsafe { (hip.hipHostFree)(*address) }),
            Retired::Graph(exec) => {
                // SAFETY: nobody has the graph any more, and it does not run.
                ("hipGraphExecDestroy", &|hip: &Hip| unsafe { (hip.hipGraphExecDestroy)(*exec) })
            }
        };
        // Of a device that is lost by now there is nothing to give back, and nobody to tell.
        let _ = self.driver.ask(function, call);
    }

    /// Whether all that was asked for is done.
    fn is_idle(&self) -> Result<bool, DeviceError> {
        // SAFETY: the stream lives as long as the card.
        self.driver.is_done("hipStreamQuery", |hip| unsafe { (hip.hipStreamQuery)(self.stream()) })
    }

    /// Polls until something is done.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what `is_done` says.
    pub(super) fn wait(
        &self,
        what: &str,
        deadline: &Deadline,
        mut is_done: impl FnMut() -> Result<bool, DeviceError>,
    ) -> Result<(), DeviceError> {
        let start = Instant::now();
        while !is_done()? {
            if let Err(error) = deadline.check(self.id(), what) {
                self.is_unanswered.store(true, Ordering::Relaxed);
                return Err(error);
            }
            if start.elapsed() < SPIN {
                thread::yield_now();
            } else {
                thread::park_timeout(GLANCE);
            }
        }
        Ok(())
    }
}

fn new_stream(driver: &Driver) -> Result<hipStream_t, DeviceError> {
    let mut stream = ptr::null_mut();
    driver.ask("hipStreamCreateWithFlags", |hip| {
        // SAFETY: the place lives as long as the call.
        unsafe { (hip.hipStreamCreateWithFlags)(&raw mut stream, hipStreamNonBlocking) }
    })?;
    Ok(stream)
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.driver.is_lost() || self.driver.enter().is_err() {
            return;
        }
        let deadline = Deadline::after(ANSWER);
        if self.wait("ending", &deadline, || self.is_idle()).is_err() {
            // What a GPU that does not answer may still use must stay.
            self.kernels.forget();
            return;
        }
        self.reclaim();
        // SAFETY: the stream is empty, and nobody has it any more.
        let _ = self.driver.ask("hipStreamDestroy", |hip| unsafe { (hip.hipStreamDestroy)(self.stream()) });
    }
}

impl Turn<'_> {
    /// The card.
    pub(crate) fn card(&self) -> &Arc<Card> {
        self.card
    }

    /// Waits for what somebody has given up on, and gives back what is retired.
    fn settle(&self, deadline: &Deadline) -> Result<(), DeviceError> {
        if self.card.is_unanswered.load(Ordering::Relaxed) {
            self.finish("waiting for earlier work", deadline)?;
        }
        self.card.reclaim();
        Ok(())
    }

    /// Waits until all that was asked for is done.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the runtime says.
    pub(crate) fn finish(&self, what: &str, deadline: &Deadline) -> Result<(), DeviceError> {
        self.card.wait(what, deadline, || self.card.is_idle())?;
        self.card.is_unanswered.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a new stream in the place of an empty one that does not get out of a recording: where something has spoiled one, AMD's runtime
    /// before <https://github.com/ROCm/rocm-systems/pull/6509> keeps it, and refuses whatever its stream is asked for.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] where the runtime gives no other one.
    pub(super) fn renew_stream(&self) -> Result<(), DeviceError> {
        let driver = &self.card.driver;
        // It goes first, as less may be asked for while something is recorded. What is said of it is no news.
        // SAFETY: the stream is empty, and nobody uses its handle again: either another one takes its place, or the device is lost.
        let _ = driver.ask("hipStreamDestroy", |hip| unsafe { (hip.hipStreamDestroy)(self.card.stream()) });
        let stream = new_stream(driver).map_err(|error| driver.lose(error.to_string()))?;
        self.card.stream.store(stream.cast(), Ordering::Relaxed);
        Ok(())
    }

    /// Puts a launch behind what was asked for before.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a kernel that no object has, otherwise what the runtime says.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<(), DeviceError> {
        let driver = &self.card.driver;
        let kernel = self.card.kernels.get(driver, launch)?;
        let mut bytes = launch.arguments.len();
        let mut extra = [
            HIP_LAUNCH_PARAM_BUFFER_POINTER,
            launch.arguments.as_ptr().cast_mut().cast(),
            HIP_LAUNCH_PARAM_BUFFER_SIZE,
            (&raw mut bytes).cast(),
            HIP_LAUNCH_PARAM_END,
        ];
        let ([x, y, z], extra) = (launch.grid, extra.as_mut_ptr());
        driver.ask("hipModuleLaunchKernel", |hip| {
            // SAFETY: the kernel is loaded and takes just these arguments, which are copied before the call is back; their addresses
            // are of buffers that the caller keeps until the stream is empty.
            unsafe {
                let (stream, params) = (self.card.stream(), ptr::null_mut());
                (hip.hipModuleLaunchKernel)(kernel, x, y, z, launch.block, 1, 1, 0, stream, params, extra)
            }
        })
    }

    /// Puts bytes to an offset of a buffer that the GPU does not use at the time.
    ///
    /// # Errors
    /// What the runtime says.
    ///
    /// # Panics
    /// When it has fewer bytes.
    pub(crate) fn put(&self, to: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(offset + bytes.len() <= to.len(), "{} bytes at {offset} of {}", bytes.len(), to.len());
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the GPU does not use it, as who calls says, and nobody else has the turn.
        if unsafe { to.write_as_host(offset, bytes) } {
            return Ok(());
        }
        let target = to.pointer().wrapping_byte_add(offset);
        self.card.driver.ask("hipMemcpy", |hip| {
            // SAFETY: both ranges were compared with what there is.
            unsafe { (hip.hipMemcpy)(target, bytes.as_ptr().cast(), bytes.len(), hipMemcpyHostToDevice) }
        })
    }

    /// Reads what lies at an address when all that was asked for before is done.
    ///
    /// # Errors
    /// As [`Turn::finish`].
    ///
    /// # Panics
    /// When the buffer has fewer bytes.
    pub(crate) fn read(
        &self,
        from: &Buffer,
        offset: usize,
        out: &mut [u8],
        through: Option<&Buffer>,
        deadline: &Deadline,
    ) -> Result<(), DeviceError> {
        assert!(offset + out.len() <= from.len(), "{} bytes at {offset} of {}", out.len(), from.len());
        let mut source = from.pointer().wrapping_byte_add(offset);
        let Some(through) = through else {
            // Into memory that is not pinned the runtime waits by itself, which must not be for long.
            self.finish("reading results", deadline)?;
            return self.card.driver.ask("hipMemcpy", |hip| {
                // SAFETY: both ranges were compared with what there is.
                unsafe { (hip.hipMemcpy)(out.as_mut_ptr().cast(), source, out.len(), hipMemcpyDeviceToHost) }
            });
        };
        for piece in out.chunks_mut(through.len()) {
            self.card.driver.ask("hipMemcpyAsync", |hip| {
                let (target, bytes) = (through.host_pointer(), piece.len());
                // SAFETY: both have so many bytes; the shared ones stay until the stream is empty.
                unsafe {
                    (hip.hipMemcpyAsync)(target, source, bytes, hipMemcpyDeviceToHost, self.card.stream())
                }
            })?;
            self.finish("reading results", deadline)?;
            // SAFETY: the stream is empty, and nobody else has the turn.
            unsafe { through.read_as_host(piece) };
            source = source.wrapping_byte_add(piece.len());
        }
        Ok(())
    }

    /// A buffer of so many bytes for `what`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(crate) fn allocate(
        &self,
        what: &str,
        bytes: usize,
        placement: Placement,
    ) -> Result<Buffer, DeviceError> {
        let made = Buffer::new(self.card, what, bytes, placement);
        let may_be_mapped = placement == Placement::Device && self.card.maps_host_memory;
        match made {
            Err(full @ DeviceError::OutOfMemory { .. }) if may_be_mapped && self.card.is_integrated => {
                Buffer::new(self.card, what, bytes, Placement::Mapped).map_err(|_| full)
            }
            made => made,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What was retired during the turn.
        self.card.reclaim();
    }
}

/// Where something lies in a buffer.
impl Buffer {
    /// The address of the byte at `offset`, as kernels get it.
    pub(crate) fn at(&self, offset: usize) -> Address {
        Address(self.pointer().addr() as u64 + offset as u64)
    }
}
