//! [`HipExecutable`]: a plan whose weights are on the GPU, and its runs.
//!
//! A run lays out what the host knows (position, embeddings, angles), launches a kernel that fetches it and those of the plan, and reads
//! the output. Runs of one token differ in nothing but what is laid out: their launches are recorded as a graph the second time and
//! replayed from then on.

mod inputs;
mod places;
mod recording;
mod shortlist;

use std::cell::RefCell;
use std::sync::Arc;

use gemma_hal::{BufferId, Call, Deadline, DeviceError, Executable, Plan, Probe, Reservation};
use gemma_hip_kernels::{Activations, Launch, prepare};

use crate::cache::HipCache;
use crate::device::Setup;
use crate::runtime::{Buffer, Card, Event, Placement, Turn};
use inputs::Inputs;
use places::{Places, RunMemory};
use recording::Recording;
use shortlist::{Results, Shortlist};

/// Most bytes of the host's memory that results are read through.
const MOST_READ: usize = 2 << 20;

/// A plan on a GPU.
pub(crate) struct HipExecutable {
    plan: Arc<Plan>,
    card: Arc<Card>,
    activations: Activations,
    flops_in_flight: u64,
    places: Places,
    inputs: Inputs,
    /// None for plans without output.
    shortlist: Option<Shortlist>,
    results: Results,
    /// What is read goes through here; none where the GPU cannot write the host's memory.
    shared: Option<Buffer>,
    recording: Recording,
    /// Behind the last two shares of a long run.
    shares: Vec<Event>,
    _reservation: Reservation,
}

/// A run in the making.
struct Run<'a> {
    turn: &'a Turn<'a>,
    plan: &'a Plan,
    activations: Activations,
    flops_in_flight: u64,
    memory: RunMemory<'a>,
    shares: &'a [Event],
    /// Where only the largest values are wanted.
    shortlist: Option<&'a Shortlist>,
    shared: Option<&'a Buffer>,
    /// Positions before the run's.
    start: usize,
    tokens: usize,
}

impl HipExecutable {
    /// Uploads what is not there yet and allocates activations.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(crate) fn new(setup: &Setup, plan: Arc<Plan>) -> Result<Self, DeviceError> {
        let read = plan.output_values(plan.max_tokens()) * size_of::<f32>();
        let read = read.max(shortlist::bytes(&plan)).min(MOST_READ);
        let bytes = places::bytes(&plan) + inputs::bytes(&plan) + shortlist::bytes(&plan) + read;
        let reservation = setup.budget.reserve("activations", bytes as u64)?;
        let turn = setup.card.turn_in_time()?;
        let places = Places::of(setup, &turn, &plan)?;
        let inputs = Inputs::of(&turn, &plan)?;
        let shortlist = Shortlist::of(&turn, &plan)?;
        let shared = if read == 0 { None } else { shared(&turn, "results", read)? };
        let shares = (0..2).map(|_| Event::new(&turn, false)).collect::<Result<_, _>>()?;
        drop(turn);
        Ok(Self {
            plan,
            card: Arc::clone(&setup.card),
            activations: setup.activations,
            flops_in_flight: setup.flops_in_flight,
            places,
            inputs,
            shortlist,
            results: Results::default(),
            shared,
            recording: Recording::default(),
            shares,
            _reservation: reservation,
        })
    }

    /// A run by who has the turn.
    fn run_alone(&mut self, turn: &Turn<'_>, mut call: Call<'_>) -> Result<(), DeviceError> {
        call.deadline.check(self.card.id(), "starting a run")?;
        let cache = HipCache::of(&self.card, call.cache)?;
        let (start, count) = (cache.positions.len(), call.tokens.len());
        cache.positions.begin(count);
        self.inputs.lay_out(turn, &self.plan, call.tokens, start, &call.deadline)?;
        let run = Run {
            turn,
            plan: &self.plan,
            activations: self.activations,
            flops_in_flight: self.flops_in_flight,
            memory: RunMemory { places: &self.places, inputs: &self.inputs, cache, tokens: count },
            shares: &self.shares,
            shortlist: self.shortlist.as_ref().filter(|shortlist| shortlist.wanted > 0),
            shared: self.shared.as_ref(),
            start,
            tokens: count,
        };
        let launched = match call.probe.as_deref_mut() {
            Some(probe) => run.watched(probe, &call.deadline),
            None if count == 1 => self.recording.run(&run, &call.deadline),
            None => run.launch(&call.deadline),
        };
        // Whatever of it has been launched.
        let marked = self.inputs.launched();
        launched.and(marked)?;
        run.results(&mut self.results, &call.deadline)?;
        cache.positions.commit(count);
        Ok(())
    }
}

