//! [`Gpu`]: one adapter's queue, its memory in words, and waits that end.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, NoUninit};
use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::profile::TimingMethod;
use cubecl::server::{Handle, ServerError};
use cubecl::wgpu::{RuntimeOptions, Vulkan, WgpuDevice, WgpuSetup, try_init_setup, wgpu};
use cubecl_environment::stream::StreamId;
use gemma_hal::{Deadline, DeviceError};

use crate::kernels::{ROW_UNITS, matrix_units};
use crate::tuning::Tuning;

/// Launches that are handed to the driver at once: few enough that the GPU begins while the host goes on and a desktop
/// stays fluent, many enough that submitting costs little. See docs/performance.md.
const LAUNCHES_A_SUBMISSION: usize = 128;

/// The runtime's name where it hands SPIR-V to the driver.
const SPIRV: &str = "wgpu<spirv>";

/// The stream of all work.
const STREAM: u64 = 0x67_656d_6d61;

/// How often a wait looks at its deadline.
const GLANCE: Duration = Duration::from_millis(1);

/// Units of the smallest subgroup that kernels are written for.
const LEAST_PLANE: u32 = 8;

/// Units of the largest cube that has no smaller substitute.
const LEAST_UNITS: u32 = 256;

/// How long a queue may take to say whether it is still there.
const ANSWER: Duration = Duration::from_secs(1);

/// Bytes of a word.
pub(crate) const WORD: usize = 4;

/// A queue of an adapter. Clones are the same queue.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub(crate) client: Client,
    /// Name in errors.
    pub(crate) id: Arc<str>,
    /// The most units that a subgroup may have.
    pub(crate) largest_plane: u32,
    /// Most bytes of one piece of memory.
    pub(crate) largest_binding: u64,
    /// Most bytes of one part of a matrix.
    pub(crate) largest_part: u64,
    /// The most units of a cube.
    pub(crate) most_units: u32,
    /// Units of a cube that works on one row of activations.
    pub(crate) row_units: u32,
    /// The most units of the subgroups that matrix units serve; none where there are no such units, or they are not wanted.
    pub(crate) matrix_plane: Option<u32>,
    /// Whether activations are rounded to 8 bits where they meet weights in block formats.
    pub(crate) rounds: bool,
    /// Whether a cube can read in a launch what another one has written in it.
    pub(crate) cubes_meet: bool,
    /// How work is divided.
    pub(crate) tuning: Tuning,
    device: wgpu::Device,
    turn: Arc<Mutex<()>>,
}

/// An open adapter.
struct Opened {
    setup: WgpuSetup,
    turn: Arc<Mutex<()>>,
}

impl Gpu {
    /// Opens `selector`, or takes the queue that is open already.
    pub(crate) fn open(id: &str, selector: &WgpuDevice, tuning: Tuning) -> Result<Self, DeviceError> {
        static OPEN: Mutex<Option<HashMap<WgpuDevice, Opened>>> = Mutex::new(None);
        let driver = |detail: String| DeviceError::Driver { device: id.to_owned(), detail };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if !open.contains_key(selector) {
            let options = RuntimeOptions::with_tasks_max(Some(LAUNCHES_A_SUBMISSION))
                .map_err(|error| driver(error.to_string()))?;
            let setup =
                try_init_setup::<Vulkan>(selector, options).map_err(|error| driver(error.to_string()))?;
            open.insert(selector.clone(), Opened { setup, turn: Arc::default() });
        }
        let Opened { setup, turn } = &open[selector];
        let (device, turn) = (setup.device.clone(), Arc::clone(turn));
        let mut client = cubecl::Device::Wgpu(selector.clone()).client();
        // SAFETY: the runtime's streams order work of the same stream alone. One stream for all work of an adapter, from
        // whichever thread, gives every launch, write and read the order in which they are asked for.
        unsafe { client.set_stream(StreamId { value: STREAM }) };
        let properties = client.properties();
        let hardware = &properties.hardware;
        let largest_plane = hardware.plane_size_max;
        if hardware.plane_size_min < LEAST_PLANE || hardware.max_units_per_cube < LEAST_UNITS {
            return Err(driver(format!(
                "subgroups of {} units in workgroups of up to {}; at least {LEAST_PLANE} and {LEAST_UNITS} are needed",
                hardware.plane_size_min, hardware.max_units_per_cube
            )));
        }
        let most_units = hardware.max_units_per_cube;
        let row_units = most_units.min(ROW_UNITS);
        let largest_binding = properties.memory.max_page_size;
        // Kernels need integers of 16 bits, which the runtime's other way, WGSL, does not have.
        if client.name() != SPIRV {
            return Err(driver(format!(
                "{} in place of {SPIRV}: the driver lacks what SPIR-V kernels need",
                client.name()
            )));
        }
        let matrix_plane = matrix_plane(&client);
        let cubes_meet = client.properties().features.device_memory_scope;
        Ok(Self {
            id: id.into(),
            largest_plane,
            largest_binding,
            largest_part: largest_binding,
            most_units,
            row_units,
            matrix_plane,
            rounds: true,
            cubes_meet,
            tuning,
            device,
            turn,
            client,
        })
    }

