//! GGUF files of our own return as they were written: models of both families, and slices.

mod checkpoint_support;

use checkpoint_support::{
    assert_same, gguf_bytes, layer_own, own, storage, tiny, tiny_for, tiny_weights, values,
};
use gemma_hal::DType;
use gemma_matformer::checkpoint::GgufVocabulary;
use gemma_matformer::{Checkpoint, Config, ModelFamily, Slice, Weights, synthetic};

fn open(bytes: &[u8]) -> Checkpoint {
    Checkpoint::from_gguf_storage(&storage(bytes)).unwrap()
}

#[test]
fn a_model_returns_as_it_was_written() {
    for dtype in DType::ALL {
        let config = tiny_for(dtype);
        let weights = synthetic::weights(&config, DType::F32, 7).unwrap();
        let bytes = gguf_bytes(&config, &weights, dtype, &[]);
        let checkpoint = open(&bytes);
        assert_eq!(checkpoint.config(), &config, "{dtype}");
        let back = checkpoint.weights().unwrap();
        assert_eq!((back.embed.dtype(), back.norm.dtype()), (dtype, DType::F32));
        assert_eq!(back.parameters(), weights.parameters());
        assert_eq!(values(&layer_own(&back, 1).prediction), values(&layer_own(&weights, 1).prediction));
        if dtype == DType::F32 {
            assert_same(&back, &weights);
        }
        // A stack is taken apart in order.
        let (written, read) = (&own(&weights).altup_projections[1], &own(&back).altup_projections[1]);
        let largest = values(written).iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        for (a, b) in values(written).iter().zip(values(read)) {
            assert!((a - b).abs() <= largest / 7.0, "{dtype}: {a} became {b}");
        }
        back.check_finite().unwrap();
    }
}

#[test]
fn gemma_3_returns_as_it_was_written() {
    let plain = Config {
        family: ModelFamily::Gemma3,
        sparsity: vec![0.0; 4],
        ple_width: 0,
        ple_vocabulary: 0,
        altup_streams: 1,
        laurel_rank: 0,
        shared_kv_layers: 0,
        query_scale: 0.25,
        softcap: None,
        ..tiny()
    };
    for config in [plain.clone(), Config { rope_stretch: 8.0, softcap: Some(20.0), ..plain }] {
        let weights = synthetic::weights(&config, DType::BF16, 3).unwrap();
        let checkpoint = open(&gguf_bytes(&config, &weights, DType::BF16, &[]));
        assert_eq!(checkpoint.config(), &config);
        assert_eq!(checkpoint.skipped(), []);
        assert_same(&checkpoint.weights().unwrap(), &weights);
    }
}

#[test]
fn matrices_whose_rows_end_inside_a_block_keep_their_type() {
    let config = Config { ple_width: 24, laurel_rank: 20, ..tiny() };
    let weights = synthetic::weights(&config, DType::BF16, 1).unwrap();
    let bytes = gguf_bytes(&config, &weights, DType::Q8_0, &[]);
    let checkpoint = open(&bytes);
    assert_eq!(checkpoint.config(), &config);
    let back = checkpoint.weights().unwrap();
    assert_eq!(layer_own(&back, 0).ple_out.dtype(), DType::BF16);
    assert_eq!(layer_own(&back, 0).ple_gate.dtype(), DType::Q8_0);
}

#[test]
fn a_slice_is_written_as_a_model_of_its_own() {
    let parent = tiny_weights(DType::BF16);
    let slice = Slice { skip_layers: vec![2], ffn_widths: vec![32, 96, 64] };
    let (config, sliced) = parent.slice(&tiny(), &slice).unwrap();
    for dtype in [DType::BF16, DType::F32] {
        let bytes = gguf_bytes(&config, &sliced, dtype, &[]);
        let checkpoint = open(&bytes);
        assert_eq!(checkpoint.config(), &config);
        let back: Weights = checkpoint.weights().unwrap();
        assert_eq!(own(&back).ple_blocks, [0, 1, 2]);
        assert_eq!(values(&back.layers[2].down), values(&sliced.layers[2].down));
        // The dropped layer's rows of the projection are gone.
        let (whole, left) = (values(&own(&parent).ple_projection), values(&own(&back).ple_projection));
        let block = config.ple_width * config.hidden;
        assert_eq!(left[2 * block..], whole[3 * block..]);
        assert_eq!((own(&back).ple_table.rows(), own(&back).ple_table.columns()), (40, 96));
    }
}

#[test]
fn a_vocabulary_has_as_many_tokens_as_the_embedding_has_rows() {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = GgufVocabulary {
        tokens: texts(&["a", "b", "ab", "c", "bc"]),
        scores: vec![-3.0, -4.0, 0.0, -5.0, -1.0],
        token_types: vec![1; 5],
        merges: texts(&["a b", "b c"]),
        ..GgufVocabulary::default()
    };
    let longer = found.clone().fitted(7);
    assert_eq!(longer.tokens, texts(&["a", "b", "ab", "c", "bc", "[PAD5]", "[PAD6]"]));
    assert_eq!((longer.scores.len(), &longer.token_types[5..]), (7, &[5, 5][..]));
    assert_eq!(longer.merges, found.merges);
    let shorter = found.clone().fitted(3);
    assert_eq!(shorter.tokens, texts(&["a", "b", "ab"]));
    assert_eq!((shorter.scores.len(), shorter.token_types.len()), (3, 3));
    assert_eq!(shorter.merges, texts(&["a b"]));
    assert_eq!(found.clone().fitted(5), found);
    let none = GgufVocabulary::default();
    assert_eq!(none.clone().fitted(5), none);
}
