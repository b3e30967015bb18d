//! [`Wave`]: the registers of 32 lanes, which of them were written, and what is still under way to them.
//!
//! It carries out nothing; the machine does.

use std::collections::VecDeque;

use crate::error::Problem;
use crate::instruction::{Bank, Body, Instruction, Span, scalar};
use crate::operations::{LANES, Lanes};

/// Vector registers that an instruction can name.
pub(crate) const VECTOR_REGISTERS: usize = 256;
/// Scalar registers that an instruction can name.
const SCALAR_REGISTERS: usize = 128;
/// What the hardware's counters reach; one more waits for the oldest.
const MAX_UNDER_WAY: usize = 63;

/// A problem, and the lane that has it.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) problem: Problem,
    pub(crate) lane: Option<u32>,
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self { problem, lane: None }
    }
}

/// The state of a wave.
#[derive(Debug)]
pub(crate) struct Wave {
    pub(crate) scalars: [u32; SCALAR_REGISTERS],
    pub(crate) vectors: Vec<Lanes>,
    /// For each vector register, the lanes that hold a value that somebody wrote.
    pub(crate) defined: Vec<u32>,
    pub(crate) condition: bool,
    /// Bits 0 to 3: rounding; 4 to 7: numbers below the smallest normal one.
    pub(crate) mode: u32,
    /// Index of the next instruction.
    pub(crate) next: usize,
    pub(crate) under_way: UnderWay,
    /// The sums of a matrix product that was the last vector operation.
    pub(crate) product: Option<u8>,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    AtBarrier,
    Ended,
}

impl Wave {
    /// A wave whose registers hold what `garbage` gives; if `undefined`, that does not pass for values that were written.
    pub(crate) fn new(mode: u32, undefined: bool, mut garbage: impl FnMut() -> u32) -> Self {
        let mut scalars = [0; SCALAR_REGISTERS];
        scalars[..106].fill_with(&mut garbage);
        let vectors = (0..VECTOR_REGISTERS).map(|_| [garbage(); LANES]).collect();
        Self {
            scalars,
            vectors,
            defined: vec![if undefined { 0 } else { u32::MAX }; VECTOR_REGISTERS],
            condition: false,
            mode,
            next: 0,
            under_way: UnderWay::default(),
            product: None,
            state: State::Running,
        }
    }

    pub(crate) fn exec(&self) -> u32 {
        self.scalars[usize::from(scalar::EXEC)]
    }

    /// A scalar register, or a pair of them.
    pub(crate) fn scalar(&self, register: u8, count: u8) -> u64 {
        let of = |register: u8| {
            if register == scalar::NULL { 0 } else { u64::from(self.scalars[usize::from(register & 127)]) }
        };
        if count == 2 { of(register) | of(register + 1) << 32 } else { of(register) }
    }

    /// Writes a scalar register, or a pair of them.
    pub(crate) fn set_scalar(&mut self, register: u8, count: u8, value: u64) {
        if register == scalar::NULL || count == 0 {
            return;
        }
        self.scalars[usize::from(register & 127)] = value as u32;
        if count == 2 {
            self.scalars[usize::from((register + 1) & 127)] = (value >> 32) as u32;
        }
    }

    /// Writes lanes of a vector register; `defined` says which of the values are ones that somebody wrote.
    #[inline]
    pub(crate) fn set_vector(&mut self, register: usize, values: &Lanes, mask: u32, defined: u32) {
        let lanes = &mut self.vectors[register];
        if mask == u32::MAX {
            *lanes = *values;
        } else {
            for lane in 0..LANES {
                lanes[lane] = if mask >> lane & 1 != 0 { values[lane] } else { lanes[lane] };
            }
        }
        self.defined[register] = self.defined[register] & !mask | defined & mask;
    }

    /// That these lanes of a register hold values that somebody wrote.
    pub(crate) fn require(&self, register: u8, mask: u32) -> Result<(), Trouble> {
        let missing = mask & !self.defined[usize::from(register)];
        if missing == 0 {
            return Ok(());
        }
        let problem = Problem::Undefined(format!("v{register}"));
        Err(Trouble { problem, lane: Some(missing.trailing_zeros()) })
    }