    /// Waits until nobody else uses the queue: while launches are recorded, nothing else may be asked of it.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline.
    pub(crate) fn turn(&self, deadline: &Deadline) -> Result<MutexGuard<'_, ()>, DeviceError> {
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                // What a panic leaves behind is a queue that goes on.
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    deadline.check(&self.id, "waiting for the queue")?;
                    std::thread::park_timeout(GLANCE);
                }
            }
        }
    }

    /// The same queue, asked on the stream of whichever thread asks, as other libraries on the runtime do. What it is asked for
    /// goes after all that other streams were asked for with the same memory.
    pub(crate) fn of_threads(&self, selector: &WgpuDevice) -> Self {
        Self { client: cubecl::Device::Wgpu(selector.clone()).client(), ..self.clone() }
    }

    /// Ends the queue, as a reset of the driver would.
    pub(crate) fn destroy(&self) {
        self.device.destroy();
    }

    /// `words` words of memory for `what`, not cleared.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] for more than the adapter has in one piece.
    pub(crate) fn empty(&self, what: &str, words: usize) -> Result<Region, DeviceError> {
        let wanted = (words.max(1) as u64).saturating_mul(WORD as u64);
        if wanted > self.largest_binding {
            return Err(DeviceError::OutOfMemory {
                device: self.id.to_string(),
                what: format!("{what} in one piece"),
                wanted,
                available: self.largest_binding,
            });
        }
        Ok(Region { handle: self.client.empty(words.max(1) * WORD), words })
    }

    /// A copy of `words`; of none a place that nothing is read from.
    pub(crate) fn upload(&self, words: &[u32]) -> Region {
        let bytes = bytemuck::cast_slice(if words.is_empty() { &[0] } else { words });
        Region { handle: self.client.create_from_slice(bytes), words: words.len() }
    }

    /// Overwrites the beginning of `region` after all that was launched before.
    ///
    /// # Panics
    /// When `words` is longer.
    pub(crate) fn write(&self, region: &Region, words: Vec<u32>) {
        assert!(words.len() <= region.words, "{} words into {}", words.len(), region.words);
        if !words.is_empty() {
            self.client.write(&region.part(0, words.len()).handle, Bytes::from_elems(words));
        }
    }

    /// Puts the words of `region` into `words`, when all that was launched before has run. A vector that has held as many is
    /// filled without a new allocation.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the driver says.
    pub(crate) fn read<T: AnyBitPattern + NoUninit>(
        &self,
        region: &Region,
        words: &mut Vec<T>,
        deadline: &Deadline,
    ) -> Result<(), DeviceError> {
        const { assert!(size_of::<T>() == WORD) };
        let read = self.client.read_async(vec![region.handle.clone()]);
        let bytes = self.wait(read, deadline, "reading results")?.map_err(|error| self.error(&error))?;
        let whole = bytes.first().and_then(|bytes| bytes.get(..region.words * WORD));
        let whole = whole.ok_or_else(|| self.driver("fewer bytes read than asked for"))?;
        words.resize(region.words, T::zeroed());
        bytemuck::cast_slice_mut(words).copy_from_slice(whole);
        Ok(())
    }

    /// Waits until all that was launched has run.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub(crate) fn sync(&self, deadline: &Deadline) -> Result<(), DeviceError> {
        self.wait(self.client.sync(), deadline, "waiting for the queue")?.map_err(|error| self.error(&error))
    }

    /// Hands what was launched to the driver, so that the GPU begins.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn submit(&self) -> Result<(), DeviceError> {
        self.client.flush().map_err(|error| self.error(&error))
    }

    /// Launches and waits. Gives the seconds between the first launch's begin and the last one's end by the adapter's clock,
    /// where it has one.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub(crate) fn timed(
        &self,
        launch: impl FnOnce(),
        deadline: &Deadline,
    ) -> Result<Option<f64>, DeviceError> {
        let window = self.client.profile_start().ok();
        launch();
        let ticks = window.and_then(|window| self.client.profile_end(window).ok());
        self.sync(deadline)?;
        let Some(ticks) = ticks.filter(|ticks| ticks.timing_method() == TimingMethod::Device) else {
            return Ok(None);
        };
        let ticks = self.wait(ticks.resolve(), deadline, "reading the clock")?;
        Ok(ticks.map(|ticks| ticks.duration().as_secs_f64()))
    }

    fn wait<T>(
        &self,
        future: impl Future<Output = T>,
        deadline: &Deadline,
        what: &str,
    ) -> Result<T, DeviceError> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
        let mut checked = Instant::now();
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Ok(value);
            }
            std::thread::park_timeout(GLANCE);
            if checked.elapsed() >= GLANCE {
                deadline.check(&self.id, what)?;
                checked = Instant::now();
            }
        }
    }

    /// The driver's error as ours.
    pub(crate) fn error(&self, error: &ServerError) -> DeviceError {
        // Backtraces are for developers of the runtime.
        let text = error.to_string();
        let detail = text.split("\nBacktrace").next().unwrap_or_default().replace('\n', " ");
        let device = self.id.to_string();
        if error.is_device_poisoned() || self.is_lost() {
            return DeviceError::Lost { device, detail };
        }
        DeviceError::Driver { device, detail }
    }

    /// Whether the adapter is gone. The runtime hears of it when the queue is asked, often after a first call has failed.
    fn is_lost(&self) -> bool {
        // What the poll says comes with the queue's answer too.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let answer = self.wait(self.client.sync(), &Deadline::after(ANSWER), "asking the queue");
        answer.is_ok_and(|answer| answer.is_err_and(|error| error.is_device_poisoned()))
    }

    fn driver(&self, detail: &str) -> DeviceError {
        DeviceError::Driver { device: self.id.to_string(), detail: detail.to_owned() }
    }
}

