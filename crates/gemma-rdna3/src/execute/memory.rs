//! Loads, stores and atomic operations with an address a lane, on memory and, where the address says so, on LDS.

use super::{LDS_APERTURE, LocalMemory, Machine, Step};
use crate::error::Problem;
use crate::instruction::{Bank, Global, Span};
use crate::memory::Memory;
use crate::operations::LANES;
use crate::operations::global::{Access, Atomic, Fill};
use crate::wave::{Share, Trouble, Wave};

/// Bytes of the aperture through which LDS is reached.
const APERTURE_BYTES: u64 = 1 << 32;

/// What is read or written.
pub(super) enum Place<'a> {
    /// Memory; whether addresses must be multiples of the size.
    Memory(&'a mut Memory, bool),
    Local(&'a mut LocalMemory),
}

/// An access without its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    pub(super) access: Access,
    /// Registers of what is written, and of what is compared with.
    pub(super) data: [u8; 2],
    pub(super) destination: u8,
    /// Whether an atomic operation gives what was there.
    pub(super) returns: bool,
}

impl Machine<'_> {
    pub(super) fn global(&mut self, wave: &mut Wave, body: &Global) -> Step {
        let exec = wave.exec();
        wave.require(body.address, exec)?;
        if body.base.is_none() {
            wave.require(body.address + 1, exec)?;
        }
        let second = body.data.wrapping_add((body.access.bytes() / 4).max(1));
        let transfer = Transfer {
            access: body.access,
            data: [body.data, second],
            destination: body.destination,
            returns: body.returns,
        };
        let mut addresses = addresses(wave, body);
        let is_local = |address: u64| body.flat && address.wrapping_sub(LDS_APERTURE) < APERTURE_BYTES;
        let local =
            (0..LANES).fold(0, |mask, lane| mask | u32::from(is_local(addresses[lane])) << lane) & exec;
        transfer.run(&mut Place::Memory(self.memory, self.aligned), wave, &addresses, exec & !local)?;
        if local != 0 {
            addresses.iter_mut().for_each(|address| *address = address.wrapping_sub(LDS_APERTURE));
            transfer.run(&mut Place::Local(self.local), wave, &addresses, local)?;
        }
        let written = transfer.written();
        if written.is_some() {
            wave.under_way.load(written);
            if body.flat {
                wave.under_way.share(Share { span: written, writes_lds: false });
            }
        }
        Ok(())
    }
}

fn addresses(wave: &Wave, body: &Global) -> [u64; LANES] {
    let first = usize::from(body.address);
    let low = &wave.vectors[first];
    let offset = i64::from(body.offset);
    if let Some(base) = body.base {
        let base = wave.scalar(base, 2).wrapping_add_signed(offset);
        low.map(|low| base.wrapping_add(u64::from(low)))
    } else {
        let high = &wave.vectors[first + 1];
        let address = |lane: usize| u64::from(low[lane]) | u64::from(high[lane]) << 32;
        std::array::from_fn(|lane| address(lane).wrapping_add_signed(offset))
    }
}

