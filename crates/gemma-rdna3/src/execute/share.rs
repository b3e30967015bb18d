//! DS instructions: accesses to LDS, and exchanges between lanes that use its wires.

use super::memory::{Place, Transfer};
use super::{Machine, Step};
use crate::instruction::{Bank, ShareBody, Span};
use crate::operations::data_share::Share;
use crate::operations::global::{Access, Fill};
use crate::operations::{LANES, Lanes};
use crate::wave::{self, Wave};

impl Machine<'_> {
    pub(super) fn share(&mut self, wave: &mut Wave, body: &ShareBody) -> Step {
        let exec = wave.exec();
        // What is loaded may replace the addresses, so they are taken first.
        let addresses = wave.vectors[usize::from(body.address)];
        let at = |offset: u32| addresses.map(|address| u64::from(address) + u64::from(offset));
        let exchanges = matches!(body.share, Share::Gather | Share::Scatter | Share::Swizzle);
        if !exchanges {
            wave.require(body.address, exec)?;
        }
        let mut place = Place::Local(self.local);
        let all = Transfer {
            access: Access::Load(0, Fill::Zeros),
            data: body.data,
            destination: body.destination,
            returns: false,
        };
        let (span, writes_lds) = match body.share {
            Share::One(access, returns) => {
                let transfer = Transfer { access, returns, ..all };
                transfer.run(&mut place, wave, &at(body.offset), exec)?;
                (transfer.written(), !matches!(access, Access::Load(..)))
            }
            Share::LoadTwo(bytes, unit) => {
                for (index, offset) in offsets(body.offset, unit).into_iter().enumerate() {
                    let destination = body.destination + index as u8 * bytes / 4;
                    let transfer = Transfer { access: Access::Load(bytes, Fill::Zeros), destination, ..all };
                    transfer.run(&mut place, wave, &at(offset), exec)?;
                }
                (Some(Span { bank: Bank::Vector, first: body.destination, count: bytes / 2 }), false)
            }
            Share::StoreTwo(bytes, unit) => {
                for (data, offset) in body.data.into_iter().zip(offsets(body.offset, unit)) {
                    let transfer = Transfer { access: Access::Store(bytes, false), data: [data; 2], ..all };
                    transfer.run(&mut place, wave, &at(offset), exec)?;
                }
                (None, true)
            }
            Share::Gather | Share::Scatter | Share::Swizzle => {
                exchange(wave, body, exec)?;
                (Some(Span { bank: Bank::Vector, first: body.destination, count: 1 }), false)
            }
        };
        wave.under_way.share(wave::Share { span, writes_lds });
        Ok(())
    }
}

/// The two offsets of an instruction with two addresses, in bytes.
fn offsets(offset: u32, unit: u32) -> [u32; 2] {
    [(offset & 0xff) * unit, (offset >> 8) * unit]
}

fn exchange(wave: &mut Wave, body: &ShareBody, exec: u32) -> Step {
    // A swizzle's pattern is in the instruction, and its address field names the data.
    let swizzle = matches!(body.share, Share::Swizzle);
    let data = if swizzle { body.address } else { body.data[0] };
    if !swizzle {
        wave.require(body.address, exec)?;
    }
    let (values, known) = (wave.vectors[usize::from(data)], wave.defined[usize::from(data)]);
    let addresses = &wave.vectors[usize::from(body.address)];
    let named = |lane: usize| (addresses[lane].wrapping_add(body.offset) / 4) as usize % LANES;
    // Where no lane that takes part gives a value, it is zero.
    let mut sources = [None; LANES];
    for lane in 0..LANES {
        match body.share {
            Share::Scatter => {
                if exec >> lane & 1 != 0 {
                    sources[named(lane)] = Some(lane);
                }
            }
            Share::Gather => sources[lane] = Some(named(lane)),
            _ => sources[lane] = Some(swizzled(lane, body.offset)),
        }
    }
    let sources = sources.map(|source| source.filter(|source| exec >> source & 1 != 0));
    let result: Lanes = std::array::from_fn(|lane| sources[lane].map_or(0, |source| values[source]));
    let defined = (0..LANES).fold(0, |all, lane| {
        all | u32::from(sources[lane].is_none_or(|source| known >> source & 1 != 0)) << lane
    });
    wave.set_vector(usize::from(body.destination), &result, exec, defined);
    Ok(())
}

/// The lane that a lane reads by a swizzle's pattern.
fn swizzled(lane: usize, pattern: u32) -> usize {
    let field = |at: u32| (pattern >> at) as usize & 31;
    if pattern & 0x8000 == 0 {
        // Masks of the lane's number.
        return (lane & field(0) | field(5)) ^ field(10);
    }
    if pattern & 0xe000 == 0xc000 {
        // Rotation among lanes that agree in the bits of a mask.
        let (mask, by) = (field(0), field(5));
        let by = if pattern & 0x400 == 0 { by } else { LANES - by };
        return lane & mask | (lane + by) & !mask & 31;
    }
    lane & !3 | (pattern >> (2 * (lane & 3))) as usize & 3
}
