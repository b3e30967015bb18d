//! The order in which the ends of a fifo take elements, over a design of one core that copies.

use gemma_npu_kernels::design::{
    Argument, Command, Consumer, Copy, Core, Design, Dimension, Element, Fifo, Function, Link, Object,
    Sequence, Step, Tile,
};
use gemma_npu_kernels::simulate::{Kernels, Simulator};

/// Rows and columns of the matrix that goes through.
const ROWS: u64 = 6;
const COLUMNS: u64 = 4;

struct CopyKernel;

impl Kernels for CopyKernel {
    fn call(&mut self, _: &str, objects: &mut [Vec<u8>]) -> Result<(), String> {
        let [from, to] = objects else { return Err("two objects".to_owned()) };
        to.copy_from_slice(from);
        Ok(())
    }
}

fn d(size: u64, stride: u64) -> Dimension {
    Dimension { size, stride }
}

/// The machine's memory, a memory tile in halves, a core, and back.
fn design(to_core: Vec<Dimension>, at_core: Vec<Dimension>, from_core: Vec<Dimension>) -> Design {
    let all = Object { count: ROWS * COLUMNS, element: Element::I32 };
    let half = Object { count: all.count / 2, ..all };
    let end = |tile, from_stream| vec![Consumer { tile, from_stream }];
    let fifo = |name: &str, producer, to_stream, consumers, object| Fifo {
        name: name.to_owned(),
        producer,
        to_stream,
        consumers,
        depth: 2,
        object,
    };
    let (shim, memory, core) = (Tile::shim(1), Tile::memory(1), Tile::core(1, 0));
    let copy = |fifo: &str, argument, descriptor, token| {
        let dimensions = [d(1, 0), d(1, 0), d(1, 0), d(all.count, 1)];
        Command::Copy(Copy { fifo: fifo.to_owned(), argument, offset: 0, dimensions, descriptor, token })
    };
    let argument = |name: &str| Argument { name: name.to_owned(), object: all };
    let steps = ["in", "out"].map(|name| Step::Acquire(name.to_owned())).into_iter();
    let objects = vec!["in".to_owned(), "out".to_owned()];
    let steps = steps.chain([Step::Call { function: "copy".to_owned(), objects }]);
    let steps = steps.chain(["in", "out"].map(|name| Step::Release(name.to_owned()))).collect();
    Design {
        name: "orders".to_owned(),
        fifos: vec![
            fifo("from", shim, vec![], end(memory, vec![]), all),
            fifo("in", memory, to_core, end(core, at_core), half),
            fifo("rest", memory, vec![], end(Tile::core(2, 0), vec![]), half),
            fifo("out", core, from_core, end(shim, vec![]), half),
            fifo("out_2", Tile::core(2, 0), vec![], end(shim, vec![]), half),
        ],
        links: vec![Link {
            inputs: vec!["from".to_owned()],
            outputs: vec!["in".to_owned(), "rest".to_owned()],
            offsets: vec![0, half.count],
        }],
        functions: vec![Function {
            name: "copy".to_owned(),
            parameters: vec![half, half],
            file: "copy.o".to_owned(),
        }],
        cores: vec![
            Core { tile: core, stack: 1024, steps: vec![Step::Repeat { times: 1 << 20, steps }] },
            Core {
                tile: Tile::core(2, 0),
                stack: 1024,
                steps: vec![Step::Repeat {
                    times: 1 << 20,
                    steps: vec![
                        Step::Acquire("rest".to_owned()),
                        Step::Acquire("out_2".to_owned()),
                        Step::Call {
                            function: "copy".to_owned(),
                            objects: vec!["rest".to_owned(), "out_2".to_owned()],
                        },
                        Step::Release("out_2".to_owned()),
                        Step::Release("rest".to_owned()),
                    ],
                }],
            },
        ],
        sequence: Sequence {
            arguments: vec![argument("a"), argument("b")],
            commands: vec![
                copy("from", 0, 0, false),
                half_copy("out", 0, 1, half.count),
                half_copy("out_2", half.count, 2, half.count),
                Command::Wait("out".to_owned()),
                Command::Wait("out_2".to_owned()),
            ],
        },
    }
}

fn half_copy(fifo: &str, offset: u64, descriptor: u32, count: u64) -> Command {
    let dimensions = [d(1, 0), d(1, 0), d(1, 0), d(count, 1)];
    Command::Copy(Copy { fifo: fifo.to_owned(), argument: 1, offset, dimensions, descriptor, token: true })
}

#[test]
fn elements_go_where_each_end_says() {
    // Of a half, 3 rows of 4.
    let turned = || vec![d(4, 1), d(3, 4)];
    let back = || vec![d(3, 1), d(4, 3)];
    let straight: Vec<u32> = (0..12).collect();
    let columns: Vec<u32> = vec![0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11];
    let scattered: Vec<u32> = vec![0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11];
    for (to_core, at_core, from_core, wanted) in [
        (vec![], vec![], vec![], &straight),
        (turned(), vec![], vec![], &columns),
        (vec![], vec![], turned(), &columns),
        // What is laid down by columns of 3 rows is read by rows of 3.
        (vec![], turned(), vec![], &scattered),
        (turned(), turned(), vec![], &straight),
        (turned(), vec![], back(), &straight),
    ] {
        let design = design(to_core, at_core, from_core);
        let mut simulator = Simulator::new(&design, CopyKernel, 3).unwrap();
        let numbers = (0..24_u32).flat_map(u32::to_le_bytes).collect();
        let mut arguments = vec![numbers, vec![0; 96]];
        simulator.run(&mut arguments).unwrap();
        let found: Vec<u32> =
            arguments[1].chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(&found[..12], wanted);
        assert_eq!(found[12..], (12..24).collect::<Vec<u32>>());
    }
}
