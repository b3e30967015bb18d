//! Synthetic weights: the shapes of the model and sane values.

mod checkpoint_support;

use checkpoint_support::{assert_same, tiny, tiny_for, values};
use gemma_hal::DType;
use gemma_matformer::{Config, synthetic};

#[test]
fn values_are_finite_random_and_the_same_for_a_seed() {
    for dtype in DType::ALL {
        let config = tiny_for(dtype);
        let weights = synthetic::weights(&config, dtype, 1).unwrap();
        assert_eq!(weights.embed.dtype(), dtype);
        weights.check_finite().unwrap();
        assert_same(&weights, &synthetic::weights(&config, dtype, 1).unwrap());
        let (up, gate) = (values(&weights.layers[0].up), values(&weights.layers[0].gate));
        let other = synthetic::weights(&config, dtype, 2).unwrap();
        assert!(up != gate && up != values(&other.layers[0].up), "{dtype}");
        // A product with a vector of ones is about one: each of n values has a magnitude near 1/sqrt(n).
        let mean_square = up.iter().map(|value| value * value).sum::<f32>() / up.len() as f32;
        let size = (mean_square * config.hidden as f32).sqrt();
        assert!((0.4..3.2).contains(&size), "{dtype}: {size}");
        let norm = values(&weights.norm);
        assert!(norm.iter().all(|value| (0.5..1.5).contains(value)), "{norm:?}");
    }
}

#[test]
fn filling_does_not_depend_on_how_rows_are_divided() {
    // Large enough that several threads fill the embedding.
    let config = Config { vocabulary: 20_000, ..tiny() };
    let many = synthetic::weights(&config, DType::BF16, 3).unwrap();
    let few = synthetic::weights(&tiny(), DType::BF16, 3).unwrap();
    assert_eq!(many.embed.rows_view(0, 48).unwrap().span(), few.embed.span());
    assert_ne!(many.embed.row(19_999), many.embed.row(19_998));
}

#[test]
fn a_config_that_cannot_be_is_refused() {
    let config = Config { kv_heads: 3, ..tiny() };
    assert_eq!(
        synthetic::weights(&config, DType::F16, 1).unwrap_err().to_string(),
        "synthetic: num_key_value_heads: 3 does not divide the 4 query heads; \
         copy the configuration again from where the weights came from"
    );
}
