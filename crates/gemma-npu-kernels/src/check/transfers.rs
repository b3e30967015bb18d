//! The loops of transfers inside of the array: how many, how far, over what.

use super::Faults;
use crate::array::{Kind, Limits, VERIFIED_SIZE, VERIFIED_STRIDE, WORD};
use crate::design::{Design, Dimension, Fifo, Object, Tile};

pub(super) fn check(design: &Design, faults: &mut Faults) {
    for fifo in &design.fifos {
        loops(fifo, fifo.producer, &fifo.to_stream, moved(design, fifo, true), faults);
        for end in &fifo.consumers {
            loops(fifo, end.tile, &end.from_stream, moved(design, fifo, false), faults);
        }
    }
}

/// What one descriptor of a fifo's end moves: a part of its object where others fill, or take, the rest.
fn moved(design: &Design, fifo: &Fifo, producer: bool) -> Object {
    let link = design.links.iter().find(|link| {
        let (this, other) =
            if producer { (&link.outputs, &link.inputs) } else { (&link.inputs, &link.outputs) };
        this.contains(&fifo.name) && other.len() > 1
    });
    let others = link.into_iter().flat_map(|link| if producer { &link.inputs } else { &link.outputs });
    let least = others.filter_map(|name| design.fifo(name)).map(|fifo| fifo.object.count).min();
    Object { count: least.unwrap_or(fifo.object.count), element: fifo.object.element }
}

fn loops(fifo: &Fifo, tile: Tile, dimensions: &[Dimension], moved: Object, faults: &mut Faults) {
    let Some((inner, outer)) = dimensions.split_last() else { return };
    let (place, kind) = (format!("{} at {tile}", fifo.name), tile.kind());
    let limits = kind.limits();
    if kind == Kind::Shim {
        return faults.add(place, "the sequence says in which order the shim moves elements".to_owned());
    }
    faults.unless(dimensions.len() <= limits.dimensions, &place, || {
        format!("{} nested loops, at most {}", dimensions.len(), limits.dimensions)
    });
    let all = dimensions.iter().try_fold(1_u64, |all, dimension| all.checked_mul(dimension.size));
    faults.unless(all == Some(moved.count), &place, || {
        format!("loops over {all:?} elements of {}", moved.count)
    });
    let last = last(0, dimensions);
    faults.unless(last.is_some_and(|last| last < moved.count), &place, || {
        format!("reaches element {last:?} of {}", moved.count)
    });
    let bytes = moved.element.bytes();
    for dimension in dimensions {
        let Dimension { size, stride } = *dimension;
        faults.unless((1..=VERIFIED_SIZE).contains(&size), &place, || {
            format!("a loop of {size}, at most {VERIFIED_SIZE} and at least 1")
        });
        faults.unless((1..=VERIFIED_STRIDE.min(moved.count)).contains(&stride), &place, || {
            format!("a stride of {stride} elements, at least 1, and at most {VERIFIED_STRIDE} and the object")
        });
    }
    // Where a transfer has all loops that there are, it ends with the outermost, which nothing counts.
    let counted =
        if dimensions.len() == limits.dimensions { outer.get(1..).unwrap_or_default() } else { outer };
    words(&place, *inner, outer, counted, bytes, &limits, faults);
}

/// What the hardware's registers, which count words, can hold: steps of all loops, counts of the inner and of those that are `counted`.
pub(super) fn words(
    place: &str,
    inner: Dimension,
    outer: &[Dimension],
    counted: &[Dimension],
    bytes: u64,
    limits: &Limits,
    faults: &mut Faults,
) {
    faults.unless(inner.stride == 1 || bytes == WORD, place, || {
        format!("elements of {bytes} bytes must be next to each other, not {} apart", inner.stride)
    });
    let row = inner.size.saturating_mul(bytes);
    faults.unless(row.is_multiple_of(WORD), place, || {
        format!("{row} bytes in a row are no whole words of {WORD}")
    });
    faults.unless(row / WORD <= limits.wrap, place, || {
        format!("{} words in a row, at most {}", row / WORD, limits.wrap)
    });
    for dimension in std::iter::once(&inner).filter(|_| bytes == WORD).chain(outer) {
        let step = dimension.stride.saturating_mul(bytes);
        faults.unless(step.is_multiple_of(WORD), place, || {
            format!("steps of {step} bytes are no whole words of {WORD}")
        });
        faults.unless(step / WORD <= limits.step, place, || {
            format!("steps of {} words, at most {}", step / WORD, limits.step)
        });
    }
    for dimension in counted {
        faults.unless(dimension.size <= limits.wrap, place, || {
            format!("a loop of {}, at most {}", dimension.size, limits.wrap)
        });
    }
}

/// The element furthest from the beginning that loops reach.
pub(super) fn last(offset: u64, dimensions: &[Dimension]) -> Option<u64> {
    dimensions.iter().try_fold(offset, |last, dimension| {
        last.checked_add(dimension.size.checked_sub(1)?.checked_mul(dimension.stride)?)
    })
}
