//! A stream: the DMA channels at its ends, and words that go from one to all others at the same time.

use std::collections::{BTreeSet, VecDeque};

use super::memory::{Lock, Pools};
use crate::array::{Kind, QUEUE, WORD};
use crate::design::{Copy, Dimension, Element, Fifo, Tile};
use crate::lower::{self, Memory, Walk};

/// A copy that waits at a channel, or runs.
pub(super) struct Task {
    walk: Walk,
    argument: usize,
    tile: Tile,
    descriptor: u32,
    token: bool,
}

impl Task {
    pub(super) fn new(copy: &Copy, element: Element, tile: Tile) -> Self {
        Self {
            walk: Walk::of(copy.offset * element.bytes(), 0, &copy.dimensions, element),
            argument: copy.argument,
            tile,
            descriptor: copy.descriptor,
            token: copy.token,
        }
    }
}

pub(super) struct Stream {
    name: String,
    element: Element,
    sender: Channel,
    receivers: Vec<Channel>,
    tokens: u64,
}

struct Channel {
    tile: Tile,
    memory: Memory,
    dimensions: Vec<Dimension>,
    /// What it takes of its own memory before a transfer, and gives after one.
    locks: (Lock, Lock),
    /// Transfers of its chain so far.
    done: u64,
    queue: VecDeque<Task>,
    running: Option<Running>,
}

struct Running {
    walk: Walk,
    place: Place,
}

enum Place {
    Host { argument: usize, tile: Tile, descriptor: u32, token: bool },
    Pool { pool: usize, object: usize, part: usize },
}

impl Stream {
    pub(super) fn new(fifo: &Fifo, stream: &lower::Stream) -> Self {
        let channel = |end: &lower::End, locks| Channel {
            tile: end.tile,
            memory: end.memory.clone(),
            dimensions: end.dimensions.clone(),
            locks,
            done: 0,
            queue: VecDeque::new(),
            running: None,
        };
        let receivers = stream.receivers.iter().map(|end| channel(end, (Lock::Free, Lock::Filled)));
        Self {
            name: fifo.name.clone(),
            element: fifo.object.element,
            sender: channel(&stream.sender, (Lock::Filled, Lock::Free)),
            receivers: receivers.collect(),
            tokens: 0,
        }
    }

    fn channels(&mut self) -> impl Iterator<Item = &mut Channel> {
        std::iter::once(&mut self.sender).chain(&mut self.receivers)
    }

    /// The tile of its end in the shim; of its sender, where it has none.
    pub(super) fn shim(&mut self) -> Tile {
        let sender = self.sender.tile;
        self.channels().map(|channel| channel.tile).find(|tile| tile.kind() == Kind::Shim).unwrap_or(sender)
    }

    /// Puts a copy into the queue of its end in the shim, if there is room.
    pub(super) fn push(&mut self, task: Task) -> bool {
        let Some(channel) = self.channels().find(|channel| channel.tile == task.tile) else { return false };
        let room = channel.queue.len() + usize::from(channel.running.is_some()) < QUEUE;
        if room {
            channel.queue.push_back(task);
        }
        room
    }

    /// Takes the token of a copy that has ended, if there is one.
    pub(super) fn take_token(&mut self) -> bool {
        let there = self.tokens > 0;
        self.tokens -= u64::from(there);
        there
    }

    /// Moves up to so many words; how many it could.
    pub(super) fn step(
        &mut self,
        most: u64,
        pools: &mut Pools,
        arguments: &mut [Vec<u8>],
        busy: &mut BTreeSet<(Tile, u32)>,
    ) -> u64 {
        let mut moved = 0;
        while moved < most {
            let element = self.element;
            // Each end takes its memory by itself, whether others are ready or not.
            let ready = self.channels().fold(true, |ready, channel| channel.begin(element, pools) & ready);
            if !ready {
                break;
            }
            let left =
                self.channels().filter_map(|channel| Some(channel.running.as_ref()?.walk.left())).min();
            let words = left.unwrap_or(0).min(most - moved);
            for _ in 0..words {
                let word = self.sender.read(pools, arguments);
                for receiver in &mut self.receivers {
                    receiver.write(word, pools, arguments);
                }
            }
            moved += words;
            let tokens: u64 = self.channels().map(|channel| channel.end(pools, busy)).sum();
            self.tokens += tokens;
        }
        moved
    }

    /// What it has begun and not ended.
    pub(super) fn left(&self) -> Option<String> {
        let mut host = std::iter::once(&self.sender).chain(&self.receivers);
        let copies = host.any(|channel| {
            channel.memory == Memory::Host && (channel.running.is_some() || !channel.queue.is_empty())
        });
        if copies {
            return Some(format!("a copy of {} has not", self.name));
        }
        (self.tokens > 0).then(|| format!("{} has tokens left", self.name))
    }
}

impl Channel {
    /// Has a transfer running, or begins the next if it can.
    fn begin(&mut self, element: Element, pools: &mut Pools) -> bool {
        if self.running.is_some() {
            return true;
        }
        self.running = match &self.memory {
            Memory::Host => self.queue.pop_front().map(|task| Running {
                walk: task.walk,
                place: Place::Host {
                    argument: task.argument,
                    tile: task.tile,
                    descriptor: task.descriptor,
                    token: task.token,
                },
            }),
            Memory::Pool { pool, parts } => {
                let (pool, count) = (*pool, parts.len() as u64);
                let part = parts[(self.done % count) as usize];
                let object = (self.done / count % pools.depth(pool)) as usize;
                pools.acquire(pool, part, self.locks.0).then(|| {
                    let of = pools.part(pool, part);
                    Running {
                        walk: Walk::of(of.offset, of.bytes, &self.dimensions, element),
                        place: Place::Pool { pool, object, part },
                    }
                })
            }
        };
        self.running.is_some()
    }

    /// Ends the running transfer if all of it is done; how many tokens that gives.
    fn end(&mut self, pools: &mut Pools, busy: &mut BTreeSet<(Tile, u32)>) -> u64 {
        let Some(done) = self.running.take_if(|running| running.walk.left() == 0) else { return 0 };
        self.done += 1;
        match done.place {
            Place::Host { tile, descriptor, token, .. } => {
                busy.remove(&(tile, descriptor));
                u64::from(token)
            }
            Place::Pool { pool, part, .. } => {
                pools.release(pool, part, self.locks.1);
                0
            }
        }
    }

    fn word<'a>(&mut self, pools: &'a mut Pools, arguments: &'a mut [Vec<u8>]) -> Option<&'a mut [u8]> {
        let running = self.running.as_mut()?;
        let at = running.walk.next()? as usize;
        let bytes = match running.place {
            Place::Host { argument, .. } => arguments.get_mut(argument),
            Place::Pool { pool, object, .. } => pools.object(pool, object),
        };
        bytes?.get_mut(at..at + WORD as usize)
    }

    fn read(&mut self, pools: &mut Pools, arguments: &mut [Vec<u8>]) -> [u8; WORD as usize] {
        let mut word = [0; WORD as usize];
        if let Some(bytes) = self.word(pools, arguments) {
            word.copy_from_slice(bytes);
        }
        word
    }

    fn write(&mut self, word: [u8; WORD as usize], pools: &mut Pools, arguments: &mut [Vec<u8>]) {
        if let Some(bytes) = self.word(pools, arguments) {
            bytes.copy_from_slice(&word);
        }
    }
}
