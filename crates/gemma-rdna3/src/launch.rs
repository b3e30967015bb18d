//! Launches: workgroups one after another, the waves of each in a random order that a seed repeats.
//!
//! It sets up registers as the hardware and the runtime do, and decides who runs; instructions are the machine's.

use crate::error::{Error, Fault};
use crate::execute::{LocalMemory, Machine, check_mode};
use crate::instruction::{Bank, scalar};
use crate::memory::Memory;
use crate::object::{CodeObject, Kernel};
use crate::operations::LANES;
use crate::random::Random;
use crate::report::Report;
use crate::wave::{State, Trouble, Wave};
use crate::{arguments, error::Problem};

/// Bytes of LDS that a workgroup can have.
pub const MAX_LDS_BYTES: u32 = 64 << 10;
/// Work-items that a workgroup can have.
pub const MAX_WORK_ITEMS: u32 = 1024;
/// Most instructions that a wave runs before another one may.
const MAX_SLICE: u64 = 200;

/// How a kernel is launched.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides the order of waves and what unwritten registers and LDS hold.
    pub seed: u64,
    /// Most instructions of all waves together.
    pub instructions: u64,
    /// Bytes of LDS besides those of the descriptor.
    pub dynamic_lds: u32,
    /// Whether addresses must be multiples of the size of the access, up to four. The hardware does not ask for that.
    pub aligned: bool,
    /// Whether values that nobody wrote are a fault where they reach memory, an address or a scalar register.
    pub undefined: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, instructions: 1 << 32, dynamic_lds: 0, aligned: true, undefined: true }
    }
}

/// Runs a kernel with `grid` workgroups of `block` work-items each, along x, y and z. `arguments` is the segment of
/// arguments as the kernel's metadata lays it out, without hidden ones.
///
/// # Errors
/// [`Error::Launch`] where the launch does not fit the kernel; [`Error::Fault`] where the machine code goes wrong.
/// Memory then holds what was written before.
pub fn launch(
    object: &CodeObject,
    kernel: &Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    arguments: &[u8],
    memory: &mut Memory,
    options: &Options,
) -> Result<Report, Error> {
    let refused = |problem: String| Error::Launch { kernel: kernel.name().to_owned(), problem };
    check(kernel, grid, block, arguments, options).map_err(refused)?;
    let image = memory.allocate_constant(object.image());
    let segment = memory.allocate_constant(&arguments::segment(kernel, grid, block, arguments));
    let packet =
        memory.allocate_constant(&arguments::dispatch_packet(kernel, grid, block, options.dynamic_lds));
    let addresses = Addresses { image, segment, packet };
    let mut run = Run::new(kernel, grid, block, addresses, memory, options);
    let outcome = run.all();
    let report = run.report;
    for address in [image, segment, packet] {
        memory.free(address);
    }
    outcome.map(|()| report)
}

/// Where what the runtime provides is in memory.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    image: u64,
    segment: u64,
    packet: u64,
}

struct Run<'a> {
    kernel: &'a Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    addresses: Addresses,
    memory: &'a mut Memory,
    options: &'a Options,
    random: Random,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(
        kernel: &'a Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        addresses: Addresses,
        memory: &'a mut Memory,
        options: &'a Options,
    ) -> Self {
        let random = Random::new(options.seed);
        Self { kernel, grid, block, addresses, memory, options, random, report: Report::new(kernel) }
    }

    fn all(&mut self) -> Result<(), Error> {
        for z in 0..self.grid[2] {
            for y in 0..self.grid[1] {
                for x in 0..self.grid[0] {
                    self.workgroup([x, y, z])?;
                }
            }
        }
        Ok(())
    }

    fn workgroup(&mut self, workgroup: [u32; 3]) -> Result<(), Error> {
        let size = self.kernel.descriptor.lds_bytes + self.options.dynamic_lds;
        let mut local = LocalMemory::new(size as usize, self.options, &mut self.random);
        let items = self.block.iter().product::<u32>();
        let mut waves: Vec<Wave> =
            (0..items.div_ceil(LANES as u32)).map(|index| self.wave(workgroup, index)).collect();
        loop {
            let ready: Vec<usize> =
                (0..waves.len()).filter(|index| waves[*index].state == State::Running).collect();
            if ready.is_empty() {
                // Waves that have ended are not waited for.
                let waiting = waves.iter_mut().filter(|wave| wave.state == State::AtBarrier);
                let released = waiting.map(|wave| wave.state = State::Running).count();
                if released == 0 {
                    return Ok(());
                }
                continue;
            }
            let index = ready[self.random.below(ready.len() as u64) as usize];
            let slice = 1 + self.random.below(MAX_SLICE);
            self.slice(&mut waves[index], &mut local, slice).map_err(|(at, trouble)| {
                Error::Fault(Box::new(self.fault(workgroup, index as u32, at, trouble)))
            })?;
        }
    }

    /// Runs a wave until it ends, waits, or has had its turn. A fault comes with the instruction's index.
    fn slice(
        &mut self,
        wave: &mut Wave,
        local: &mut LocalMemory,
        slice: u64,
    ) -> Result<(), (usize, Trouble)> {
        let mut machine = Machine {
            program: &self.kernel.program,
            memory: self.memory,
            local,
            image: self.addresses.image,
            aligned: self.options.aligned,
        };
        for _ in 0..slice {
            let at = wave.next;
            if self.report.executed() >= self.options.instructions {
                return Err((at, Problem::Limit(self.options.instructions).into()));
            }
            machine.step(wave).map_err(|trouble| (at, trouble))?;
            self.report.count(at);
            if wave.state != State::Running {
                break;
            }
        }
        Ok(())
    }

    fn wave(&mut self, workgroup: [u32; 3], index: u32) -> Wave {
        let descriptor = &self.kernel.descriptor;
        let random = &mut self.random;
        let mut wave = Wave::new(descriptor.mode(), self.options.undefined, || random.next() as u32);
        for (register, value) in
            self.kernel.initial_scalars(self.addresses, workgroup).into_iter().enumerate()
        {
            wave.scalars[register] = value;
        }
        let [width, height, depth] = self.block;
        let dimensions = descriptor.resources[1] >> 11 & 3;
        let (mut ids, mut exec) = ([0; LANES], 0);
        for (lane, id) in ids.iter_mut().enumerate() {
            let item = index * LANES as u32 + lane as u32;
            exec |= u32::from(item < width * height * depth) << lane;
            let (x, y, z) = (item % width, item / width % height, item / width / height % depth);
            *id = x | if dimensions > 0 { y << 10 } else { 0 } | if dimensions > 1 { z << 20 } else { 0 };
        }
        wave.set_vector(0, &ids, exec, u32::MAX);
        wave.set_scalar(scalar::EXEC, 1, u64::from(exec));
        wave
    }

    fn fault(&self, workgroup: [u32; 3], wave: u32, at: usize, trouble: Trouble) -> Fault {
        let (address, mnemonic) = match self.kernel.instructions().get(at) {
            Some(Ok(instruction)) => (instruction.address(), instruction.mnemonic()),
            Some(Err(undecoded)) => (undecoded.address, "not decoded".to_owned()),
            None => (0, "the end of the kernel".to_owned()),
        };
        Fault {
            kernel: self.kernel.name().to_owned(),
            address,
            mnemonic,
            workgroup,
            wave,
            lane: trouble.lane,
            problem: trouble.problem,
        }
    }
}

