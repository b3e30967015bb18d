//! What cores run: that each step can be done, and that loops leave fifos as they found them.

use std::collections::BTreeSet;

use super::Faults;
use crate::array::{COLUMNS, Kind, ROWS};
use crate::design::{Core, Design, Step};

/// Most objects at a core's end of a fifo: `mlir-aie` makes one more than are held at a time.
const DEPTH: u32 = 2;
/// What a stack's size is a multiple of.
const STACK: u64 = 32;

pub(super) fn check(design: &Design, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for core in &design.cores {
        let tile = core.tile;
        let place = format!("core at {tile}");
        let there = tile.kind() == Kind::Core && tile.column < COLUMNS && tile.row < ROWS;
        faults.unless(there, &place, || "there is no core".to_owned());
        faults.unless(seen.insert(tile), &place, || "has two programs".to_owned());
        faults.unless(core.stack > 0 && core.stack.is_multiple_of(STACK), &place, || {
            format!("a stack of {} bytes is no positive multiple of {STACK}", core.stack)
        });
        let mut reader = Reader { design, core, place, held: BTreeSet::new(), used: BTreeSet::new(), faults };
        reader.steps(&core.steps);
        reader.end();
    }
    for tile in design.tiles() {
        faults.unless(tile.kind() != Kind::Core || seen.contains(&tile), tile, || "runs nothing".to_owned());
    }
}

struct Reader<'a> {
    design: &'a Design,
    core: &'a Core,
    place: String,
    /// Fifos that it has an object of.
    held: BTreeSet<&'a str>,
    /// Fifos that it has ever had one of.
    used: BTreeSet<&'a str>,
    faults: &'a mut Faults,
}

impl<'a> Reader<'a> {
    fn add(&mut self, problem: String) {
        self.faults.add(&self.place, problem);
    }

    fn steps(&mut self, steps: &'a [Step]) {
        for step in steps {
            match step {
                Step::Repeat { times, steps } => self.repeat(*times, steps),
                Step::Acquire(fifo) => self.acquire(fifo),
                Step::Release(fifo) => {
                    if !self.held.remove(&**fifo) {
                        self.add(format!("releases {fifo}, which it does not hold"));
                    }
                }
                Step::Call { function, objects } => self.call(function, objects),
            }
        }
    }

    fn repeat(&mut self, times: u64, steps: &'a [Step]) {
        let held = self.held.clone();
        self.steps(steps);
        if self.held != held {
            self.add("a loop holds other objects at its end than at its beginning".to_owned());
        }
        if !waits(steps) {
            self.add("a loop never waits for anything".to_owned());
        }
        let depths = steps.iter().filter_map(|step| match step {
            Step::Acquire(fifo) => self.design.fifo(fifo).map(|fifo| u64::from(fifo.depth)),
            _ => None,
        });
        // The compiler unrolls a loop by the depths of its fifos, and takes for granted that it ends on the first object.
        let depths: Vec<u64> = depths.collect();
        if times == 0 || depths.iter().any(|depth| *depth > 0 && !times.is_multiple_of(*depth)) {
            self.add(format!("a loop of {times} is no positive multiple of its fifos' depths {depths:?}"));
        }
    }

    fn acquire(&mut self, name: &'a str) {
        let tile = self.core.tile;
        let Some(fifo) = self.design.fifo(name) else {
            return self.add(format!("acquires from {name}, which there is not"));
        };
        if fifo.producer != tile && fifo.consumers.iter().all(|end| end.tile != tile) {
            self.add(format!("acquires from {name}, which has no end there"));
        }
        if fifo.depth > DEPTH {
            self.add(format!("{name} is {} deep; the compiler would make it {DEPTH}", fifo.depth));
        }
        self.used.insert(name);
        if !self.held.insert(name) {
            self.add(format!("acquires a second object of {name}"));
        }
    }

    fn call(&mut self, name: &'a str, objects: &'a [String]) {
        let Some(function) = self.design.function(name) else {
            return self.add(format!("calls {name}, which there is not"));
        };
        for fifo in objects {
            if !self.held.contains(&**fifo) {
                self.add(format!("gives {name} an object of {fifo}, which it does not hold"));
            }
        }
        let given: Option<Vec<_>> =
            objects.iter().map(|fifo| self.design.fifo(fifo).map(|fifo| fifo.object)).collect();
        if given.as_ref().is_some_and(|given| *given != function.parameters) {
            self.add(format!("gives {name} other objects than it takes"));
        }
    }

    fn end(&mut self) {
        let (tile, design) = (self.core.tile, self.design);
        if let Some(fifo) = self.held.first() {
            let problem = format!("never releases {fifo}");
            self.add(problem);
        }
        for fifo in &design.fifos {
            let here = fifo.producer == tile || fifo.consumers.iter().any(|end| end.tile == tile);
            if here && !self.used.contains(&*fifo.name) {
                self.add(format!("never uses {}", fifo.name));
            }
        }
        let mut files: Vec<&str> = Vec::new();
        called(&self.core.steps, &mut |name| files.extend(design.function(name).map(|found| &*found.file)));
        files.sort_unstable();
        files.dedup();
        if files.len() > 1 {
            self.add(format!("calls functions of several files, {files:?}; a core links one"));
        }
    }
}

fn waits(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Acquire(_) => true,
        Step::Repeat { steps, .. } => waits(steps),
        Step::Release(_) | Step::Call { .. } => false,
    })
}

fn called<'a>(steps: &'a [Step], found: &mut dyn FnMut(&'a str)) {
    for step in steps {
        match step {
            Step::Repeat { steps, .. } => called(steps, found),
            Step::Call { function, .. } => found(function),
            Step::Acquire(_) | Step::Release(_) => {}
        }
    }
}
