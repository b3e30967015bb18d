//! Designs that are wrong in one way each, and what the check says of them.

use gemma_npu_kernels::array::Kind;
use gemma_npu_kernels::check;
use gemma_npu_kernels::design::{Command, Copy, Design, Dimension, Element, Fifo, Step, Tile};
use gemma_npu_kernels::gemm::{DESIGNS, Gemm};
use gemma_npu_kernels::kernels::{Product, Shape};

fn design() -> Design {
    Gemm::new(Product::I8, Shape::new(512, 256, 512)).design().unwrap()
}

/// What is wrong with the design when it is changed.
fn found(change: impl Fn(&mut Design)) -> String {
    let mut design = design();
    change(&mut design);
    let faults = check(&design).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn fifo(design: &mut Design, name: &str, change: impl Fn(&mut Fifo)) {
    change(design.fifos.iter_mut().find(|fifo| fifo.name == name).unwrap());
}

/// Changes a fifo's name everywhere but in programs of cores.
fn rename(design: &mut Design, from: &str, to: &str) {
    fifo(design, from, |fifo| fifo.name = to.into());
    let links = design.links.iter_mut().flat_map(|link| link.inputs.iter_mut().chain(&mut link.outputs));
    let commands = design.sequence.commands.iter_mut().map(|command| match command {
        Command::Copy(copy) => &mut copy.fifo,
        Command::Wait(fifo) => fifo,
    });
    for name in links.chain(commands).filter(|name| *name == from) {
        to.clone_into(name);
    }
}

fn copy(design: &mut Design, change: impl Fn(&mut Copy)) {
    let copy = design.sequence.commands.iter_mut().find_map(|command| match command {
        Command::Copy(copy) if copy.fifo == "b_to_memory_0" => Some(copy),
        _ => None,
    });
    change(copy.unwrap());
}

fn outer(design: &mut Design) -> (&mut u64, &mut Vec<Step>) {
    let Step::Repeat { times, steps } = &mut design.cores[0].steps[0] else { panic!("no loop") };
    (times, steps)
}

#[test]
fn designs_that_are_built_are_in_order() {
    for gemm in DESIGNS {
        let design = gemm.design().unwrap();
        check(&design).unwrap_or_else(|faults| panic!("{gemm:?}: {faults:?}"));
    }
}

#[test]
fn tiles_are_used_as_computed_by_hand() {
    let usage = check(&design()).unwrap();
    assert_eq!(usage.len(), 24);
    for of in usage {
        let found = (of.bytes, of.inputs, of.outputs, of.descriptors, of.locks);
        // Two objects each of 4 KiB of either factor and 16 KiB of sums, a counter of each fifo, and the stack; sums of four cores in a memory tile.
        let wanted = match of.tile.kind() {
            Kind::Shim => (0, 1, 2, 6, 0),
            Kind::Memory => (2 * (2 * 4096 + 4 * 16384), 6, 3, 24, 12),
            Kind::Core => (2 * (2 * 4096 + 16384) + 3 * 4 + 0xD00, 2, 1, 6, 6),
        };
        assert_eq!(found, wanted, "{}", of.tile);
    }
}

type Case = (fn(&mut Design), &'static str);

const STRUCTURE: [Case; 17] = [
    (|d| fifo(d, "b_to_cores_1", |f| f.name = "a_to_cores_1".into()), "is the name of two things"),
    (|d| fifo(d, "b_to_cores_1", |f| f.name = "b-1".into()), "is no name"),
    (|d| d.functions[0].name = "sequence".into(), "is the name of two things"),
    (|d| d.name = "../gemm".into(), "is no name of a file"),
    (|d| d.functions[0].file = "\"; x.o".into(), "is no name of an object file"),
    (|d| d.sequence.arguments[1].name = "a".into(), "is the name of two arguments"),
    (|d| fifo(d, "a_to_cores_0", |f| f.depth = 0), "has room for no object"),
    (|d| fifo(d, "a_to_cores_0", |f| f.object.count = 4097), "no positive number of words"),
    (|d| fifo(d, "a_to_cores_0", |f| f.object.count = u64::MAX), "no positive number of words"),
    (|d| fifo(d, "a_to_cores_0", |f| f.consumers.clear()), "ends nowhere"),
    (|d| fifo(d, "a_to_cores_0", |f| f.consumers[1].tile.column = 4), "there is no tile (4, 2)"),
    (|d| fifo(d, "a_to_cores_0", |f| f.consumers[1].tile.column = 0), "two of its ends"),
    (|d| fifo(d, "c_from_core_0_0", |f| f.consumers[0].tile = Tile::core(1, 0)), "is not modelled"),
    (|d| d.links[0].inputs[0] = "nothing".into(), "names a fifo that there is not"),
    (|d| fifo(d, "a_to_memory_0", |f| f.consumers[0].tile = Tile::memory(1)), "does not meet"),
    (|d| d.links.truncate(11), "is in 0 links at its memory tile"),
    (|d| d.links[8].offsets[2] = 4, "has offsets"),
];

const TRANSFERS: [Case; 9] = [
    (|d| fifo(d, "a_to_cores_0", |f| f.to_stream.push(Dimension { size: 1, stride: 1 })), "5 nested loops"),
    (|d| fifo(d, "a_to_cores_0", |f| f.to_stream[0].size = 15), "loops over Some(3840) elements"),
    (|d| fifo(d, "a_to_cores_0", |f| f.to_stream[0].stride = 512), "reaches element"),
    (
        |d| {
            fifo(d, "a_to_cores_0", |f| {
                f.to_stream = vec![Dimension { size: 1024, stride: 4 }, Dimension { size: 4, stride: 1 }];
            });
        },
        "a loop of 1024",
    ),
    (|d| fifo(d, "a_to_cores_0", |f| f.to_stream[3].stride = 2), "must be next to each other"),
    (
        |d| {
            fifo(d, "a_to_cores_0", |f| {
                f.to_stream = vec![Dimension { size: 64, stride: 63 }, Dimension { size: 64, stride: 1 }];
            });
        },
        "63 bytes are no whole words",
    ),
    (
        |d| {
            fifo(d, "a_to_cores_0", |f| {
                f.to_stream = vec![Dimension { size: 512, stride: 8 }, Dimension { size: 8, stride: 0 }];
            });
        },
        "a stride of 0",
    ),
    (
        |d| {
            // A core's steps have 13 bits, its counts 8.
            fifo(d, "a_to_cores_0", |f| {
                f.consumers[0].from_stream = vec![
                    Dimension { size: 2, stride: 2048 },
                    Dimension { size: 512, stride: 4 },
                    Dimension { size: 4, stride: 1 },
                ];
            });
        },
        "a loop of 512, at most 255",
    ),
    (
        |d| fifo(d, "a_to_memory_0", |f| f.to_stream = vec![Dimension { size: 4096, stride: 1 }]),
        "the sequence says in which order",
    ),
];

const PROGRAMS: [Case; 14] = [
    (|d| d.cores[0].tile = Tile::memory(0), "there is no core"),
    (|d| d.cores[1].tile = Tile::core(0, 0), "has two programs"),
    (|d| drop(d.cores.pop()), "tile (3, 5): runs nothing"),
    (|d| d.cores[0].stack = 100, "a stack of 100 bytes"),
    (|d| *outer(d).0 = 7, "a loop of 7 is no positive multiple"),
    (|d| *outer(d).0 = 0, "a loop of 0 is no positive multiple"),
    (|d| drop(outer(d).1.pop()), "holds other objects at its end"),
    (|d| outer(d).1.push(Step::Repeat { times: 1, steps: vec![] }), "never waits for anything"),
    (|d| outer(d).1.insert(0, Step::Acquire("c_from_core_0_0".into())), "acquires a second object"),
    (|d| outer(d).1.insert(0, Step::Acquire("c_from_core_1_0".into())), "which has no end there"),
    (|d| outer(d).1.insert(0, Step::Release("a_to_cores_0".into())), "which it does not hold"),
    (|d| d.functions[0].name = "other".into(), "calls zero_i32, which there is not"),
    (|d| d.functions[1].parameters.swap(0, 2), "other objects than it takes"),
    (|d| d.functions[0].file = "other.o".into(), "functions of several files"),
];

const SEQUENCES: [Case; 18] = [
    (|d| copy(d, |c| c.fifo = "nothing".into()), "there is no such fifo"),
    (|d| copy(d, |c| c.fifo = "a_to_cores_0".into()), "has no end in the shim"),
    (|d| copy(d, |c| c.argument = 3), "there is no argument 3"),
    (|d| copy(d, |c| c.argument = 2), "the fifo is not of i32"),
    (|d| copy(d, |c| c.descriptor = 16), "descriptor 16 of 16"),
    (|d| copy(d, |c| c.dimensions[0].size = 65), "is repeated 65 times, at most 64"),
    (|d| copy(d, |c| c.dimensions[1].stride = 0), "has a stride of 0"),
    (|d| copy(d, |c| c.dimensions[2].size = 1024), "a loop of 1024, at most 1023"),
    (|d| copy(d, |c| c.dimensions[3].size = 0), "moves nothing"),
    (|d| copy(d, |c| c.dimensions[3].size = 63), "63 bytes in a row are no whole words"),
    (|d| copy(d, |c| c.offset = 2), "begins at byte 2"),
    (|d| copy(d, |c| c.offset = 512 * 256 - 4), "reaches element"),
    (|d| copy(d, |c| c.dimensions[2].stride = 514), "steps of 514 bytes are no whole words"),
    (|d| copy(d, |c| c.dimensions[1].stride = 1 << 23), "steps of 2097152 words, at most 1048576"),
    (|d| drop(d.sequence.commands.pop()), "1 of 2 tokens are not waited for"),
    (|d| d.sequence.commands.insert(0, Command::Wait("c_to_shim_0".into())), "token that nobody gives"),
    (
        |d| {
            for name in ["x", "y", "z"] {
                let mut more = d.sequence.arguments[0].clone();
                more.name = name.into();
                d.sequence.arguments.push(more);
            }
        },
        "takes 6 buffers, at most 5",
    ),
    (
        |d| {
            for command in &mut d.sequence.commands {
                if let Command::Copy(copy) = command {
                    copy.token = copy.fifo != "c_to_shim_2";
                }
            }
        },
        "always gives a token",
    ),
];

const TILES: [Case; 4] = [
    (|d| d.cores[0].stack = 20000, "tile (0, 2): 69164 bytes of memory, at most 65536"),
    (
        |d| {
            for f in &mut d.fifos {
                f.depth = 8;
            }
        },
        "bytes of memory, at most 524288",
    ),
    (
        |d| {
            // Another way to the same cores.
            let mut more = d.fifo("a_to_cores_0").unwrap().clone();
            more.name = "more".into();
            more.producer = Tile::shim(3);
            more.to_stream.clear();
            d.fifos.push(more);
        },
        "3 channels from streams, at most 2",
    ),
    (
        |d| {
            for number in 0..17 {
                let Command::Copy(mut copy) = d.sequence.commands[1].clone() else { panic!("no copy") };
                copy.descriptor = number;
                d.sequence.commands.insert(1, Command::Copy(copy));
            }
        },
        "17 descriptors, at most 16",
    ),
];

#[test]
fn each_fault_is_found() {
    for (change, wanted) in
        STRUCTURE.iter().chain(&TRANSFERS).chain(&PROGRAMS).chain(&SEQUENCES).chain(&TILES)
    {
        let found = found(change);
        assert!(found.contains(wanted), "{found:?} has not {wanted:?}");
    }
}

/// A name for a fifo of one consumer (`b_to_memory_0`) or for a function, that `mlir-aie` would give to something else.
const GENERATED: [&str; 18] = [
    "main",
    "sequence",
    "_anonymous0",
    "_anonymous12",
    "core_0_2",
    "core_3_5",
    "a_to_memory_0_cons",
    "a_to_cores_0_0_cons",
    "a_to_cores_0_3_cons",
    "a_to_memory_0_shim_alloc",
    "c_to_shim_0_shim_alloc",
    "c_from_core_0_0_buff_1",
    "a_to_memory_0_cons_buff_0",
    "a_to_cores_0_1_cons_buff_1",
    "c_from_core_0_0_prod_lock_0",
    "c_from_core_0_0_cons_lock_0",
    "a_to_memory_0_cons_prod_lock_0",
    "a_to_cores_0_2_cons_cons_lock_3",
];

#[test]
fn names_that_the_compiler_generates_are_refused() {
    // What is said of the name of a fifo, or of a function.
    let named = |of_fifo: bool, name: &str| {
        let all = found(|design| {
            if of_fifo {
                rename(design, "b_to_memory_0", name);
            } else {
                name.clone_into(&mut design.functions[0].name);
            }
        });
        all.lines()
            .find(|line| line.contains("the name of two") || line.contains("a name that mlir-aie"))
            .map(str::to_owned)
    };
    for name in GENERATED {
        for fifo in [true, false] {
            let said = named(fifo, name).unwrap_or_default();
            assert!(said.starts_with(name), "{name}: {said:?}");
        }
    }
    // Like them, but of no fifo that there is, or with no number.
    for name in [
        "main_",
        "_anonymous",
        "_anonymousX",
        "core_0",
        "core_0_x",
        "other_cons",
        "a_to_memory_0_1_cons",
        "a_to_cores_0_cons",
        "a_to_cores_0_4_cons",
        "other_shim_alloc",
        "other_buff_0",
        "a_to_memory_0_buff_",
        "a_to_memory_0_lock_0",
        "_buff_0",
    ] {
        for fifo in [true, false] {
            assert_eq!(named(fifo, name), None, "{name}");
        }
    }
}

#[test]
fn ends_of_two_fifos_have_two_names() {
    // `a_to_cores_0` has four consumers, this one has one.
    let found = found(|design| rename(design, "b_to_memory_0", "a_to_cores_0_0"));
    assert!(found.starts_with("a_to_cores_0_0_cons: is the name of two things"), "{found}");
}

/// One number of a design, to set.
type Set = fn(&mut Design, u64);

const NUMBERS: [Set; 17] = [
    |d, n| d.fifos[1].depth = n as u32,
    |d, n| d.fifos.iter_mut().for_each(|f| f.depth = n as u32),
    |d, n| d.fifos[1].object.count = n,
    |d, n| d.fifos.iter_mut().for_each(|f| f.object.count = n),
    |d, n| d.fifos[1].to_stream[0].size = n,
    |d, n| d.fifos[1].to_stream[1].stride = n,
    |d, n| d.fifos[1].to_stream.iter_mut().for_each(|l| *l = Dimension { size: n, stride: n }),
    |d, n| d.fifos[1].producer.column = n as u8,
    |d, n| d.fifos[1].consumers[0].tile.row = n as u8,
    |d, n| d.links[8].offsets[1] = n,
    |d, n| d.cores[0].stack = n,
    |d, n| d.cores[3].tile.row = n as u8,
    |d, n| *outer(d).0 = n,
    |d, n| d.sequence.arguments[1].object.count = n,
    |d, n| copy(d, |c| c.offset = n),
    |d, n| copy(d, |c| c.dimensions = [Dimension { size: n, stride: n }; 4]),
    |d, n| {
        copy(d, |c| {
            c.argument = n as usize;
            c.descriptor = n as u32;
        });
    },
];

#[test]
fn no_number_is_too_large_to_be_refused() {
    for set in NUMBERS {
        for number in [u64::MAX, u64::MAX / 2, u64::MAX - 3, 1 << 32, u64::from(u32::MAX), 255] {
            let mut design = design();
            set(&mut design, number);
            // Some are fine; what counts is an answer.
            let _ = check(&design);
        }
    }
}

#[test]
fn sizes_that_the_array_cannot_divide_are_refused() {
    let tile = Product::I8.tile();
    for (shape, tile, wanted) in [
        (Shape::new(255, 128, 256), tile, "255 rows"),
        (Shape::new(256, 64, 256), tile, "64 steps of the depth"),
        (Shape::new(256, 128, 128), tile, "128 columns"),
        (Shape::new(0, 128, 256), tile, "0 rows"),
        (
            Shape::new(256, 128, 256 * 65),
            tile,
            "16640 columns: must be a positive multiple of 256, at most 16384",
        ),
        (Shape::new(1 << 40, 128, 256), tile, "1099511627776 rows"),
        (Shape::new(256, 128, 256), Shape::new(4, 64, 64), "4 rows of a tile"),
        (Shape::new(256, 128, 256), Shape::new(64, 12, 64), "12 steps of a tile's depth"),
        (Shape::new(256, 128, 256), Shape::new(64, 64, 8), "8 columns of a tile"),
    ] {
        let error = Gemm { product: Product::I8, shape, tile }.design().unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

#[test]
fn elements_have_their_sizes() {
    let sizes = [Element::I8, Element::Bf16, Element::I32, Element::F32].map(Element::bytes);
    assert_eq!(sizes, [1, 2, 4, 4]);
}
