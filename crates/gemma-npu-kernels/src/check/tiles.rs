//! What tiles have, and what a design takes of it.

use std::collections::BTreeMap;

use super::{Faults, Usage};
use crate::array::{COUNTER, DESCRIPTORS_BY_PARITY, Kind};
use crate::design::{Command, Design};
use crate::lower::{Direction, Lowered};

pub(super) fn check(design: &Design, lowered: &Lowered, faults: &mut Faults) -> Vec<Usage> {
    let mut usage: BTreeMap<_, _> = design
        .tiles()
        .into_iter()
        .map(|tile| (tile, Usage { tile, bytes: 0, inputs: 0, outputs: 0, descriptors: 0, locks: 0 }))
        .collect();
    for core in &design.cores {
        if let Some(of) = usage.get_mut(&core.tile) {
            of.bytes = of.bytes.saturating_add(core.stack);
        }
    }
    for pool in &lowered.pools {
        if let Some(of) = usage.get_mut(&pool.tile) {
            let counter = if pool.tile.kind() == Kind::Core { COUNTER } else { 0 };
            let objects = pool.bytes.saturating_mul(u64::from(pool.depth));
            of.bytes = of.bytes.saturating_add(objects).saturating_add(counter);
            of.locks += 2 * pool.parts.len() as u32;
        }
    }
    let mut parity: BTreeMap<_, u32> = BTreeMap::new();
    for (direction, end) in lowered.ends() {
        if let Some(of) = usage.get_mut(&end.tile) {
            match direction {
                Direction::In => of.inputs += 1,
                Direction::Out => of.outputs += 1,
            }
            of.descriptors = of.descriptors.saturating_add(lowered.descriptors(end));
        }
        if end.tile.kind() == Kind::Memory {
            let of = parity.entry((end.tile, end.channel % 2)).or_default();
            *of = of.saturating_add(lowered.descriptors(end));
        }
    }
    for (tile, descriptors) in by_shim(design) {
        if let Some(of) = usage.get_mut(&tile) {
            of.descriptors = descriptors;
        }
    }
    for ((tile, odd), descriptors) in parity {
        let which = if odd == 1 { "odd" } else { "even" };
        faults.unless(descriptors <= DESCRIPTORS_BY_PARITY, tile, || {
            format!("{descriptors} descriptors for {which} channels, at most {DESCRIPTORS_BY_PARITY}")
        });
    }
    for of in usage.values() {
        against_limits(of, faults);
    }
    usage.into_values().collect()
}

/// Descriptors that the sequence uses of each shim tile.
fn by_shim(design: &Design) -> BTreeMap<crate::design::Tile, u32> {
    let mut used: BTreeMap<_, std::collections::BTreeSet<u32>> = BTreeMap::new();
    for command in &design.sequence.commands {
        let Command::Copy(copy) = command else { continue };
        let Some(fifo) = design.fifo(&copy.fifo) else { continue };
        let ends = std::iter::once(fifo.producer).chain(fifo.consumers.iter().map(|end| end.tile));
        for tile in ends.filter(|tile| tile.kind() == Kind::Shim) {
            used.entry(tile).or_default().insert(copy.descriptor);
        }
    }
    used.into_iter().map(|(tile, descriptors)| (tile, descriptors.len() as u32)).collect()
}

fn against_limits(of: &Usage, faults: &mut Faults) {
    let limits = of.tile.kind().limits();
    for (taken, there, what) in [
        (of.bytes, limits.memory, "bytes of memory"),
        (of.inputs.into(), limits.channels.into(), "channels from streams"),
        (of.outputs.into(), limits.channels.into(), "channels to streams"),
        (of.descriptors.into(), limits.descriptors.into(), "descriptors"),
        (of.locks.into(), limits.locks.into(), "locks"),
    ] {
        faults.unless(taken <= there, of.tile, || format!("{taken} {what}, at most {there}"));
    }
}
