//! Loads, stores and atomic operations with an address a lane, on memory and, where the address says so, on LDS.

use super::{LDS_APERTURE, Machine, Step};
use crate::error::Problem;
use crate::instruction::{Bank, Global, Span};
use crate::operations::LANES;
use crate::operations::global::{Access, Atomic, Fill};
use crate::wave::{Share, Trouble, Wave};

/// Bytes of the aperture through which LDS is reached.
const APERTURE_BYTES: u64 = 1 << 32;

/// What an access reads or writes.
enum Place<'a, 'b> {
    Memory(&'a mut Machine<'b>),
    Local(&'a mut Machine<'b>),
}

impl Place<'_, '_> {
    fn load(&self, address: u64, bytes: u32) -> Result<(u64, bool), Problem> {
        match self {
            Self::Memory(machine) => {
                machine.check(address, bytes)?;
                machine.memory.load(address, bytes).map(|value| (value, true))
            }
            Self::Local(machine) => machine.local.load(address, bytes),
        }
    }

    fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), Problem> {
        match self {
            Self::Memory(machine) => {
                machine.check(address, bytes)?;
                machine.memory.store(address, bytes, value)
            }
            Self::Local(machine) => machine.local.store(address, bytes, value),
        }
    }
}

impl Machine<'_> {
    pub(super) fn access(&mut self, wave: &mut Wave, body: &Global) -> Step {
        let exec = wave.exec();
        wave.require(body.address, exec)?;
        if body.base.is_none() {
            wave.require(body.address + 1, exec)?;
        }
        for lane in (0..LANES).filter(|lane| exec >> lane & 1 != 0) {
            let address = address(wave, body, lane);
            let local = body.flat && address.wrapping_sub(LDS_APERTURE) < APERTURE_BYTES;
            let (mut place, address) = if local {
                (Place::Local(self), address - LDS_APERTURE)
            } else {
                (Place::Memory(self), address)
            };
            let data = [body.data, body.data.wrapping_add((body.access.bytes() / 4).max(1))];
            place.lane(wave, body.access, lane, address, data, body.destination, body.returns)?;
        }
        let written = body.access.written(body.destination, body.returns);
        if written.is_some() {
            wave.under_way.load(written);
            if body.flat {
                wave.under_way.share(Share { span: written, writes_lds: false });
            }
        }
        Ok(())
    }

    /// The access of a lane to LDS.
    pub(super) fn local_lane(
        &mut self,
        wave: &mut Wave,
        access: Access,
        lane: usize,
        address: u64,
        data: [u8; 2],
        destination: u8,
        returns: bool,
    ) -> Step {
        Place::Local(self).lane(wave, access, lane, address, data, destination, returns)
    }

    fn check(&self, address: u64, bytes: u32) -> Result<(), Problem> {
        let alignment = bytes.min(4);
        if self.aligned && address % u64::from(alignment) != 0 {
            return Err(Problem::Misaligned { address, bytes, alignment });
        }
        Ok(())
    }
}

fn address(wave: &Wave, body: &Global, lane: usize) -> u64 {
    let low = u64::from(wave.vectors[usize::from(body.address)][lane]);
    let address = match body.base {
        Some(base) => wave.scalar(base, 2).wrapping_add(low),
        None => low | u64::from(wave.vectors[usize::from(body.address) + 1][lane]) << 32,
    };
    address.wrapping_add_signed(i64::from(body.offset))
}

impl Place<'_, '_> {
    fn lane(
        &mut self,
        wave: &mut Wave,
        access: Access,
        lane: usize,
        address: u64,
        data: [u8; 2],
        destination: u8,
        returns: bool,
    ) -> Step {
        let blamed = |problem| Trouble { problem, lane: Some(lane as u32) };
        match access {
            Access::Load(bytes, fill) => self.load_lane(wave, lane, address, destination, bytes, fill),
            Access::Store(bytes, high) => self.store_lane(wave, lane, address, data[0], bytes, high),
            Access::Atomic(bytes, atomic) => {
                self.atomic_lane(wave, lane, address, data, destination, bytes, atomic, returns)
            }
        }
        .map_err(blamed)
    }

