//! What `mlir-aie` makes of object fifos: memory, DMA channels and the streams between them.
//!
//! It follows that compiler's object fifo transform for what a checked design can have. Checks count from it, the simulator
//! moves data over it; neither looks at fifos in its own way.

use std::collections::BTreeMap;

use crate::array::{Kind, WORD};
use crate::design::{Design, Dimension, Element, Fifo, Link, Tile};

/// A part of an object: what one fifo of a link carries. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Room for `depth` objects in a tile. Each part has a semaphore of free and one of filled objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) tile: Tile,
    pub(crate) depth: u32,
    /// Of one object.
    pub(crate) bytes: u64,
    pub(crate) parts: Vec<Part>,
}

/// Which way data goes, seen from the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// From memory to the stream: MM2S.
    Out,
    /// From the stream to memory: S2MM.
    In,
}

/// A DMA channel at an end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) tile: Tile,
    pub(crate) channel: u32,
    pub(crate) memory: Memory,
    pub(crate) dimensions: Vec<Dimension>,
}

/// What a channel reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The machine's, by copies of the sequence.
    Host,
    /// The objects of a pool in turn, of each these parts in turn.
    Pool { pool: usize, parts: Vec<usize> },
}

/// What a fifo becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) sender: End,
    pub(crate) receivers: Vec<End>,
}

/// All of a design; `streams` has the order of its fifos.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lowered {
    pub(crate) pools: Vec<Pool>,
    pub(crate) streams: Vec<Stream>,
}

impl Lowered {
    /// Of a design whose names, ends and links are in order; ends that are not are taken for the machine's memory.
    pub(crate) fn of(design: &Design) -> Self {
        let mut lowered = Self::default();
        let mut links = vec![None; design.links.len()];
        let mut next: BTreeMap<(Tile, Direction), u32> = BTreeMap::new();
        let mut channel = |tile, direction| {
            let next = next.entry((tile, direction)).or_default();
            *next += 1;
            *next - 1
        };
        for fifo in &design.fifos {
            let sender = End {
                tile: fifo.producer,
                channel: channel(fifo.producer, Direction::Out),
                memory: lowered.memory(design, fifo, fifo.producer, Direction::Out, &mut links),
                dimensions: fifo.to_stream.clone(),
            };
            let receivers = fifo.consumers.iter().map(|consumer| End {
                tile: consumer.tile,
                channel: channel(consumer.tile, Direction::In),
                memory: lowered.memory(design, fifo, consumer.tile, Direction::In, &mut links),
                dimensions: consumer.from_stream.clone(),
            });
            let receivers = receivers.collect();
            lowered.streams.push(Stream { sender, receivers });
        }
        lowered
    }

    /// Where the objects of a fifo are at one of its ends; `links` has the pools that links have got.
    fn memory(
        &mut self,
        design: &Design,
        fifo: &Fifo,
        tile: Tile,
        direction: Direction,
        links: &mut [Option<usize>],
    ) -> Memory {
        match tile.kind() {
            Kind::Shim => Memory::Host,
            Kind::Core => {
                let bytes = fifo.object.bytes();
                let parts = vec![Part { offset: 0, bytes }];
                self.pools.push(Pool { tile, depth: fifo.depth, bytes, parts });
                Memory::Pool { pool: self.pools.len() - 1, parts: vec![0] }
            }
            Kind::Memory => {
                let side = |link: &Link| {
                    let names = if direction == Direction::In { &link.inputs } else { &link.outputs };
                    names.iter().position(|name| *name == fifo.name).map(|at| (at, names.len()))
                };
                let found =
                    design.links.iter().enumerate().find_map(|(at, link)| Some((at, link, side(link)?)));
                let Some((index, link, (at, of))) = found else { return Memory::Host };
                let pool = *links.get_mut(index).and_then(Option::as_mut).unwrap_or(&mut self.pools.len());
                if pool == self.pools.len() {
                    self.pools.push(Pool::of(design, link, tile));
                    links[index] = Some(pool);
                }
                // The side with one fifo goes over all parts.
                let parts = if of > 1 { vec![at] } else { (0..self.pools[pool].parts.len()).collect() };
                Memory::Pool { pool, parts }
            }
        }
    }
}