    /// Whether single-precision numbers below the smallest normal one become zero.
    pub(crate) fn flushes(&self) -> bool {
        self.mode >> 4 & 3 != 3
    }
}

/// Accesses that were started and not yet waited for.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    loads: VecDeque<Option<Span>>,
    shares: VecDeque<Share>,
    /// Registers that loads write, a bit each.
    loaded: [u64; 4],
    shared: [u64; 4],
    scalars: u128,
}

/// An access that the counter of LDS and scalar loads counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) span: Option<Span>,
    pub(crate) writes_lds: bool,
}

impl UnderWay {
    /// That the instruction touches no register that an access under way will still write.
    pub(crate) fn check(&self, instruction: &Instruction) -> Result<(), Problem> {
        if self.loads.is_empty() && self.shares.is_empty() {
            return Ok(());
        }
        // Accesses of one kind write in order, so one may follow another into the same register.
        let (load, share) = match &instruction.body {
            Body::Global(global) => (!global.flat, false),
            Body::Share(_) => (false, true),
            _ => (false, false),
        };
        let read = instruction.reads.iter().find(|span| self.touches(**span, false, false));
        let written = || instruction.writes.iter().find(|span| self.touches(**span, load, share));
        match read.or_else(written) {
            Some(span) => Err(Problem::NotWaitedFor(span.name())),
            None => Ok(()),
        }
    }

    /// Whether a load under way will still write this vector register.
    pub(crate) fn will_write(&self, register: u8) -> bool {
        self.touches(Span { bank: Bank::Vector, first: register, count: 1 }, false, false)
    }

    fn touches(&self, span: Span, but_loads: bool, but_shares: bool) -> bool {
        (span.first..=span.first + (span.count - 1)).any(|register| {
            let (word, bit) = (usize::from(register >> 6), register & 63);
            match span.bank {
                Bank::Scalar => self.scalars >> register & 1 != 0,
                Bank::Vector => {
                    !but_loads && self.loaded[word] >> bit & 1 != 0
                        || !but_shares && self.shared[word] >> bit & 1 != 0
                }
            }
        })
    }

    /// A load from memory was started.
    pub(crate) fn load(&mut self, span: Option<Span>) {
        self.loads.push_back(span);
        self.wait_for_loads(MAX_UNDER_WAY);
        span.iter().for_each(|span| mark(&mut self.loaded, *span));
    }

    /// An access to LDS or a scalar load was started.
    pub(crate) fn share(&mut self, share: Share) {
        self.shares.push_back(share);
        if self.shares.len() > MAX_UNDER_WAY {
            self.shares.pop_front();
        }
        self.mark_shares();
    }

    pub(crate) fn wait_for_loads(&mut self, count: usize) {
        if self.loads.len() <= count {
            return;
        }
        self.loads.drain(..self.loads.len() - count);
        self.loaded = [0; 4];
        for span in self.loads.iter().flatten() {
            mark(&mut self.loaded, *span);
        }
    }

    pub(crate) fn wait_for_shares(&mut self, count: usize) {
        // Scalar loads come back in any order, so with one of them only a wait for all says anything.
        let scalar = self.scalars != 0;
        if self.shares.len() <= count || scalar && count > 0 {
            return;
        }
        self.shares.drain(..self.shares.len() - count);
        self.mark_shares();
    }

    /// Writes to LDS under way.
    pub(crate) fn writes_to_lds(&self) -> usize {
        self.shares.iter().filter(|share| share.writes_lds).count()
    }

    fn mark_shares(&mut self) {
        (self.shared, self.scalars) = ([0; 4], 0);
        for span in self.shares.iter().filter_map(|share| share.span) {
            match span.bank {
                Bank::Vector => mark(&mut self.shared, span),
                Bank::Scalar => {
                    for register in span.first..span.first + span.count {
                        self.scalars |= 1 << register;
                    }
                }
            }
        }
    }
}

fn mark(registers: &mut [u64; 4], span: Span) {
    for register in span.first..=span.first + (span.count - 1) {
        registers[usize::from(register >> 6)] |= 1 << (register & 63);
    }
}