/// The most units of the subgroups that multiply 16 × 16 matrices of f16 into f32. None where the adapter does not.
fn matrix_plane(client: &Client) -> Option<u32> {
    let properties = client.properties();
    let hardware = &properties.hardware;
    let side = matrix_units::SIDE as u32;
    let config = MmaConfig {
        a_type: ElemType::Float(FloatKind::F16),
        b_type: ElemType::Float(FloatKind::F16),
        cd_type: ElemType::Float(FloatKind::F32),
        m: side,
        n: side,
        k: side,
    };
    let most = hardware.plane_size_max;
    let there = properties.features.matmul.cmma.contains(&config);
    (there && most * matrix_units::LEAST_PLANES <= hardware.max_units_per_cube).then_some(most)
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Words of device memory. Clones are the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) handle: Handle,
    words: usize,
}

impl Region {
    /// The first `words` words of memory of others; none where there are fewer, or where fours of values would not lie on
    /// their bounds.
    pub(crate) fn over(handle: Handle, words: usize) -> Option<Self> {
        let wanted = (words as u64).checked_mul(WORD as u64)?;
        let (before, behind) = (handle.offset_start.unwrap_or(0), handle.offset_end.unwrap_or(0));
        let after = handle.size().checked_sub(before)?.checked_sub(behind)?.checked_sub(wanted)?;
        let aligned = before.is_multiple_of(4 * WORD as u64);
        aligned.then(|| Self { handle: handle.offset_end(after), words })
    }

    /// Words.
    pub(crate) fn len(&self) -> usize {
        self.words
    }

    /// `words` words from word `start` on.
    ///
    /// # Panics
    /// When they are not there.
    pub(crate) fn part(&self, start: usize, words: usize) -> Self {
        assert!(start + words <= self.words, "{words} words from {start} of {}", self.words);
        let after = (self.words - start - words) * WORD;
        let handle = self.handle.clone().offset_start((start * WORD) as u64).offset_end(after as u64);
        Self { handle, words }
    }

    /// As an argument of a kernel, an array of four words each. A rest of less than four is not part of it.
    pub(crate) fn quads(&self) -> BufferArg {
        self.fours()
    }

    /// As an argument of a kernel, an array of fours of values. A rest of less than four is not part of it.
    pub(crate) fn fours(&self) -> BufferArg {
        // SAFETY: as in `arg`; a four takes as much as four words.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), (self.words / 4).max(1)) }
    }

    /// As an argument of a kernel, an array of fours of f16. A rest of less than four is not part of it.
    pub(crate) fn halves(&self) -> BufferArg {
        // SAFETY: as in `arg`; a four takes as much as two words.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), (self.words / 2).max(1)) }
    }

    /// As an argument of a kernel, an array of values of four bytes.
    pub(crate) fn arg(&self) -> BufferArg {
        debug_assert!(self.handle.size_in_used() >= (self.words * WORD) as u64);
        // SAFETY: every way to make a region gives it a handle of at least `words` words.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.words.max(1)) }
    }
}