impl Transfer {
    /// Carries it out for the lanes of a mask, one after another.
    pub(super) fn run(
        &self,
        place: &mut Place<'_>,
        wave: &mut Wave,
        addresses: &[u64; LANES],
        mask: u32,
    ) -> Step {
        if let Access::Load(bytes, _) = self.access
            && bytes >= 4
            && self.load_words(place, wave, addresses, mask, bytes).is_some()
        {
            return Ok(());
        }
        for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
            let address = addresses[lane];
            match self.access {
                Access::Load(bytes, fill) => self.load(place, wave, lane, address, bytes, fill),
                Access::Store(bytes, high) => self.store(place, wave, lane, address, bytes, high),
                Access::Atomic(bytes, atomic) => self.atomic(place, wave, lane, address, bytes, atomic),
            }
            .map_err(|problem| Trouble { problem, lane: Some(lane as u32) })?;
        }
        Ok(())
    }

    /// The registers that come back.
    pub(super) fn written(&self) -> Option<Span> {
        match self.access {
            Access::Store(..) => None,
            Access::Atomic(..) if !self.returns => None,
            access => {
                let count = access.bytes().div_ceil(4);
                Some(Span { bank: Bank::Vector, first: self.destination, count })
            }
        }
    }

    /// The loads of whole words, which are most of all accesses. `None`, and nothing done, where one of them fails.
    fn load_words(
        &self,
        place: &Place<'_>,
        wave: &mut Wave,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u8,
    ) -> Option<()> {
        let count = usize::from(bytes / 4);
        let (mut values, mut known) = ([[0; LANES]; 4], 0);
        for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
            let (found, written) = place.found(addresses[lane], usize::from(bytes))?;
            for (values, word) in values.iter_mut().zip(found.chunks_exact(4)) {
                values[lane] = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }
            known |= u32::from(written) << lane;
        }
        for (word, values) in values.iter().enumerate().take(count) {
            wave.set_vector(usize::from(self.destination) + word, values, mask, known);
        }
        Some(())
    }

    #[inline]
    fn load(
        &self,
        place: &Place<'_>,
        wave: &mut Wave,
        lane: usize,
        address: u64,
        bytes: u8,
        fill: Fill,
    ) -> Result<(), Problem> {
        let destination = usize::from(self.destination);
        let (found, known) = place.bytes(address, u32::from(bytes))?;
        if bytes < 4 {
            let value = found.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            let before = wave.vectors[destination][lane];
            put(wave, destination, lane, filled(value, before, bytes, fill), known);
            return Ok(());
        }
        for (word, value) in found.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
            put(wave, destination + word, lane, value, known);
        }
        Ok(())
    }

    #[inline]
    fn store(
        &self,
        place: &mut Place<'_>,
        wave: &Wave,
        lane: usize,
        address: u64,
        bytes: u8,
        high: bool,
    ) -> Result<(), Problem> {
        let data = self.data[0];
        let mut values = [0; 16];
        for word in 0..bytes.div_ceil(4) {
            let value = take(wave, data + word, lane)? >> if high { 16 } else { 0 };
            values[usize::from(word) * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        place.write(address, &values[..usize::from(bytes)])
    }

    fn atomic(
        &self,
        place: &mut Place<'_>,
        wave: &mut Wave,
        lane: usize,
        address: u64,
        bytes: u8,
        atomic: Atomic,
    ) -> Result<(), Problem> {
        let wide = bytes == 8;
        let value = |register: u8| -> Result<u64, Problem> {
            let high = if wide { u64::from(take(wave, register + 1, lane)?) << 32 } else { 0 };
            Ok(u64::from(take(wave, register, lane)?) | high)
        };
        let operand = value(self.data[0])?;
        let comparand = if atomic.compares() { value(self.data[1])? } else { 0 };
        if !address.is_multiple_of(u64::from(bytes)) {
            // An atomic operation on two words would not be one.
            return Err(Problem::Misaligned {
                address,
                bytes: u32::from(bytes),
                alignment: u32::from(bytes),
            });
        }
        let (found, known) = place.bytes(address, u32::from(bytes))?;
        if !known {
            return Err(Problem::Undefined("LDS under an atomic operation".to_owned()));
        }
        let before = found.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let after = atomic.apply(before, operand, comparand, bytes).to_le_bytes();
        place.write(address, &after[..usize::from(bytes)])?;
        if self.returns {
            let destination = usize::from(self.destination);
            put(wave, destination, lane, before as u32, true);
            if wide {
                put(wave, destination + 1, lane, (before >> 32) as u32, true);
            }
        }
        Ok(())
    }
}

impl Place<'_> {
    /// As [`Self::bytes`], without saying what is wrong.
    #[inline]
    fn found(&self, address: u64, bytes: usize) -> Option<(&[u8], bool)> {
        match self {
            Self::Memory(_, true) if address & 3 != 0 => None,
            Self::Memory(memory, _) => memory.read(address, bytes).map(|found| (found, true)),
            Self::Local(local) => local.found(address, bytes),
        }
    }

    /// Bytes, and whether all of them were written before.
    #[inline]
    fn bytes(&self, address: u64, bytes: u32) -> Result<(&[u8], bool), Problem> {
        match self {
            Self::Memory(memory, aligned) => {
                check(address, bytes, *aligned)?;
                let found = memory.read(address, bytes as usize);
                found.map(|found| (found, true)).ok_or(Problem::OutOfBounds { address, bytes, write: false })
            }
            Self::Local(local) => local.bytes(address, bytes),
        }
    }

    #[inline]
    fn write(&mut self, address: u64, values: &[u8]) -> Result<(), Problem> {
        match self {
            Self::Memory(memory, aligned) => {
                check(address, values.len() as u32, *aligned)?;
                memory.store(address, values)
            }
            Self::Local(local) => local.store(address, values),
        }
    }
}

/// That an address is a multiple of the access's size, up to four.
pub(super) fn check(address: u64, bytes: u32, aligned: bool) -> Result<(), Problem> {
    let alignment = bytes.min(4);
    if aligned && address & u64::from(alignment - 1) != 0 {
        return Err(Problem::Misaligned { address, bytes, alignment });
    }
    Ok(())
}

#[inline]
fn put(wave: &mut Wave, register: usize, lane: usize, value: u32, known: bool) {
    wave.vectors[register][lane] = value;
    let defined = &mut wave.defined[register];
    *defined = *defined & !(1 << lane) | u32::from(known) << lane;
}

/// A lane's value that goes to memory; it must be one that somebody wrote.
#[inline]
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
