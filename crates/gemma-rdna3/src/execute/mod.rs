//! One instruction of one wave: the registers, memory and LDS before, and after.
//!
//! Waves one after another, barriers and limits are the launch's business; here a wave only says that it waits.

mod lanes;
mod local;
mod matrix;
mod memory;
mod packed;
mod share;
mod special;
mod vector;

pub(crate) use local::LocalMemory;

use crate::error::Problem;
use crate::instruction::{Bank, Body, Control, Instruction, Operand, ScalarBody, Span, When, scalar};
use crate::memory::Memory;
use crate::operations::scalar::Inputs;
use crate::program::Program;
use crate::wave::{Share, State, Trouble, Wave};

/// Addresses from here on, of 4 GiB, are those of LDS for instructions that reach both.
pub(crate) const LDS_APERTURE: u64 = 1 << 56;
/// Where private memory would be; nothing is there.
pub(crate) const PRIVATE_APERTURE: u64 = 1 << 57;

/// What a step ended with.
type Step = Result<(), Trouble>;

/// What the waves of a workgroup share while they run.
pub(crate) struct Machine<'a> {
    pub(crate) program: &'a Program,
    pub(crate) memory: &'a mut Memory,
    pub(crate) local: &'a mut LocalMemory,
    /// Where the code object is in memory.
    pub(crate) image: u64,
    /// Whether addresses must be multiples of what their size asks for.
    pub(crate) aligned: bool,
}

impl Machine<'_> {
    /// Carries out the wave's next instruction.
    pub(crate) fn step(&mut self, wave: &mut Wave) -> Step {
        let program = self.program;
        let instruction = program.instruction(wave.next)?;
        wave.under_way.check(instruction)?;
        wave.next += 1;
        match &instruction.body {
            Body::Scalar(body) => {
                scalar(wave, body);
                Ok(())
            }
            Body::Masking { run, source, destination, old } => {
                let (source, before) = (operand(wave, *source, 1) as u32, wave.exec());
                let after = run(source, before);
                wave.set_scalar(scalar::EXEC, 1, u64::from(after));
                wave.set_scalar(*destination, 1, u64::from(if *old { before } else { after }));
                wave.condition = after != 0;
                Ok(())
            }
            Body::Control(control) => self.control(wave, instruction, *control),
            Body::ScalarLoad { base, offset, index, destination, count } => {
                let index = index.map_or(0, |index| wave.scalar(index, 1));
                let address =
                    wave.scalar(*base, 2).wrapping_add(index).wrapping_add_signed(i64::from(*offset));
                self.scalar_load(wave, address, *destination, *count)
            }
            Body::Vector(body) => {
                wave.product = None;
                vector::run(wave, body)
            }
            Body::Dual(pair) => {
                wave.product = None;
                vector::run_dual(wave, pair)
            }
            Body::Packed(body) => {
                wave.product = None;
                packed::run(wave, body);
                Ok(())
            }
            Body::Matrix(body) => matrix::run(wave, body),
            Body::Global(body) => self.global(wave, body),
            Body::Share(body) => self.share(wave, body),
        }
    }

    fn control(&mut self, wave: &mut Wave, instruction: &Instruction, control: Control) -> Step {
        let after = instruction.address + 4 * instruction.length as u64;
        match control {
            Control::Nothing => {}
            Control::VectorNothing => wave.product = None,
            Control::End => wave.state = State::Ended,
            Control::Barrier => {
                let writes = wave.under_way.writes_to_lds();
                if writes > 0 {
                    return Err(Problem::BarrierBeforeWrites(writes).into());
                }
                wave.state = State::AtBarrier;
            }
            Control::Wait { loads, shares, stores: _ } => {
                wave.under_way.wait_for_loads(loads as usize);
                wave.under_way.wait_for_shares(shares as usize);
            }
            Control::Branch(when, target) => {
                let taken = match when {
                    When::Always => true,
                    When::Condition(value) => wave.condition == value,
                    When::Vcc(value) => (wave.scalar(scalar::VCC, 1) != 0) == value,
                    When::Exec(value) => (wave.exec() != 0) == value,
                };
                if taken {
                    wave.next = self.program.at(target)?;
                }
            }
            Control::GetAddress(destination) => {
                wave.set_scalar(destination, 2, self.image.wrapping_add(after));
            }
            Control::Jump { target, link } => {
                let target = wave.scalar(target, 2).wrapping_sub(self.image);
                wave.next = self.program.at(target)?;
                if let Some(link) = link {
                    wave.set_scalar(link, 2, self.image.wrapping_add(after));
                }
            }
            Control::Call { target, link } => {
                wave.next = self.program.at(target)?;
                wave.set_scalar(link, 2, self.image.wrapping_add(after));
            }
            Control::Denormals(bits) => set_mode(wave, u64::from(bits), 4, 4)?,
            Control::SetMode(source, offset, width) => {
                let value = operand(wave, source, 1);
                set_mode(wave, value, offset, width)?;
            }
            Control::GetMode(destination, offset, width) => {
                let value = u64::from(wave.mode) >> offset & ((1 << width) - 1);
                wave.set_scalar(destination, 1, value);
            }
        }
        Ok(())
    }

    fn scalar_load(&mut self, wave: &mut Wave, address: u64, destination: u8, count: u8) -> Step {
        if !address.is_multiple_of(4) {
            let bytes = 4 * u32::from(count);
            return Err(Problem::Misaligned { address, bytes, alignment: 4 }.into());
        }
        for index in 0..count {
            let value = self.memory.word(address.wrapping_add(4 * u64::from(index)))?;
            if destination != scalar::NULL {
                wave.set_scalar(destination + index, 1, value);
            }
        }
        let span = Span { bank: Bank::Scalar, first: destination, count };
        wave.under_way.share(Share { span: Some(span), writes_lds: false });
        Ok(())
    }
}

