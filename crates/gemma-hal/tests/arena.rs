//! The arena of random plans: nothing that is still needed is overwritten, and memory is shared.
//!
//! A run is played on the arena with marks instead of numbers, which knows nothing of how lifetimes are found.

use gemma_hal::op::{Access, LinearPart, Op};
use gemma_hal::{
    Arena, BufferId, CacheLayout, DType, Outputs, Plan, PlanBuilder, Rows, Step, Storage, Weight, WeightId,
};
use proptest::prelude::*;

/// Values to whose multiple the arena may round a buffer.
const ALIGNMENT: usize = 16;

/// One operation of a random plan.
#[derive(Clone, Debug)]
struct Link {
    /// Which of the buffers written so far is read: 0 is the latest.
    back: usize,
    /// Widths of the products.
    widths: Vec<usize>,
    /// Whether only the outputs' rows go on from here.
    select: bool,
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    let width = prop_oneof![1..40_usize, 200..400_usize];
    let link = (
        prop_oneof![3 => Just(0), 1 => 0..12_usize],
        prop::collection::vec(width, 1..4),
        prop::bool::weighted(0.05),
    );
    prop::collection::vec(link.prop_map(|(back, widths, select)| Link { back, widths, select }), 1..40)
}

struct Chain {
    plan: PlanBuilder,
    /// Zeros, enough for the largest weight.
    storage: Storage,
}

impl Chain {
    fn weight(&mut self, rows: usize, columns: usize) -> WeightId {
        let weight = Weight::new(self.storage.clone(), 0, rows, columns, DType::F32).unwrap();
        self.plan.weight("weight", weight)
    }
}

/// With every token's outputs the plan gives back any buffer, `back` before the latest; otherwise one made last.
fn plan(links: &[Link], max_tokens: usize, outputs: Outputs, back: usize) -> Plan {
    let cache = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
    let mut chain = Chain {
        plan: PlanBuilder::new("chain", max_tokens, outputs, 1e-6, cache),
        storage: Storage::new("zeros", vec![0_u8; 400 * 400 * 4]),
    };
    let mut rows = Rows::Tokens;
    let first = chain.plan.buffer("first", rows, 24);
    let table = chain.weight(8, 24);
    chain.plan.push(None, Op::Embed { table, scale: 1.0, output: first });
    let mut written: Vec<(BufferId, usize)> = vec![(first, 24)];
    for (index, link) in links.iter().enumerate() {
        let (input, width) = written[written.len() - 1 - link.back % written.len()];
        if link.select && rows == Rows::Tokens {
            rows = Rows::Outputs;
            let output = chain.plan.buffer(format!("selected {index}"), rows, width);
            chain.plan.push(None, Op::SelectOutputs { input, output });
            written = vec![(output, width)];
            continue;
        }
        let mut parts = Vec::new();
        for part in &link.widths {
            let output = chain.plan.buffer(format!("{index}"), rows, *part);
            parts.push(LinearPart { weight: chain.weight(*part, width), output });
            written.push((output, *part));
        }
        chain.plan.push(None, Op::Linear { input, parts });
    }
    // A buffer that nobody touches.
    chain.plan.buffer("untouched", Rows::Tokens, 50);
    if outputs == Outputs::All {
        let (output, _) = written[written.len() - 1 - back % written.len()];
        return chain.plan.finish(Some(output)).unwrap();
    }
    let (last, width) = *written.last().unwrap();
    let output = chain.plan.buffer("output", Rows::Outputs, width);
    if rows == Rows::Outputs {
        let parts = vec![LinearPart { weight: chain.weight(width, width), output }];
        chain.plan.push(None, Op::Linear { input: last, parts });
    } else {
        chain.plan.push(None, Op::SelectOutputs { input: last, output });
    }
    chain.plan.finish(Some(output)).unwrap()
}

fn size(plan: &Plan, id: BufferId) -> usize {
    let buffer = plan.buffer(id);
    plan.row_count(buffer.rows, plan.max_tokens()) * buffer.width
}