impl Kernel {
    /// The first scalar registers: what the descriptor asks the runtime for, then the workgroup.
    fn initial_scalars(&self, addresses: Addresses, workgroup: [u32; 3]) -> Vec<u32> {
        let descriptor = &self.descriptor;
        let mut values = Vec::new();
        for (bit, address) in [(1, addresses.packet), (3, addresses.segment), (4, 0)] {
            if descriptor.properties >> bit & 1 != 0 {
                values.extend([address as u32, (address >> 32) as u32]);
            }
        }
        // The compiler may ask for more registers than it fills.
        values.resize(values.len().max((descriptor.resources[1] >> 1 & 0x1f) as usize), 0);
        let wanted = (0..3).filter(|dimension| descriptor.resources[1] >> (7 + dimension) & 1 != 0);
        values.extend(wanted.map(|dimension| workgroup[dimension]));
        values
    }
}

/// That a launch fits the kernel and what is done here.
fn check(
    kernel: &Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    arguments: &[u8],
    options: &Options,
) -> Result<(), String> {
    let descriptor = &kernel.descriptor;
    let items = block.iter().try_fold(1_u32, |product, size| product.checked_mul(*size));
    let most = kernel.metadata.max_work_items.min(MAX_WORK_ITEMS);
    match items {
        Some(items) if items > 0 && items <= most => {}
        _ => return Err(format!("a workgroup of {block:?} work-items; at most {most} in all")),
    }
    if grid.contains(&0) {
        return Err(format!("a grid of {grid:?} workgroups"));
    }
    if arguments.len() != kernel.argument_bytes() {
        return Err(format!(
            "{} bytes of arguments, the kernel takes {}",
            arguments.len(),
            kernel.argument_bytes()
        ));
    }
    if descriptor.private_bytes > 0 {
        let bytes = descriptor.private_bytes;
        return Err(format!("{bytes} bytes of scratch memory a lane, which is not supported"));
    }
    for (bit, what) in
        [(0, "a private segment"), (2, "a queue"), (5, "flat scratch"), (6, "a private segment")]
    {
        if descriptor.properties >> bit & 1 != 0 {
            return Err(format!("the kernel asks for {what}, which is not supported"));
        }
    }
    let lds = descriptor.lds_bytes.saturating_add(options.dynamic_lds);
    if lds > MAX_LDS_BYTES {
        return Err(format!("{lds} bytes of LDS, at most {MAX_LDS_BYTES}"));
    }
    check_mode(descriptor.mode())?;
    registers(kernel)
}

/// That no instruction names a vector register that the descriptor does not ask for.
fn registers(kernel: &Kernel) -> Result<(), String> {
    let most = kernel.descriptor.vector_registers;
    for instruction in kernel.instructions().iter().flatten() {
        let spans = instruction.reads.iter().chain(&instruction.writes);
        let vector = spans.filter(|span| span.bank == Bank::Vector);
        if let Some(span) = vector.max_by_key(|span| u32::from(span.first) + u32::from(span.count))
            && u32::from(span.first) + u32::from(span.count) > most
        {
            let (name, address) = (instruction.mnemonic(), instruction.address());
            return Err(format!("{name} at {address:#x} names {}; the kernel has {most}", span.name()));
        }
    }
    Ok(())
}
