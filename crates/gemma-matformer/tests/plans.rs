//! Plans of the published models: their operations, bytes, arena, and what a prefill leaves out.
//!
//! Weights are views of one shared mapping that nobody reads, so that E4B takes no memory.

use std::collections::BTreeMap;

use gemma_hal::{BufferId, DType, Op, Outputs, Plan, Step, Storage, Weight};
use gemma_matformer::plan::{PlanOptions, build};
use gemma_matformer::{Config, KvWeights, LayerWeights, Slice, Weights};
use memmap2::MmapOptions;

/// Weights of `config` with matrices in `dtype`, all of them the same zeros.
fn untouched(config: &Config, dtype: DType) -> Weights {
    let (d, p) = (config.hidden, config.ple_width);
    let blocks = config.layers() * p;
    let largest = (config.ple_vocabulary * blocks).max(config.vocabulary * d) * 4;
    let map = MmapOptions::new().len(largest).no_reserve_swap().map_anon().unwrap();
    let storage = Storage::new("zeros", map.make_read_only().unwrap());
    let view = |rows, columns, dtype| Weight::new(storage.clone(), 0, rows, columns, dtype).unwrap();
    let matrix = |rows, columns| view(rows, columns, dtype);
    let small = |rows, columns| view(rows, columns, DType::F32);
    let streams = config.altup_streams;
    let layer = |layer: usize| LayerWeights {
        router: matrix(streams, d),
        router_norm: small(1, d),
        prediction: small(streams * streams, streams),
        correction: small(streams, streams),
        correct_scale: small(1, d),
        input_norm: small(1, d),
        laurel_left: matrix(config.laurel_rank, d),
        laurel_right: matrix(d, config.laurel_rank),
        laurel_norm: small(1, d),
        q: matrix(config.query_width(), d),
        q_norm: small(1, config.head_dim),
        kv: config.owns_kv(layer).then(|| KvWeights {
            k: matrix(config.kv_width(), d),
            k_norm: small(1, config.head_dim),
            v: matrix(config.kv_width(), d),
        }),
        unused_kv: None,
        o: matrix(d, config.query_width()),
        post_attention_norm: small(1, d),
        pre_ffn_norm: small(1, d),
        gate: matrix(config.ffn_widths[layer], d),
        up: matrix(config.ffn_widths[layer], d),
        down: matrix(d, config.ffn_widths[layer]),
        post_ffn_norm: small(1, d),
        ple_gate: matrix(p, d),
        ple_out: matrix(d, p),
        post_ple_norm: small(1, d),
    };
    Weights {
        embed: matrix(config.vocabulary, d),
        ple_table: matrix(config.ple_vocabulary, blocks),
        ple_projection: matrix(blocks, d),
        ple_norm: small(1, p),
        altup_projections: (1..streams).map(|_| matrix(d, d)).collect(),
        altup_unembed: (1..streams).map(|_| matrix(d, d)).collect(),
        norm: small(1, d),
        layers: (0..config.layers()).map(layer).collect(),
        ple_blocks: (0..config.layers()).collect(),
    }
}

fn plan_of(config: &Config, weights: &Weights, max_tokens: usize, outputs: Outputs) -> Plan {
    let options = PlanOptions { name: "test".to_owned(), max_tokens, outputs, cache_dtype: DType::F16 };
    build(config, weights, &options).unwrap()
}

fn plan(config: &Config, dtype: DType, max_tokens: usize, outputs: Outputs) -> Plan {
    plan_of(config, &untouched(config, dtype), max_tokens, outputs)
}