/// Runs `plan` on its arena with the buffer's number in place of every value.
fn play(plan: &Plan) -> Result<(), String> {
    let mut memory = vec![None; plan.arena().len()];
    let whole = |memory: &[Option<BufferId>], id: BufferId, when: &str| {
        let place = plan.arena().place(id);
        let intact = place.len() == size(plan, id) && memory[place].iter().all(|mark| *mark == Some(id));
        if intact { Ok(()) } else { Err(format!("{}: buffer {} is damaged", when, id.index())) }
    };
    for (index, step) in plan.steps().iter().enumerate() {
        let mut touched = Vec::new();
        step.op.buffers(&mut |id, access| touched.push((id, access)));
        for (id, access) in &touched {
            if *access != Access::Read {
                memory[plan.arena().place(*id)].fill(Some(*id));
            }
        }
        // Now all that the operation touches must be there at once.
        for (id, _) in &touched {
            whole(&memory, *id, &format!("step {index}"))?;
        }
    }
    plan.output().map_or(Ok(()), |id| whole(&memory, id, "the end"))
}

proptest! {
    #[test]
    fn nothing_that_is_needed_is_overwritten(
        links in links(),
        max_tokens in 1..20_usize,
        all in any::<bool>(),
        back in 0..60_usize,
    ) {
        let plan = plan(&links, max_tokens, if all { Outputs::All } else { Outputs::Last }, back);
        prop_assert_eq!(play(&plan), Ok(()));
        for index in 0..plan.buffers().len() {
            let place = plan.arena().place_at(index);
            prop_assert!(place.start.is_multiple_of(ALIGNMENT) && place.end <= plan.arena().len());
        }
    }

    #[test]
    fn an_arena_is_never_larger_than_its_buffers(links in links(), max_tokens in 1..20_usize) {
        let plan = plan(&links, max_tokens, Outputs::Last, 0);
        let rounded = |index| -> usize {
            plan.arena().place_at(index).len().next_multiple_of(ALIGNMENT)
        };
        let sum: usize = (0..plan.buffers().len()).map(rounded).sum();
        prop_assert!(plan.arena().len() <= sum, "{} of {}", plan.arena().len(), sum);
        prop_assert_eq!(plan.arena().bytes(), plan.arena().len() as u64 * 4);
    }
}

proptest! {
    #[test]
    fn what_a_step_touches_outlives_it_by_as_many_steps_as_wanted(
        links in links(),
        max_tokens in 1..20_usize,
        longer in 0..4_usize,
    ) {
        let plan = plan(&links, max_tokens, Outputs::Last, 0);
        let arena = Arena::lasting(&plan, longer);
        let touched = |step: &Step| {
            let mut all = Vec::new();
            step.op.buffers(&mut |id, _| all.push(id));
            all
        };
        for (index, step) in plan.steps().iter().enumerate() {
            let together = plan.steps()[index..].iter().take(longer + 1).flat_map(touched);
            for (a, b) in together.flat_map(|b| touched(step).into_iter().map(move |a| (a, b))) {
                let (here, there) = (arena.place(a), arena.place(b));
                prop_assert!(a == b || here.end <= there.start || there.end <= here.start, "step {}", index);
            }
        }
    }
}

#[test]
fn a_chain_needs_room_for_two_links() {
    let link = Link { back: 0, widths: vec![24], select: false };
    let plan = plan(&vec![link; 50], 4, Outputs::All, 0);
    assert_eq!(plan.arena().len(), 2 * 4 * 24);
}

#[test]
fn a_buffer_that_is_read_late_keeps_its_place() {
    let link = |back| Link { back, widths: vec![24], select: false };
    let plan = plan(&[link(0), link(0), link(0), link(3)], 4, Outputs::All, 0);
    assert_eq!(play(&plan), Ok(()));
    assert_eq!(plan.arena().len(), 3 * 4 * 24);
}

#[test]
fn a_plan_without_activations_has_no_arena() {
    let cache = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
    let plan = PlanBuilder::new("empty", 1, Outputs::None, 1e-6, cache).finish(None).unwrap();
    assert!(plan.arena().is_empty());
    assert_eq!(plan.arena().bytes(), 0);
}
