//! Streams: work in order, run when somebody waits for it; events, which are points in it.
//!
//! A stream runs nothing by itself. So whoever reads a result without having waited for it sees old bytes, in every run. What a
//! stream waits for is run first; an event's time is that at which it was reached.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use hip_sys::{
    hipError_t, hipErrorContextIsDestroyed, hipErrorIllegalAddress, hipErrorInvalidHandle,
    hipErrorLaunchTimeOut, hipErrorNotReady, hipErrorStreamCaptureInvalidated,
};

use crate::capture::Capture;
use crate::code_object::Kernel;
use crate::emulation::{Emulation, Shape};
use crate::failure::{Failure, Outcome, fail};
use crate::settings::due;
use crate::state::{DEFAULT_STREAM, State};

/// A queue of work.
#[derive(Default)]
pub(crate) struct Stream {
    queue: VecDeque<Command>,
    /// Whether it neither waits for the default stream nor is waited for by it.
    pub(crate) non_blocking: bool,
    pub(crate) capture: Option<Capture>,
}

/// A point in a stream.
pub(crate) struct Event {
    pub(crate) timed: bool,
    /// How often it was recorded.
    pub(crate) turn: u64,
    /// Where it was recorded last.
    pub(crate) stream: usize,
    /// The last turn that was reached, and when.
    pub(crate) reached: Option<(u64, Instant)>,
    /// The stream whose capture has recorded it last.
    pub(crate) captured: Option<usize>,
}

/// A kernel with its arguments.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) function: usize,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) emulation: Arc<Emulation>,
    pub(crate) shape: Shape,
    /// The segment of arguments, in words of 8 bytes.
    pub(crate) arguments: Vec<u64>,
}

/// Where copied bytes come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// Memory that devices know.
    Device(usize),
    /// The program's own memory.
    Host(usize),
    /// What was in the program's own memory when the copy was asked for.
    Kept(Arc<[u8]>),
}

/// One piece of work.
#[derive(Clone)]
pub(crate) enum Command {
    Launch(Launch),
    Copy { to: usize, to_device: bool, from: Source, bytes: usize },
    Fill { to: usize, value: u32, width: usize, count: usize },
    Record { event: usize, turn: u64 },
    Wait { event: usize, turn: u64 },
    Graph(Arc<Vec<Command>>),
    Free(usize),
    Lose(hipError_t),
    Hang,
}

impl Stream {
    /// An empty one.
    pub(crate) fn new(non_blocking: bool) -> Self {
        Self { non_blocking, ..Self::default() }
    }

    /// Forgets its work.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}

impl Event {
    /// Whether this turn was reached.
    pub(crate) fn is_reached(&self, turn: u64) -> bool {
        self.reached.is_some_and(|(reached, _)| reached >= turn)
    }
}

impl State {
    /// The stream of a handle.
    pub(crate) fn stream(&mut self, handle: usize) -> Outcome<&mut Stream> {
        match self.streams.get_mut(handle) {
            Some(stream) => Ok(stream),
            None => fail(hipErrorContextIsDestroyed, format!("{handle:#x} is no stream, or was destroyed")),
        }
    }

    /// The event of a handle.
    pub(crate) fn event(&mut self, handle: usize) -> Outcome<&mut Event> {
        match self.events.get_mut(handle) {
            Some(event) => Ok(event),
            None => fail(hipErrorInvalidHandle, format!("{handle:#x} is no event, or was destroyed")),
        }
    }

    /// Puts work behind a stream's other work, or into its capture.
    pub(crate) fn enqueue(&mut self, handle: usize, command: Command) -> Outcome {
        if let Some(capture) = &mut self.stream(handle)?.capture {
            if !capture.valid {
                return fail(
                    hipErrorStreamCaptureInvalidated,
                    "an earlier call has made the capture worthless",
                );
            }
            capture.commands.push(command);
            return Ok(());
        }
        self.run_before(handle)?;
        self.stream(handle)?.queue.push_back(command);
        Ok(())
    }

    /// As [`State::enqueue`], for what counts as a launch, whose faults come here.
    pub(crate) fn launch(&mut self, stream: usize, command: Command) -> Outcome {
        if self.stream(stream)?.capture.is_some() {
            return self.enqueue(stream, command);
        }
        let (lost, hang) = (due(&mut self.faults.lost), due(&mut self.faults.hang));
        if let Some(code) = due(&mut self.faults.launch) {
            return fail(code, "refused, as was set");
        }
        let command = match (lost, hang) {
            (Some(code), _) => Command::Lose(code),
            (None, Some(_)) => Command::Hang,
            (None, None) => command,
        };
        self.enqueue(stream, command)
    }

    /// Runs all of a stream's work.
    pub(crate) fn run(&mut self, handle: usize) -> Outcome {
        while self.run_next(handle)? {}
        Ok(())
    }

    /// Runs all work of all streams.
    pub(crate) fn run_all(&mut self) -> Outcome {
        self.streams.handles().into_iter().try_for_each(|stream| self.run(stream))
    }

    /// Whether a stream has no work left. What there was is run behind this answer, so that who asks again gets another one.
    pub(crate) fn poll(&mut self, handle: usize) -> Outcome {
        if self.stream(handle)?.queue.is_empty() {
            return Ok(());
        }
        self.run(handle).or_else(still_hanging)?;
        fail(hipErrorNotReady, "")
    }