/// A scalar operand of 32 or 64 bits.
fn operand(wave: &Wave, operand: Operand, count: u8) -> u64 {
    match operand {
        Operand::Scalar(register) => wave.scalar(register, count),
        Operand::Constant(value) => value,
        Operand::Condition => u64::from(wave.condition),
        Operand::Vector(_) => 0,
    }
}

fn scalar(wave: &mut Wave, body: &ScalarBody) {
    let [result, a, b] = body.operation.widths;
    let before = if body.operation.reads_destination { wave.scalar(body.destination, result) } else { 0 };
    let [first, second] = body.sources;
    let inputs =
        Inputs { a: operand(wave, first, a), b: operand(wave, second, b), before, condition: wave.condition };
    let (value, condition) = (body.operation.run)(inputs);
    wave.set_scalar(body.destination, result, value);
    wave.condition = condition.unwrap_or(wave.condition);
}

/// Writes bits of the mode; rounding other than to nearest is not done here.
fn set_mode(wave: &mut Wave, value: u64, offset: u8, width: u8) -> Result<(), Problem> {
    let mask = (((1_u64 << width) - 1) << offset) as u32;
    let mode = wave.mode & !mask | (value << offset) as u32 & mask;
    check_mode(mode).map_err(Problem::Unsupported)?;
    wave.mode = mode;
    Ok(())
}

/// That the arithmetic of a mode is one that is done here.
pub(crate) fn check_mode(mode: u32) -> Result<(), String> {
    if mode & 15 != 0 {
        return Err("a rounding other than to the nearest even number".to_owned());
    }
    if mode >> 6 & 3 != 3 {
        return Err("half or double precision without subnormal numbers".to_owned());
    }
    if !matches!(mode >> 4 & 3, 0 | 3) {
        return Err("single precision with subnormal numbers on one side only".to_owned());
    }
    Ok(())
}