/// Memory that host and GPU both write, for `what`; none where the runtime has none of it.
fn shared(turn: &Turn<'_>, what: &str, bytes: usize) -> Result<Option<Buffer>, DeviceError> {
    if !turn.card().maps_host_memory {
        return Ok(None);
    }
    match turn.allocate(what, bytes, Placement::Shared) {
        Ok(buffer) => Ok(Some(buffer)),
        Err(DeviceError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Executable for HipExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, call: Call<'_>) -> Result<(), DeviceError> {
        call.check(self.card.id(), &self.plan)?;
        let card = Arc::clone(&self.card);
        let turn = card.turn(&call.deadline)?;
        let done = self.run_alone(&turn, call);
        if done.is_err() {
            self.results.clear();
        }
        done
    }

    fn output(&self) -> &[f32] {
        &self.results.rows
    }

    fn shortlist(&mut self, count: usize) {
        let Some(shortlist) = &mut self.shortlist else { return };
        let width = self.plan.output().map_or(0, |id| self.plan.buffer(id).width);
        shortlist.wanted = if Shortlist::can_choose(count, width) { count } else { 0 };
    }

    fn chosen(&self) -> &[(u32, f32)] {
        &self.results.chosen
    }
}

impl Run<'_> {
    /// Launches the plan, and behind its last step what chooses values of the output.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the runtime says.
    fn launch(&self, deadline: &Deadline) -> Result<(), DeviceError> {
        let launches = prepare::launches_by_step(self.plan, self.tokens, self.activations, &self.memory);
        self.fetch()?;
        let (mut last, mut flops, mut share) = (None, 0_u64, 0);
        for (index, launch) in &launches {
            if last.replace(*index) != Some(*index) {
                let op = &self.plan.steps()[*index].op;
                deadline.check(self.turn.card().id(), op.name())?;
                // A run of one token is short, and may be being recorded.
                if self.tokens > 1 && flops > self.flops_in_flight {
                    self.end_share(share, deadline)?;
                    (flops, share) = (0, share + 1);
                }
                flops = flops.saturating_add(self.plan.op_cost(op, self.tokens, self.start).flops);
            }
            self.turn.launch(launch)?;
        }
        self.list()
    }

    /// Launches what fetches the inputs.
    fn fetch(&self) -> Result<(), DeviceError> {
        self.memory.inputs.fetch(self.tokens).map_or(Ok(()), |launch| self.turn.launch(&launch))
    }

    /// Waits until no more than one share of the run, and the one that ends here, is still to be done.
    fn end_share(&self, share: usize, deadline: &Deadline) -> Result<(), DeviceError> {
        let [this, before] = [share, share + 1].map(|share| &self.shares[share % self.shares.len()]);
        this.record()?;
        before.wait("running a prompt", deadline)
    }

    /// Launches what chooses the largest values of the output, if they are wanted.
    fn list(&self) -> Result<(), DeviceError> {
        let Some((shortlist, output)) = self.shortlist.zip(self.plan.output()) else { return Ok(()) };
        let width = self.plan.buffer(output).width;
        let row = self.memory.activation(output).words(self.values(output) - width);
        shortlist.launches(row, width, self.shared).iter().try_for_each(|launch| self.turn.launch(launch))
    }

    /// Values that a buffer has in this run.
    fn values(&self, id: BufferId) -> usize {
        let buffer = self.plan.buffer(id);
        self.plan.row_count(buffer.rows, self.tokens) * buffer.width
    }

    /// Launches the plan, one step after the other, and shows a probe what each has left.
    fn watched(&self, probe: &mut dyn Probe, deadline: &Deadline) -> Result<(), DeviceError> {
        let (begin, end) = (Event::new(self.turn, true)?, Event::new(self.turn, true)?);
        self.fetch()?;
        for (index, step) in self.plan.steps().iter().enumerate() {
            deadline.check(self.turn.card().id(), step.op.name())?;
            probe.before(index, step)?;
            let launches: Vec<Launch> =
                prepare::launches_of_step(self.plan, index, self.tokens, self.activations, &self.memory);
            begin.record()?;
            launches.iter().try_for_each(|launch| self.turn.launch(launch))?;
            end.record()?;
            self.turn.finish(step.op.name(), deadline)?;
            probe.took(index, end.seconds_since(&begin)?);
            let failed = RefCell::new(None);
            probe.after(index, step, &|id| {
                let mut values = vec![0.0; self.values(id)];
                if let Err(error) = self.read(id, &mut values, deadline) {
                    *failed.borrow_mut() = Some(error);
                    values.fill(f32::NAN);
                }
                values
            });
            failed.into_inner().map_or(Ok(()), Err)?;
        }
        self.list()
    }

    /// Reads the values that a buffer has in this run.
    fn read(&self, id: BufferId, values: &mut [f32], deadline: &Deadline) -> Result<(), DeviceError> {
        let (buffer, offset) = self.memory.places.activation(id);
        self.turn.read(buffer, offset, bytemuck::cast_slice_mut(values), self.shared, deadline)
    }

    /// Waits for the launches and reads what is wanted of the output, if there is one.
    fn results(&self, results: &mut Results, deadline: &Deadline) -> Result<(), DeviceError> {
        results.clear();
        // Without an output nobody waits: the host prepares what comes next while the GPU works. What fails then is said by whoever
        // asks next.
        let Some(output) = self.plan.output() else { return Ok(()) };
        if let Some(shortlist) = self.shortlist
            && shortlist.read(self.turn, self.shared, results, deadline)?
        {
            return Ok(());
        }
        results.rows.resize(self.values(output), 0.0);
        self.read(output, &mut results.rows, deadline)
    }
}
