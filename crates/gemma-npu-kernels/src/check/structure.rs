//! Names, ends and links: what everything else is read with.

use std::collections::BTreeSet;

use super::Faults;
use crate::array::{COLUMNS, Kind, ROWS, WORD};
use crate::design::{Design, Fifo, Link, Object, Tile};

/// The name that `mlir-aie` gives the runtime sequence, in the same scope as fifos and functions.
const TAKEN: &str = "sequence";

pub(super) fn check(design: &Design, faults: &mut Faults) {
    names(design, faults);
    for fifo in &design.fifos {
        check_fifo(fifo, faults);
    }
    for link in &design.links {
        check_link(design, link, faults);
    }
    for fifo in &design.fifos {
        linked(design, fifo, faults);
    }
}

fn names(design: &Design, faults: &mut Faults) {
    let symbols = design.fifos.iter().map(|fifo| &fifo.name);
    let symbols = symbols.chain(design.functions.iter().map(|function| &function.name));
    let mut seen = BTreeSet::from([TAKEN]);
    for name in symbols {
        faults.unless(is_symbol(name), name, || "is no name: letters, digits and _ alone".to_owned());
        faults.unless(seen.insert(name), name, || "is the name of two things".to_owned());
    }
    let mut seen = BTreeSet::new();
    for argument in &design.sequence.arguments {
        let name = &argument.name;
        faults.unless(is_symbol(name), name, || "is no name: letters, digits and _ alone".to_owned());
        faults.unless(seen.insert(name), name, || "is the name of two arguments".to_owned());
        whole_words(name, argument.object, faults);
    }
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    faults.unless(plain(&design.name) && !design.name.is_empty(), &design.name, || {
        "is no name of a file".to_owned()
    });
    for function in &design.functions {
        let file = &function.file;
        let fine = plain(file) && file.strip_suffix(".o").is_some_and(|stem| !stem.is_empty());
        faults.unless(fine, &function.name, || format!("{file} is no name of an object file"));
    }
}

fn is_symbol(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn whole_words(place: &str, object: Object, faults: &mut Faults) {
    let bytes = object.bytes();
    faults.unless(bytes > 0 && bytes.is_multiple_of(WORD), place, || {
        format!("{bytes} bytes are no positive number of words of {WORD}")
    });
}

fn check_fifo(fifo: &Fifo, faults: &mut Faults) {
    let name = &fifo.name;
    faults.unless(fifo.depth > 0, name, || "has room for no object".to_owned());
    whole_words(name, fifo.object, faults);
    faults.unless(!fifo.consumers.is_empty(), name, || "ends nowhere".to_owned());
    let mut seen = BTreeSet::new();
    for tile in std::iter::once(fifo.producer).chain(fifo.consumers.iter().map(|end| end.tile)) {
        faults.unless(tile.column < COLUMNS && tile.row < ROWS, name, || format!("there is no {tile}"));
        faults.unless(seen.insert(tile), name, || format!("{tile} is two of its ends"));
    }
    for end in &fifo.consumers {
        let kinds = (fifo.producer.kind(), end.tile.kind());
        // Neighbouring cores would share memory instead of using DMA, which nothing here knows about.
        let known = matches!(
            kinds,
            (Kind::Shim, Kind::Memory | Kind::Core)
                | (Kind::Memory | Kind::Core, Kind::Shim)
                | (Kind::Memory, Kind::Core)
                | (Kind::Core, Kind::Memory)
        );
        faults.unless(known, name, || format!("from {} to {} is not modelled", fifo.producer, end.tile));
        let alone = end.tile.kind() == Kind::Core || fifo.consumers.len() == 1;
        faults.unless(alone, name, || format!("{} must be its only end", end.tile));
    }
}

fn check_link(design: &Design, link: &Link, faults: &mut Faults) {
    let place = format!("link {:?} -> {:?}", link.inputs, link.outputs);
    let fifos = |names: &[String]| -> Option<Vec<Fifo>> {
        names.iter().map(|name| design.fifo(name).cloned()).collect()
    };
    let (Some(inputs), Some(outputs)) = (fifos(&link.inputs), fifos(&link.outputs)) else {
        return faults.add(place, "names a fifo that there is not".to_owned());
    };
    let (many, one) = match (&inputs[..], &outputs[..]) {
        ([_], [one]) => (&inputs, one),
        (_, [one]) if !inputs.is_empty() => (&inputs, one),
        ([one], _) if !outputs.is_empty() => (&outputs, one),
        _ => return faults.add(place, "has not one fifo on one side, and some on the other".to_owned()),
    };
    let arrives = inputs.iter().flat_map(|fifo| fifo.consumers.iter().map(|end| end.tile));
    let tiles: BTreeSet<Tile> = arrives.chain(outputs.iter().map(|fifo| fifo.producer)).collect();
    let meets = tiles.len() == 1 && tiles.iter().all(|tile| tile.kind() == Kind::Memory);
    faults.unless(meets, &place, || "does not meet in one memory tile".to_owned());
    let alike = many.iter().all(|fifo| fifo.depth == one.depth && fifo.object.element == one.object.element);
    faults.unless(alike, &place, || "has fifos of different depths or elements".to_owned());
    let total = many.iter().fold(0_u64, |sum, fifo| sum.saturating_add(fifo.object.count));
    faults.unless(total == one.object.count, &place, || {
        format!("has {total} elements on one side and {} on the other", one.object.count)
    });
    let begin = many.iter().scan(0_u64, |sum, fifo| {
        let begin = *sum;
        *sum = begin.saturating_add(fifo.object.count);
        Some(begin)
    });
    let wanted: Vec<u64> = if many.len() > 1 { begin.collect() } else { Vec::new() };
    faults.unless(link.offsets == wanted, &place, || {
        format!("has offsets {:?}, its fifos are at {wanted:?}", link.offsets)
    });
}

/// A memory tile does nothing by itself: what comes there must leave it.
fn linked(design: &Design, fifo: &Fifo, faults: &mut Faults) {
    let count = |side: fn(&Link) -> &Vec<String>| {
        design.links.iter().flat_map(side).filter(|name| **name == fifo.name).count()
    };
    let ends = usize::from(fifo.consumers.iter().any(|end| end.tile.kind() == Kind::Memory));
    let begins = usize::from(fifo.producer.kind() == Kind::Memory);
    let problem = |links| format!("is in {links} links at its memory tile, not in one");
    let inputs = count(|link| &link.inputs);
    faults.unless(inputs == ends, &fifo.name, || problem(inputs));
    let outputs = count(|link| &link.outputs);
    faults.unless(outputs == begins, &fifo.name, || problem(outputs));
}