impl Pool {
    fn of(design: &Design, link: &Link, tile: Tile) -> Self {
        let many = if link.inputs.len() > 1 { &link.inputs } else { &link.outputs };
        let fifos = many.iter().filter_map(|name| design.fifo(name));
        let mut offset = 0;
        let mut parts = Vec::new();
        let mut depth = 0;
        for fifo in fifos {
            parts.push(Part { offset, bytes: fifo.object.bytes() });
            offset = offset.saturating_add(fifo.object.bytes());
            depth = fifo.depth;
        }
        Self { tile, depth, bytes: offset, parts }
    }
}

impl Lowered {
    /// All channels, with their direction.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Direction, &End)> {
        self.streams.iter().flat_map(|stream| {
            let receivers = stream.receivers.iter().map(|end| (Direction::In, end));
            std::iter::once((Direction::Out, &stream.sender)).chain(receivers)
        })
    }

    /// Descriptors that a channel's chain has; those of copies are the sequence's.
    pub(crate) fn descriptors(&self, end: &End) -> u32 {
        match &end.memory {
            Memory::Host => 0,
            Memory::Pool { pool, parts } => {
                self.pools.get(*pool).map_or(0, |pool| pool.depth.saturating_mul(parts.len() as u32))
            }
        }
    }
}

/// The addresses of a transfer, word by word, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    base: u64,
    /// (count, step in bytes, how far it is), outermost first.
    loops: Vec<(u64, u64, u64)>,
    left: u64,
}

impl Walk {
    /// `bytes` from `base` on.
    pub(crate) fn straight(base: u64, bytes: u64) -> Self {
        Self { base, loops: vec![(bytes / WORD, WORD, 0)], left: bytes / WORD }
    }

    /// Nested loops over elements from `base` on; none of them: `bytes` in a row.
    pub(crate) fn of(base: u64, bytes: u64, dimensions: &[Dimension], element: Element) -> Self {
        let Some((inner, outer)) = dimensions.split_last() else { return Self::straight(base, bytes) };
        let size = element.bytes();
        let mut loops: Vec<_> = outer.iter().map(|d| (d.size, d.stride * size, 0)).collect();
        // Elements smaller than a word stand beside each other in it.
        loops.push(if inner.stride == 1 {
            (inner.size * size / WORD, WORD, 0)
        } else {
            (inner.size, inner.stride * size, 0)
        });
        let left = loops.iter().map(|(count, ..)| count).product();
        Self { base, loops, left }
    }

    /// Words that are still to come.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }
}

impl Iterator for Walk {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let address = self.base + self.loops.iter().map(|(_, step, at)| step * at).sum::<u64>();
        for (count, _, at) in self.loops.iter_mut().rev() {
            *at += 1;
            if *at < *count {
                break;
            }
            *at = 0;
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_has_the_addresses_of_its_loops() {
        let d = |size, stride| Dimension { size, stride };
        for (dimensions, element, addresses) in [
            (vec![], Element::I8, vec![100, 104, 108, 112]),
            (vec![d(2, 4), d(2, 1)], Element::I32, vec![100, 104, 116, 120]),
            (vec![d(2, 8), d(2, 16), d(4, 1)], Element::I8, vec![100, 116, 108, 124]),
            (vec![d(2, 0), d(1, 4), d(2, 2)], Element::I32, vec![100, 108, 100, 108]),
            (vec![d(3, 6), d(2, 1)], Element::Bf16, vec![100, 112, 124]),
        ] {
            let walk = Walk::of(100, 16, &dimensions, element);
            assert_eq!(walk.left() as usize, addresses.len());
            assert_eq!(walk.collect::<Vec<_>>(), addresses, "{dimensions:?}");
        }
    }
}