    fn load_lane(
        &self,
        wave: &mut Wave,
        lane: usize,
        address: u64,
        destination: u8,
        bytes: u8,
        fill: Fill,
    ) -> Result<(), Problem> {
        let destination = usize::from(destination);
        if bytes < 4 {
            let (value, known) = self.load(address, u32::from(bytes))?;
            let before = wave.vectors[destination][lane];
            put(wave, destination, lane, filled(value as u32, before, bytes, fill), known);
            return Ok(());
        }
        for word in 0..usize::from(bytes / 4) {
            let (value, known) = self.load(address.wrapping_add(4 * word as u64), 4)?;
            put(wave, destination + word, lane, value as u32, known);
        }
        Ok(())
    }

    fn store_lane(
        &mut self,
        wave: &Wave,
        lane: usize,
        address: u64,
        data: u8,
        bytes: u8,
        high: bool,
    ) -> Result<(), Problem> {
        if bytes < 4 {
            let value = take(wave, data, lane)? >> if high { 16 } else { 0 };
            return self.store(address, u32::from(bytes), u64::from(value));
        }
        for word in 0..bytes / 4 {
            let value = take(wave, data + word, lane)?;
            self.store(address.wrapping_add(4 * u64::from(word)), 4, u64::from(value))?;
        }
        Ok(())
    }

    fn atomic_lane(
        &mut self,
        wave: &mut Wave,
        lane: usize,
        address: u64,
        data: [u8; 2],
        destination: u8,
        bytes: u8,
        atomic: Atomic,
        returns: bool,
    ) -> Result<(), Problem> {
        let wide = bytes == 8;
        let value = |register: u8| -> Result<u64, Problem> {
            let high = if wide { u64::from(take(wave, register + 1, lane)?) << 32 } else { 0 };
            Ok(u64::from(take(wave, register, lane)?) | high)
        };
        let operand = value(data[0])?;
        let comparand = if atomic.compares() { value(data[1])? } else { 0 };
        if address % u64::from(bytes) != 0 {
            // An atomic operation on two words would not be one.
            return Err(Problem::Misaligned {
                address,
                bytes: u32::from(bytes),
                alignment: u32::from(bytes),
            });
        }
        let (before, known) = self.load(address, u32::from(bytes))?;
        if !known {
            return Err(Problem::Undefined("LDS under an atomic operation".to_owned()));
        }
        self.store(address, u32::from(bytes), atomic.apply(before, operand, comparand, bytes))?;
        if returns {
            put(wave, usize::from(destination), lane, before as u32, true);
            if wide {
                put(wave, usize::from(destination) + 1, lane, (before >> 32) as u32, true);
            }
        }
        Ok(())
    }
}

impl Access {
    fn bytes(self) -> u8 {
        match self {
            Self::Load(bytes, _) | Self::Store(bytes, _) | Self::Atomic(bytes, _) => bytes,
        }
    }

    /// The registers that come back.
    pub(super) fn written(self, destination: u8, returns: bool) -> Option<Span> {
        match self {
            Self::Store(..) => None,
            Self::Atomic(..) if !returns => None,
            _ => Some(Span { bank: Bank::Vector, first: destination, count: self.bytes().div_ceil(4) }),
        }
    }
}

fn put(wave: &mut Wave, register: usize, lane: usize, value: u32, known: bool) {
    wave.vectors[register][lane] = value;
    let bit = 1 << lane;
    if known {
        wave.defined[register] |= bit;
    } else {
        wave.defined[register] &= !bit;
    }
}

/// A lane's value that goes to memory; it must be one that somebody wrote.
fn take(wave: &Wave, register: u8, lane: usize) -> Result<u32, Problem> {
    if wave.defined[usize::from(register)] >> lane & 1 == 0 {
        return Err(Problem::Undefined(format!("v{register}")));
    }
    Ok(wave.vectors[usize::from(register)][lane])
}

/// A value of one or two bytes as the register holds it afterwards.
fn filled(value: u32, before: u32, bytes: u8, fill: Fill) -> u32 {
    let shift = 32 - 8 * u32::from(bytes);
    let signed = ((value << shift) as i32 >> shift) as u32;
    match fill {
        Fill::Zeros => value,
        Fill::Sign => signed,
        Fill::Half { high, sign } => {
            let half = (if sign { signed } else { value }) & 0xffff;
            if high { before & 0xffff | half << 16 } else { before & 0xffff_0000 | half }
        }
    }
}
