//! Names, ends and links: what everything else is read with.

use std::collections::BTreeSet;

use super::Faults;
use crate::array::{COLUMNS, Kind, ROWS, WORD};
use crate::design::{Design, Fifo, Link, Object, Tile};

/// Names that `mlir-aie` gives to things of its own in the scope of fifos and functions: the runtime sequence, and what a core starts with.
const TAKEN: [&str; 2] = ["sequence", "main"];
/// What it puts behind the name of a fifo's end, with a number, for buffers and semaphores.
const NUMBERED: [&str; 3] = ["_buff_", "_prod_lock_", "_cons_lock_"];
/// What it puts behind a name for the shim's DMA channel.
const SHIM: &str = "_shim_alloc";
/// What it calls buffers without a name, with a number.
const NAMELESS: &str = "_anonymous";
/// What it calls the program of a core, with the column and the row.
const CORE: &str = "core_";

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
    let symbols = design.fifos.iter().map(|fifo| fifo.name.clone());
    let symbols: Vec<String> = symbols.chain(design.functions.iter().map(|of| of.name.clone())).collect();
    let consuming: Vec<String> = design.fifos.iter().flat_map(consuming).collect();
    let ends: BTreeSet<&str> =
        design.fifos.iter().map(|fifo| &*fifo.name).chain(consuming.iter().map(String::as_str)).collect();
    let mut seen = BTreeSet::from(TAKEN);
    for name in &symbols {
        faults.unless(is_symbol(name), name, || "is no name: letters, digits and _ alone".to_owned());
        faults.unless(seen.insert(name), name, || "is the name of two things".to_owned());
        faults.unless(!is_generated(name, &ends), name, || {
            "is a name that mlir-aie gives to something of its own".to_owned()
        });
    }
    for name in &consuming {
        faults.unless(seen.insert(name), name, || {
            "is the name of two things: mlir-aie calls a consuming end of a fifo so".to_owned()
        });
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

/// The names that `mlir-aie` gives to the ends of a fifo that take objects.
fn consuming(fifo: &Fifo) -> Vec<String> {
    let name = &fifo.name;
    match fifo.consumers.len() {
        1 => vec![format!("{name}_cons")],
        many => (0..many).map(|end| format!("{name}_{end}_cons")).collect(),
    }
}

/// Whether `mlir-aie` may give a name to a buffer, a semaphore, a channel or a core's program, where the ends of fifos have these names.
/// Numbers are not compared with how many there are: later versions may count otherwise.
fn is_generated(name: &str, ends: &BTreeSet<&str>) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let place = name.strip_prefix(CORE).and_then(|place| place.split_once('_'));
    let of_end = name.strip_suffix(SHIM).or_else(|| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        NUMBERED.iter().find_map(|numbered| stem.strip_suffix(numbered)).filter(|_| stem.len() < name.len())
    });
    name.strip_prefix(NAMELESS).is_some_and(is_number)
        || place.is_some_and(|(column, row)| is_number(column) && is_number(row))
        || of_end.is_some_and(|end| ends.contains(end))
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
