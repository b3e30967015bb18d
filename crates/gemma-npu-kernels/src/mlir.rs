//! Writes a design as MLIR, in the words that `mlir-aie` takes from 2026-03-19 until it drops `aie.objectfifo.subview.access`.
//!
//! It writes what is there and decides nothing; what it is given should have passed [`check`](crate::check()).

use std::fmt::{self, Display, Write as _};

use crate::array::Kind;
use crate::design::{
    Command, Copy, Core, Design, Dimension, Element, Fifo, Function, Link, Object, Step, Tile,
};

/// The device that designs are for: the whole array of Phoenix and Hawk Point.
const DEVICE: &str = "npu1";

/// The text of a design, as one module.
#[must_use]
pub fn text(design: &Design) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = Writer { out: &mut out, design }.module();
    out
}

struct Writer<'a> {
    out: &'a mut String,
    design: &'a Design,
}

impl Writer<'_> {
    fn module(&mut self) -> fmt::Result {
        writeln!(self.out, "module {{\n  aie.device({DEVICE}) {{")?;
        for tile in self.design.tiles() {
            writeln!(self.out, "    {} = aie.tile({}, {})", name(tile), tile.column, tile.row)?;
        }
        for fifo in &self.design.fifos {
            self.fifo(fifo)?;
        }
        for link in &self.design.links {
            self.link(link)?;
        }
        for function in &self.design.functions {
            self.function(function)?;
        }
        for core in &self.design.cores {
            self.core(core)?;
        }
        self.sequence()?;
        writeln!(self.out, "  }}\n}}")
    }

    fn fifo(&mut self, fifo: &Fifo) -> fmt::Result {
        let end = |tile, attribute, dimensions: &[Dimension]| match dimensions {
            [] => name(tile),
            _ => format!("{} {attribute} {}", name(tile), loops(dimensions)),
        };
        let producer = end(fifo.producer, "dimensionsToStream", &fifo.to_stream);
        let consumers = fifo.consumers.iter();
        let consumers = list(consumers.map(|to| end(to.tile, "dimensionsFromStream", &to.from_stream)));
        writeln!(
            self.out,
            "    aie.objectfifo @{}({producer}, {{{consumers}}}, {} : i32) : !aie.objectfifo<{}>",
            fifo.name,
            fifo.depth,
            memref(fifo.object)
        )
    }

    fn link(&mut self, link: &Link) -> fmt::Result {
        let symbols = |names: &[String]| list(names.iter().map(|name| format!("@{name}")));
        let offsets = format!("[{}]", list(link.offsets.iter()));
        let (from, to) = if link.inputs.len() > 1 { (&*offsets, "[]") } else { ("[]", &*offsets) };
        let (inputs, outputs) = (symbols(&link.inputs), symbols(&link.outputs));
        writeln!(self.out, "    aie.objectfifo.link [{inputs}] -> [{outputs}]({from} {to})")
    }

    fn function(&mut self, function: &Function) -> fmt::Result {
        let parameters = list(function.parameters.iter().map(|object| memref(*object)));
        writeln!(
            self.out,
            "    func.func private @{}({parameters}) attributes {{link_with = \"{}\"}}",
            function.name, function.file
        )
    }

    fn core(&mut self, core: &Core) -> fmt::Result {
        writeln!(self.out, "    aie.core({}) {{", name(core.tile))?;
        let mut counts = vec![0, 1];
        counted(&core.steps, &mut counts);
        counts.sort_unstable();
        counts.dedup();
        for count in counts {
            writeln!(self.out, "      %c{count} = arith.constant {count} : index")?;
        }
        let mut next = 0;
        self.steps(&core.steps, &mut Vec::new(), &mut next, 6)?;
        writeln!(self.out, "      aie.end")?;
        writeln!(self.out, "    }} {{stack_size = {} : i32}}", core.stack)
    }

    /// `held` has fifos with the values of their objects; `next` numbers values.
    fn steps(
        &mut self,
        steps: &[Step],
        held: &mut Vec<(String, String)>,
        next: &mut u32,
        indent: usize,
    ) -> fmt::Result {
        let value = |held: &[(String, String)], fifo: &str| {
            held.iter().rev().find(|(name, _)| name == fifo).map_or(String::new(), |(_, value)| value.clone())
        };
        for step in steps {
            write!(self.out, "{:indent$}", "")?;
            match step {
                Step::Repeat { times, steps } => {
                    *next += 1;
                    writeln!(self.out, "scf.for %i{next} = %c0 to %c{times} step %c1 {{")?;
                    self.steps(steps, held, next, indent + 2)?;
                    writeln!(self.out, "{:indent$}}}", "")?;
                }
                Step::Acquire(fifo) => {
                    *next += 1;
                    let of = self.design.fifo(fifo).map_or(String::new(), |fifo| memref(fifo.object));
                    let port = self.port(fifo);
                    let view = format!("!aie.objectfifosubview<{of}>");
                    writeln!(self.out, "%view{next} = aie.objectfifo.acquire @{fifo}({port}, 1) : {view}")?;
                    writeln!(
                        self.out,
                        "{:indent$}%object{next} = aie.objectfifo.subview.access %view{next}[0] : {view} -> {of}",
                        ""
                    )?;
                    held.push((fifo.clone(), format!("%object{next}")));
                }
                Step::Release(fifo) => {
                    let port = self.port(fifo);
                    writeln!(self.out, "aie.objectfifo.release @{fifo}({port}, 1)")?;
                }
                Step::Call { function, objects } => {
                    let values = list(objects.iter().map(|fifo| value(held, fifo)));
                    let parameters = self.design.function(function).map(|found| &*found.parameters);
                    let types = list(parameters.unwrap_or_default().iter().map(|object| memref(*object)));
                    writeln!(self.out, "func.call @{function}({values}) : ({types}) -> ()")?;
                }
            }
        }
        Ok(())
    }

    /// Of two ends of a fifo at most one is a core's.
    fn port(&self, fifo: &str) -> &'static str {
        let produces = self.design.fifo(fifo).is_some_and(|fifo| fifo.producer.kind() == Kind::Core);
        if produces { "Produce" } else { "Consume" }
    }

    fn sequence(&mut self) -> fmt::Result {
        let sequence = &self.design.sequence;
        let arguments = sequence.arguments.iter();
        let arguments = list(arguments.map(|of| format!("%{}: {}", of.name, memref(of.object))));
        writeln!(self.out, "    aie.runtime_sequence({arguments}) {{")?;
        for command in &sequence.commands {
            match command {
                Command::Copy(copy) => self.copy(copy)?,
                Command::Wait(fifo) => writeln!(self.out, "      aiex.npu.dma_wait {{symbol = @{fifo}}}")?,
            }
        }
        writeln!(self.out, "    }}")
    }

    fn copy(&mut self, copy: &Copy) -> fmt::Result {
        let argument = self.design.sequence.arguments.get(copy.argument);
        let (buffer, of) = argument.map_or((String::new(), String::new()), |argument| {
            (format!("%{}", argument.name), memref(argument.object))
        });
        let sizes = list(copy.dimensions.iter().map(|dimension| dimension.size));
        let strides = list(copy.dimensions.iter().map(|dimension| dimension.stride));
        let token = if copy.token { ", issue_token = true" } else { "" };
        writeln!(
            self.out,
            "      aiex.npu.dma_memcpy_nd({buffer}[0, 0, 0, {}][{sizes}][{strides}]) {{metadata = @{}, id = {} : i64{token}}} : {of}",
            copy.offset, copy.fifo, copy.descriptor
        )
    }
}

fn name(tile: Tile) -> String {
    format!("%tile_{}_{}", tile.column, tile.row)
}

fn memref(object: Object) -> String {
    let Object { count, element } = object;
    format!("memref<{count}x{}>", Element::name(element))
}

fn loops(dimensions: &[Dimension]) -> String {
    let each = dimensions.iter().map(|of| format!("<size = {}, stride = {}>", of.size, of.stride));
    format!("[{}]", list(each))
}

fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn counted(steps: &[Step], counts: &mut Vec<u64>) {
    for step in steps {
        if let Step::Repeat { times, steps } = step {
            counts.push(*times);
            counted(steps, counts);
        }
    }
}
