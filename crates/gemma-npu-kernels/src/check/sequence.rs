//! The runtime sequence: that its transfers can be written into the shim's descriptors, and that results are waited for.
//!
//! Whether a descriptor is written while it is in use depends on what runs meanwhile; the simulator finds that.

use std::collections::BTreeMap;

use super::transfers::last;
use super::{Faults, transfers};
use crate::array::{ITERATIONS, Kind, WORD};
use crate::design::{Argument, Command, Copy, Design, Dimension};

/// Buffers that a kernel in an xclbin has always been able to take.
const ARGUMENTS: usize = 5;

/// What was begun by copies of a fifo.
#[derive(Default)]
struct Begun {
    bytes: u64,
    tokens: u64,
    waits: u64,
    copies: u64,
}

pub(super) fn check(design: &Design, faults: &mut Faults) {
    let sequence = &design.sequence;
    faults.unless(sequence.arguments.len() <= ARGUMENTS, "sequence", || {
        format!("takes {} buffers, at most {ARGUMENTS}", sequence.arguments.len())
    });
    let mut begun: BTreeMap<&str, Begun> = BTreeMap::new();
    for (number, command) in sequence.commands.iter().enumerate() {
        match command {
            Command::Copy(copy) => {
                let place = format!("command {number} ({})", copy.fifo);
                check_copy(design, copy, &place, faults);
                let of = begun.entry(&*copy.fifo).or_default();
                let elements: u64 = copy.dimensions.iter().map(|d| d.size).fold(1, u64::saturating_mul);
                let element = sequence.arguments.get(copy.argument).map_or(1, |a| a.object.element.bytes());
                of.bytes = of.bytes.saturating_add(elements.saturating_mul(element));
                of.tokens += u64::from(copy.token);
                of.copies += 1;
            }
            Command::Wait(fifo) => {
                let of = begun.entry(&**fifo).or_default();
                of.waits += 1;
                faults.unless(of.waits <= of.tokens, format!("command {number} ({fifo})"), || {
                    "waits for a token that nobody gives".to_owned()
                });
            }
        }
    }
    for (name, of) in begun {
        let Some(fifo) = design.fifo(name) else { continue };
        let object = fifo.object.bytes();
        faults.unless(object > 0 && of.bytes.is_multiple_of(object), name, || {
            format!("{} bytes are copied, no whole number of objects of {object}", of.bytes)
        });
        let out = fifo.producer.kind() != Kind::Shim;
        faults.unless(!out || of.tokens == of.copies, name, || {
            "a copy from the array always gives a token; ask for it".to_owned()
        });
        faults.unless(of.waits == of.tokens, name, || {
            format!("{} of {} tokens are not waited for", of.tokens.saturating_sub(of.waits), of.tokens)
        });
    }
}

fn check_copy(design: &Design, copy: &Copy, place: &str, faults: &mut Faults) {
    let Some(fifo) = design.fifo(&copy.fifo) else {
        return faults.add(place, "there is no such fifo".to_owned());
    };
    let Some(argument) = design.sequence.arguments.get(copy.argument) else {
        return faults.add(place, format!("there is no argument {}", copy.argument));
    };
    let shim =
        fifo.producer.kind() == Kind::Shim || fifo.consumers.iter().any(|end| end.tile.kind() == Kind::Shim);
    faults.unless(shim, place, || "has no end in the shim".to_owned());
    faults.unless(argument.object.element == fifo.object.element, place, || {
        format!("the fifo is not of {}", argument.object.element.name())
    });
    let limits = Kind::Shim.limits();
    faults.unless(copy.descriptor < limits.descriptors, place, || {
        format!("descriptor {} of {}", copy.descriptor, limits.descriptors)
    });
    loops(copy, argument, place, faults);
}

fn loops(copy: &Copy, argument: &Argument, place: &str, faults: &mut Faults) {
    let object = argument.object;
    let bytes = object.element.bytes();
    let [iteration, outer @ .., inner] = copy.dimensions;
    faults.unless(copy.dimensions.iter().all(|d| d.size > 0), place, || "moves nothing".to_owned());
    let last = last(copy.offset, &copy.dimensions);
    faults.unless(last.is_some_and(|last| last < object.count), place, || {
        format!("reaches element {last:?} of {}", object.count)
    });
    let start = copy.offset.saturating_mul(bytes);
    faults.unless(start.is_multiple_of(WORD), place, || format!("begins at byte {start}, not at a word"));
    faults.unless(iteration.size <= ITERATIONS, place, || {
        format!("is repeated {} times, at most {ITERATIONS}", iteration.size)
    });
    for (dimension, may_stand) in [(iteration, true), (outer[0], false), (outer[1], false)] {
        let fine = if dimension.size > 1 { may_stand || dimension.stride > 0 } else { dimension.stride == 0 };
        faults.unless(fine, place, || {
            format!("a loop of {} has a stride of {}", dimension.size, dimension.stride)
        });
    }
    faults.unless(inner.stride > 0, place, || "elements must be at least 1 apart".to_owned());
    // A transfer in one row is written without loops, and may be as long as its length register allows.
    let straight = outer.iter().all(|d| d.size == 1) && inner.stride == 1;
    let limits = Kind::Shim.limits();
    let short = if straight { Dimension { size: WORD / bytes, stride: 1 } } else { inner };
    let row = inner.size.saturating_mul(bytes);
    faults.unless(row.is_multiple_of(WORD), place, || {
        format!("{row} bytes in a row are no whole words of {WORD}")
    });
    transfers::words(place, short, &outer, &outer[1..], bytes, &limits, faults);
    // The iteration has a step register of the same width.
    transfers::words(
        place,
        Dimension { size: WORD / bytes, stride: 1 },
        &[iteration],
        &[],
        bytes,
        &limits,
        faults,
    );
}