fn published() -> [(&'static str, Config); 2] {
    [("e2b", Config::e2b()), ("e4b", Config::e4b())]
}

/// Operations of `tokens` tokens in the steps of these names.
fn flops(plan: &Plan, names: &[&str], tokens: usize) -> u64 {
    let steps = plan.steps().iter().filter(|step| names.contains(&step.op.name()));
    steps.map(|step| plan.op_cost(&step.op, tokens, 0).flops).sum()
}

#[test]
fn a_decode_step_has_ten_operations_a_layer_and_five_around() {
    for ((name, config), steps) in published().into_iter().zip([305, 355]) {
        let layers = config.layers();
        let plan = plan(&config, DType::Q4_0, 1, Outputs::Last);
        let mut counts = BTreeMap::new();
        plan.steps().iter().for_each(|step| *counts.entry(step.op.name()).or_default() += 1);
        let expected = BTreeMap::from([
            ("embed", 1),
            ("per_layer_embed", 1),
            ("altup_init", 1),
            ("altup_predict", layers),
            // All products of the layer's input; attention's output; the right LAuReL product.
            ("linear", 3 * layers),
            ("rotary", layers),
            ("attention", layers),
            ("attention_residual", layers),
            ("feed_forward", layers),
            ("altup_correct", layers),
            ("per_layer_input", layers),
            ("altup_merge", 1),
            ("unembed", 1),
        ]);
        assert_eq!(counts, expected, "{name}");
        assert_eq!(plan.steps().len(), steps, "{name}");
    }
}

#[test]
fn a_token_reads_every_weight_once_and_one_row_of_the_tables() {
    for (name, config) in published() {
        let weights = untouched(&config, DType::Q4_0);
        let mut bytes = 0;
        weights.for_each(&mut |_, weight| bytes += weight.bytes());
        bytes -= weights.ple_table.bytes();
        bytes += (weights.ple_table.row_bytes() + weights.embed.row_bytes()) as u64;
        // The router is asked twice a layer: to predict and to correct.
        let routers = weights.layers.iter().map(|layer| layer.router.bytes() + layer.router_norm.bytes());
        bytes += routers.sum::<u64>();
        let plan = plan_of(&config, &weights, 1, Outputs::Last);
        assert_eq!(plan.cost(1, 0).weight_bytes, bytes, "{name}");
    }
}

#[test]
fn a_token_of_e2b_in_q4_0_moves_the_bytes_that_decoding_is_bound_by() {
    let plan = plan(&Config::e2b(), DType::Q4_0, 1, Outputs::Last);
    let cost = plan.cost(1, 0);
    assert!((1_360_000_000..1_450_000_000).contains(&cost.weight_bytes), "{}", cost.weight_bytes);
    // 20 layers write and 30 read keys and values of 512 halves.
    assert_eq!(cost.cache_bytes, (20 + 30) * 2 * 512 * 2);
    // At position 2000: 24 layers see 512 positions and 6 see all 2001.
    assert_eq!(plan.cost(1, 2000).cache_bytes, (20 + 24 * 512 + 6 * 2001) * 2 * 512 * 2);
}

#[test]
fn a_prefill_leaves_out_what_no_later_token_reads() {
    const PRODUCTS: &[&str] = &["per_layer_embed", "altup_init", "linear", "feed_forward", "per_layer_input"];
    const TOKENS: usize = 128;
    for ((name, config), expected_share) in published().into_iter().zip([0.353, 0.449]) {
        let weights = untouched(&config, DType::Q4_0);
        let of = |outputs| flops(&plan_of(&config, &weights, TOKENS, outputs), PRODUCTS, TOKENS);
        let (all, last, none) = (of(Outputs::All), of(Outputs::Last), of(Outputs::None));
        // Of a sharing layer all products are left out; of the last owner all but keys and values.
        let (d, ffn) = (config.hidden, config.ffn_widths[0]);
        let values = 2 * d * (config.query_width() + config.laurel_rank + config.ple_width) + 3 * d * ffn;
        // The per-layer input's cost counts its norm and scale as well.
        let layer = 2 * (values + 2 * d) as u64;
        let left_out = layer * (config.shared_kv_layers + 1) as u64;
        assert_eq!(all - none, left_out * TOKENS as u64, "{name}");
        assert_eq!(last - none, left_out, "{name}: the last token runs through");
        let share = (all - none) as f64 / all as f64;
        assert!((share - expected_share).abs() < 5e-4, "{name}: {share}");
    }
}

#[test]
fn sharing_layers_read_the_last_owner_of_their_kind_and_write_nothing() {
    for (name, config) in published() {
        let plan = plan(&config, DType::Q4_0, 1, Outputs::Last);
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for step in plan.steps() {
            match step.op {
                Op::Attention { cache_layer, .. } => read.push(cache_layer),
                Op::Rotary { cache_layer, key_value: Some(_), .. } => written.push(cache_layer),
                _ => {}
            }
        }
        let sharing = (20..config.layers()).map(|layer| if (layer + 1).is_multiple_of(5) { 19 } else { 18 });
        assert_eq!(read, (0..20).chain(sharing).collect::<Vec<_>>(), "{name}");
        assert_eq!(written, (0..20).collect::<Vec<_>>(), "{name}");
        let windows: Vec<_> = plan.cache().layers.iter().map(|layer| layer.window).collect();
        assert_eq!(windows, [Some(512), Some(512), Some(512), Some(512), None].repeat(4), "{name}");
        assert!(plan.cache().layers.iter().all(|layer| layer.width == 512), "{name}");
    }
}

#[test]
fn e2b_taken_from_e4b_is_e2b_s_own_plan() {
    let e4b = Config::e4b();
    let parent = untouched(&e4b, DType::Q4_0);
    let (config, sliced) = parent.slice(&e4b, &Slice::named("e2b").unwrap()).unwrap();
    let own = untouched(&Config::e2b(), DType::Q4_0);
    for (max_tokens, outputs) in
        [(1, Outputs::Last), (64, Outputs::Last), (64, Outputs::All), (64, Outputs::None)]
    {
        let what = format!("{max_tokens} tokens, {outputs:?}");
        let sliced = plan_of(&config, &sliced, max_tokens, outputs);
        let own = plan_of(&Config::e2b(), &own, max_tokens, outputs);
        assert_eq!(sliced.steps().len(), own.steps().len(), "{what}");
        for (sliced, own) in sliced.steps().iter().zip(own.steps()) {
            assert_eq!(with_own_blocks(sliced), *own, "{what}");
        }
        assert_eq!(sliced.buffers(), own.buffers(), "{what}");
        assert_eq!(sliced.cache(), own.cache(), "{what}");
        assert_eq!(sliced.arena(), own.arena(), "{what}");
        for start in [0, 700] {
            assert_eq!(sliced.cost(max_tokens, start), own.cost(max_tokens, start), "{what} at {start}");
        }
    }
}

/// `step` of a slice of E4B, with the blocks of per-layer embeddings counted as E2B does.
fn with_own_blocks(step: &Step) -> Step {
    let mut step = step.clone();
    if let Op::PerLayerEmbed { blocks, .. } = &mut step.op {
        assert_eq!(*blocks, (0..20).chain(25..35).collect::<Vec<u16>>());
        *blocks = (0..30).collect();
    }
    step
}

#[test]
fn arenas_are_little_larger_than_what_lives_at_once() {
    for (name, config) in published() {
        let weights = untouched(&config, DType::Q4_0);
        for (max_tokens, outputs) in
            [(1, Outputs::Last), (128, Outputs::Last), (128, Outputs::All), (128, Outputs::None)]
        {
            let plan = plan_of(&config, &weights, max_tokens, outputs);
            let (arena, alive) = (plan.arena().len(), most_alive(&plan));
            let what = format!("{name}, {max_tokens} tokens, {outputs:?}: {arena} values for {alive}");
            assert!(arena >= alive && arena as f64 <= 1.1 * alive as f64, "{what}");
        }
    }
}

/// The most values that are needed at one step: written before and read at it or after it.
fn most_alive(plan: &Plan) -> usize {
    let mut spans: BTreeMap<BufferId, (usize, usize)> = BTreeMap::new();
    for (index, step) in plan.steps().iter().enumerate() {
        step.op.buffers(&mut |id, _| spans.entry(id).or_insert((index, index)).1 = index);
    }
    let size = |id: &BufferId| {
        let buffer = plan.buffer(*id);
        plan.row_count(buffer.rows, plan.max_tokens()) * buffer.width
    };
    let alive = |step: usize| -> usize {
        spans
            .iter()
            .filter(|(_, (first, last))| (*first..=*last).contains(&step))
            .map(|(id, _)| size(id))
            .sum()
    };
    (0..plan.steps().len()).map(alive).max().unwrap_or(0)
}