    /// Runs what stands before an event.
    pub(crate) fn run_until(&mut self, event: usize, turn: u64) -> Outcome {
        loop {
            // A destroyed event is waited for by nobody.
            let Some(found) = self.events.get(event) else { return Ok(()) };
            if found.is_reached(turn) || !self.run_next(found.stream)? {
                return Ok(());
            }
        }
    }

    /// Work of the default stream waits for that of streams that block, and the other way round.
    fn run_before(&mut self, handle: usize) -> Outcome {
        if handle != DEFAULT_STREAM {
            let waits = !self.stream(handle)?.non_blocking;
            return if waits { self.run(DEFAULT_STREAM) } else { Ok(()) };
        }
        for other in self.streams.handles() {
            if other != DEFAULT_STREAM && !self.stream(other)?.non_blocking {
                self.run(other)?;
            }
        }
        Ok(())
    }

    /// Runs the first piece of a stream's work; false where there is none.
    fn run_next(&mut self, handle: usize) -> Outcome<bool> {
        let Some(stream) = self.streams.get_mut(handle) else { return Ok(false) };
        match stream.queue.front() {
            None => return Ok(false),
            Some(Command::Hang) => return fail(hipErrorLaunchTimeOut, "a launch never ends, as was set"),
            Some(_) => {}
        }
        let Some(command) = stream.queue.pop_front() else { return Ok(false) };
        let outcome = self.execute(&command);
        if let Err(failure) = &outcome
            && failure.code != hipErrorLaunchTimeOut
        {
            self.lost = Some(failure.code);
        }
        outcome.map(|()| true)
    }

    fn execute(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Launch(launch) => self.execute_launch(launch),
            Command::Copy { to, to_device, from, bytes } => self.execute_copy(*to, *to_device, from, *bytes),
            Command::Fill { to, value, width, count } => self.execute_fill(*to, *value, *width, *count),
            Command::Record { event, turn } => {
                if let Some(event) = self.events.get_mut(*event) {
                    event.reached = Some((*turn, Instant::now()));
                }
                Ok(())
            }
            Command::Wait { event, turn } => self.run_until(*event, *turn),
            Command::Graph(commands) => {
                self.counts.graphs += 1;
                commands.iter().try_for_each(|command| self.execute(command))
            }
            Command::Free(start) => self.memory.free(*start, &[crate::memory::Kind::Device]),
            Command::Lose(code) => fail(*code, "the device is lost, as was set"),
            // It stays at the front of its queue, and no graph has one.
            Command::Hang => Ok(()),
        }
    }

    fn execute_launch(&mut self, launch: &Launch) -> Outcome {
        let Launch { kernel, emulation, shape, arguments, .. } = launch;
        self.counts.kernels += 1;
        // Seed 0 is the order of the numbers, every other one an order of its own.
        let seed = if self.seed == 0 { 0 } else { self.seed.wrapping_add(self.counts.kernels).max(1) };
        // SAFETY: the program gave these arguments for this kernel, whose sizes were checked; that the addresses in them are
        // its to use is what it promises to every HIP runtime.
        unsafe { emulation.run(&kernel.name, shape, arguments, kernel.segment_bytes, seed) }?;
        self.memory
            .check()
            .or_else(|failure| fail(failure.code, format!("kernel {}: {}", kernel.name, failure.reason)))
    }

    fn execute_copy(&mut self, to: usize, to_device: bool, from: &Source, bytes: usize) -> Outcome {
        self.still_there(to, to_device, bytes)?;
        let from = match from {
            Source::Device(address) => {
                self.still_there(*address, true, bytes)?;
                ptr::with_exposed_provenance::<u8>(*address)
            }
            Source::Host(address) => ptr::with_exposed_provenance(*address),
            Source::Kept(kept) => kept.as_ptr(),
        };
        self.counts.copied_bytes += bytes as u64;
        // SAFETY: both ranges were found in allocations a moment ago, or are the program's own, which it gave for this copy.
        unsafe { ptr::copy(from, ptr::with_exposed_provenance_mut(to), bytes) };
        Ok(())
    }

    fn execute_fill(&mut self, to: usize, value: u32, width: usize, count: usize) -> Outcome {
        self.still_there(to, true, width * count)?;
        // SAFETY: the range was found in an allocation a moment ago, and its size was checked when it was asked for.
        let memory = unsafe {
            std::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut::<u8>(to), width * count)
        };
        memory.chunks_exact_mut(width).for_each(|place| place.copy_from_slice(&value.to_ne_bytes()[..width]));
        Ok(())
    }

    /// A graph may outlive the memory that it names.
    fn still_there(&self, address: usize, device: bool, bytes: usize) -> Outcome {
        if device && self.memory.find(address, bytes)?.is_none() {
            return fail(hipErrorIllegalAddress, format!("{address:#x} was freed before it was used"));
        }
        Ok(())
    }
}

/// What a poll makes of work that never ends.
pub(crate) fn still_hanging(failure: Failure) -> Outcome {
    if failure.code == hipErrorLaunchTimeOut { Ok(()) } else { Err(failure) }
}
