//! The rows of the checklist on sampling, the filters against their definitions, and draws against expectation.

use std::collections::BTreeMap;

use gemma_text::{Mirostat, Sampled, Sampler, SamplerConfig, SamplingError};
use proptest::prelude::*;

const LOGITS: [f32; 6] = [1.0, 3.0, 2.0, 3.0, -1.0, 0.5];

fn sampler(config: SamplerConfig) -> Sampler {
    Sampler::new(config, LOGITS.len()).unwrap()
}

fn draws(config: SamplerConfig, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(config, logits.len()).unwrap();
    (0..count).map(|_| sampler.sample(logits, &[]).unwrap().token).collect()
}

/// Tokens that are ever drawn, in order.
fn support(config: SamplerConfig, logits: &[f32]) -> Vec<u32> {
    let mut drawn = draws(config, logits, 3000);
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

fn refused(config: &SamplerConfig) -> (&'static str, String) {
    let error = config.validate(LOGITS.len()).unwrap_err();
    match error {
        SamplingError::OutOfRange { field, .. } => (field, error.to_string()),
        other => panic!("{other}"),
    }
}

#[test]
fn temperature_zero_is_greedy_and_takes_the_lowest_of_equals() {
    let config = SamplerConfig { temperature: 0.0, top_p: 0.1, ..SamplerConfig::default() };
    assert_eq!(draws(config, &LOGITS, 50), [1; 50]);
}

#[test]
fn temperature_1e_30_is_finite_and_draws_among_the_best() {
    for temperature in [1e-30, f32::MIN_POSITIVE, 1e-45] {
        let config = SamplerConfig { temperature, logprobs: Some(2), ..SamplerConfig::default() };
        assert_eq!(support(config.clone(), &LOGITS), [1, 3]);
        let drawn = sampler(config).sample(&LOGITS, &[]).unwrap();
        assert!(drawn.logprob.unwrap().is_finite());
    }
}

#[test]
fn parameters_out_of_range_are_named_with_their_range() {
    type Change = fn(&mut SamplerConfig);
    let cases: [(&str, &str, Change); 22] = [
        ("temperature", "0 to 100", |c| c.temperature = -0.1),
        ("temperature", "0 to 100", |c| c.temperature = f32::NAN),
        ("temperature", "0 to 100", |c| c.temperature = f32::INFINITY),
        ("top_p", "above 0 and at most 1", |c| c.top_p = 0.0),
        ("top_p", "above 0 and at most 1", |c| c.top_p = 1.01),
        ("top_p", "above 0 and at most 1", |c| c.top_p = f32::NAN),
        ("min_p", "0 to 1", |c| c.min_p = -0.1),
        ("min_p", "0 to 1", |c| c.min_p = 1.1),
        ("min_p", "0 to 1", |c| c.min_p = f32::NAN),
        ("typical_p", "above 0 and at most 1", |c| c.typical_p = 0.0),
        ("typical_p", "above 0 and at most 1", |c| c.typical_p = f32::NAN),
        ("repetition_penalty", "above 0 and at most 100", |c| c.repetition_penalty = 0.0),
        ("repetition_penalty", "above 0 and at most 100", |c| c.repetition_penalty = f32::NAN),
        ("frequency_penalty", "-100 to 100", |c| c.frequency_penalty = f32::NEG_INFINITY),
        ("presence_penalty", "-100 to 100", |c| c.presence_penalty = 101.0),
        ("mirostat.tau", "above 0 and at most 100", |c| c.mirostat = Some(Mirostat { tau: 0.0, eta: 0.1 })),
        ("mirostat.tau", "above 0 and at most 100", |c| {
            c.mirostat = Some(Mirostat { tau: f32::NAN, eta: 0.1 });
        }),
        ("mirostat.eta", "above 0 and at most 1", |c| c.mirostat = Some(Mirostat { tau: 5.0, eta: 2.0 })),
        ("logit_bias", "a number or -infinity", |c| c.logit_bias = BTreeMap::from([(0, f32::NAN)])),
        ("logit_bias", "a number or -infinity", |c| c.logit_bias = BTreeMap::from([(0, f32::INFINITY)])),
        ("logprobs", "at most 100", |c| c.logprobs = Some(101)),
        ("presence_penalty", "-100 to 100", |c| c.presence_penalty = f32::NAN),
    ];
    for (field, range, change) in cases {
        let mut config = SamplerConfig::default();
        change(&mut config);
        let (found, message) = refused(&config);
        assert_eq!(found, field);
        assert!(message.contains(range) && message.contains(field), "{message}");
    }
}

#[test]
fn top_k_zero_or_beyond_the_vocabulary_keeps_all() {
    for top_k in [0, 6, 7, usize::MAX] {
        let config = SamplerConfig { top_k, temperature: 3.0, ..SamplerConfig::default() };
        assert_eq!(support(config, &LOGITS), [0, 1, 2, 3, 4, 5], "{top_k}");
    }
}

#[test]
fn top_k_keeps_the_best() {
    for (top_k, kept) in [(1, vec![1]), (2, vec![1, 3]), (3, vec![1, 2, 3])] {
        let config = SamplerConfig { top_k, temperature: 50.0, ..SamplerConfig::default() };
        assert_eq!(support(config, &LOGITS), kept);
    }
}

#[test]
fn top_k_by_scan_and_by_selection_agree() {
    let logits: Vec<f32> = (0..2000_u32).map(|id| (id.wrapping_mul(2_654_435_761) % 97) as f32).collect();
    for top_k in [255, 256, 257, 300] {
        let config = SamplerConfig { top_k, temperature: 100.0, ..SamplerConfig::default() };
        let mut order: Vec<u32> = (0..2000).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let mut kept = order[..top_k].to_vec();
        kept.sort_unstable();
        let drawn = support(config, &logits);
        assert!(drawn.len() > 200 && drawn.iter().all(|id| kept.binary_search(id).is_ok()), "{top_k}");
    }
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    // 0.5, 0.25, 0.15, 0.1
    let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.1_f32.ln(), 0.15_f32.ln()];
    for (top_p, kept) in [(0.4, vec![1]), (0.6, vec![0, 1]), (0.85, vec![0, 1, 3]), (1.0, vec![0, 1, 2, 3])] {
        let config = SamplerConfig { top_p, ..SamplerConfig::default() };
        assert_eq!(support(config, &logits), kept, "{top_p}");
    }
}

#[test]
fn top_p_reaches_beyond_its_first_block() {
    let logits = vec![0.0; 5000];
    let config = SamplerConfig { top_p: 0.5, ..SamplerConfig::default() };
    let drawn = support(config, &logits);
    assert!(drawn.len() > 800 && drawn.iter().all(|id| *id <= 2500), "{:?}", drawn.last());
}

#[test]
fn min_p_keeps_tokens_near_the_best() {
    let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.1_f32.ln(), 0.15_f32.ln()];
    for (min_p, kept) in [(0.0, vec![0, 1, 2, 3]), (0.25, vec![0, 1, 3]), (0.4, vec![0, 1]), (1.0, vec![1])] {
        let config = SamplerConfig { min_p, ..SamplerConfig::default() };
        assert_eq!(support(config, &logits), kept, "{min_p}");
    }
}

#[test]
fn typical_keeps_the_tokens_nearest_the_expected_surprise() {
    // Entropy 1.19 nats; surprises 1.386, 0.693, 2.303, 1.897: nearest 0 (0.20), then 1 (0.50), 3 (0.70), 2 (1.11).
    let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.1_f32.ln(), 0.15_f32.ln()];
    for (typical_p, kept) in
        [(0.2, vec![0]), (0.3, vec![0, 1]), (0.8, vec![0, 1, 3]), (1.0, vec![0, 1, 2, 3])]
    {
        let config = SamplerConfig { typical_p, ..SamplerConfig::default() };
        assert_eq!(support(config, &logits), kept, "{typical_p}");
    }
}

#[test]
fn filters_measure_what_the_one_before_left() {
    // Of the best two, token 1 alone has 2/3; of all it has 1/2.
    let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.1_f32.ln(), 0.15_f32.ln()];
    let config = SamplerConfig { top_k: 2, top_p: 0.6, ..SamplerConfig::default() };
    assert_eq!(support(config, &logits), [1]);
}

#[test]
fn draws_follow_the_probabilities() {
    let probabilities = [0.5_f32, 0.3, 0.15, 0.05];
    for (temperature, scale) in [(1.0, 1.0), (0.5, 2.0)] {
        let logits = probabilities.map(f32::ln);
        let config = SamplerConfig { temperature, seed: 11, ..SamplerConfig::default() };
        let drawn = draws(config, &logits, 20_000);
        let total: f64 = probabilities.iter().map(|p| f64::from(*p).powf(scale)).sum();
        for (id, probability) in probabilities.iter().enumerate() {
            let expected = f64::from(*probability).powf(scale) / total;
            let share = drawn.iter().filter(|token| **token == id as u32).count() as f64 / 20_000.0;
            assert!((share - expected).abs() < 0.015, "{id} at {temperature}: {share} for {expected}");
        }
    }
}

#[test]
fn seed_reproduces_the_tokens_whatever_the_threads() {
    let logits: Vec<f32> =
        (0..5000_u32).map(|id| (id.wrapping_mul(2_654_435_761) >> 28) as f32 / 4.0).collect();
    let run = |seed| {
        draws(SamplerConfig { seed, top_p: 0.9, temperature: 0.8, ..SamplerConfig::default() }, &logits, 200)
    };
    let expected = run(42);
    let threads: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4).map(|_| scope.spawn(|| run(42))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(threads.iter().all(|drawn| *drawn == expected));
    assert_ne!(run(43), expected);
}

#[test]
fn seed_gives_the_tokens_it_gave_before() {
    let config = SamplerConfig { seed: 1, ..SamplerConfig::default() };
    assert_eq!(draws(config, &LOGITS, 12), SEED_ONE);
}

// The first by hand: SplitMix64(1) begins 0x910A2DEC89025CC1, 0.5666 of the weights 0.135, 1, 0.368, 1, 0.018, 0.082.
const SEED_ONE: [u32; 12] = [2, 3, 5, 2, 2, 3, 3, 2, 1, 3, 1, 3];

#[test]
fn all_candidates_masked_is_an_error() {
    let masked = [f32::NEG_INFINITY; 6];
    for config in [SamplerConfig::default(), SamplerConfig::greedy()] {
        assert_eq!(sampler(config).sample(&masked, &[]), Err(SamplingError::AllMasked));
    }
    let bias = (0..6).map(|id| (id, f32::NEG_INFINITY)).collect();
    let config = SamplerConfig { logit_bias: bias, ..SamplerConfig::default() };
    assert_eq!(sampler(config).sample(&LOGITS, &[]), Err(SamplingError::AllMasked));
}

#[test]
fn masked_tokens_are_never_drawn() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    let config = SamplerConfig { frequency_penalty: -100.0, temperature: 100.0, ..SamplerConfig::default() };
    let mut sampler = Sampler::new(config, 4).unwrap();
    let drawn: Vec<u32> = (0..200).map(|_| sampler.sample(&logits, &[0, 0, 2]).unwrap().token).collect();
    assert!(drawn.iter().all(|token| *token == 1 || *token == 3));
}

#[test]
fn nan_and_infinite_logits_are_errors() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut logits = LOGITS;
        logits[4] = bad;
        let biased = SamplerConfig { logit_bias: BTreeMap::from([(4, -1.0)]), ..SamplerConfig::default() };
        for config in [SamplerConfig::default(), SamplerConfig::greedy(), biased] {
            let error = sampler(config).sample(&logits, &[]).unwrap_err();
            assert!(matches!(error, SamplingError::BadLogit { token: 4, .. }), "{error}");
        }
    }
}

#[test]
fn the_best_and_the_bad_are_found_anywhere() {
    let mut sampler = Sampler::new(SamplerConfig::greedy(), 2500).unwrap();
    for place in [0, 15, 16, 1023, 1024, 2047, 2048, 2490, 2499] {
        let mut logits: Vec<f32> = (0..2500).map(|id| (id % 7) as f32).collect();
        logits[place] = 7.0;
        logits[2499] = 7.0;
        assert_eq!(sampler.sample(&logits, &[]).unwrap().token, place as u32);
        logits[place] = -f32::NAN;
        let error = sampler.sample(&logits, &[]).unwrap_err();
        assert!(matches!(error, SamplingError::BadLogit { token, .. } if token == place as u32), "{error}");
    }
}

#[test]
fn logit_bias_for_an_unknown_id_is_an_error() {
    let config = SamplerConfig { logit_bias: BTreeMap::from([(6, 1.0)]), ..SamplerConfig::default() };
    let error = Sampler::new(config, 6).unwrap_err();
    assert_eq!(error, SamplingError::BiasUnknownToken { token: 6, last: 5 });
}

#[test]
fn logit_bias_moves_and_forbids() {
    let bias = BTreeMap::from([(1, f32::NEG_INFINITY), (4, 4.5)]);
    let config = SamplerConfig { logit_bias: bias, ..SamplerConfig::greedy() };
    assert_eq!(sampler(config).sample(&LOGITS, &[]).unwrap().token, 4);
}

#[test]
fn lengths_are_checked() {
    let error = sampler(SamplerConfig::default()).sample(&LOGITS[..5], &[]).unwrap_err();
    assert_eq!(error, SamplingError::LogitCount { found: 5, expected: 6 });
    let config = SamplerConfig { presence_penalty: 1.0, ..SamplerConfig::default() };
    let error = sampler(config).sample(&LOGITS, &[6]).unwrap_err();
    assert_eq!(error, SamplingError::HistoryToken { token: 6, last: 5 });
    assert_eq!(Sampler::new(SamplerConfig::default(), 0).unwrap_err(), SamplingError::EmptyVocabulary);
}

#[test]
fn penalties_change_the_greedy_choice() {
    // Best are tokens 1 and 3 with 3.0, then 2 with 2.0.
    let off = SamplerConfig::greedy();
    let cases = [
        (SamplerConfig { repetition_penalty: 2.0, ..off.clone() }, vec![1], 3),
        (SamplerConfig { repetition_penalty: 2.0, ..off.clone() }, vec![1, 3], 2),
        (SamplerConfig { presence_penalty: 0.5, ..off.clone() }, vec![1], 3),
        (SamplerConfig { frequency_penalty: 0.6, ..off.clone() }, vec![1, 3, 1, 3], 2),
        (SamplerConfig { frequency_penalty: 0.4, ..off.clone() }, vec![1, 3, 1, 3], 1),
        (SamplerConfig { presence_penalty: 0.5, penalty_window: 1, ..off.clone() }, vec![1, 0], 1),
        (SamplerConfig { presence_penalty: 0.5, penalty_window: 0, ..off.clone() }, vec![1], 1),
        (SamplerConfig { frequency_penalty: -2.1, ..off }, vec![4, 4], 4),
    ];
    for (config, history, expected) in cases {
        let found = sampler(config.clone()).sample(&LOGITS, &history).unwrap().token;
        assert_eq!(found, expected, "{config:?} {history:?}");
    }
}

#[test]
fn repetition_penalty_lowers_negative_logits_too() {
    let config = SamplerConfig { repetition_penalty: 2.0, ..SamplerConfig::greedy() };
    let mut sampler = Sampler::new(config, 2).unwrap();
    assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap().token, 1);
}

#[test]
fn logprobs_are_of_the_models_own_distribution() {
    let logits = [0.25_f32.ln() + 7.0, 0.5_f32.ln() + 7.0, 0.1_f32.ln() + 7.0, 0.15_f32.ln() + 7.0];
    let config = SamplerConfig {
        logit_bias: BTreeMap::from([(2, 50.0)]),
        logprobs: Some(2),
        ..SamplerConfig::greedy()
    };
    let Sampled { token, logprob, top } = Sampler::new(config, 4).unwrap().sample(&logits, &[]).unwrap();
    assert_eq!(token, 2);
    assert!((logprob.unwrap() - 0.1_f32.ln()).abs() < 1e-5);
    assert_eq!(top.iter().map(|each| each.0).collect::<Vec<_>>(), [1, 0]);
    assert!((top[0].1 - 0.5_f32.ln()).abs() < 1e-5 && (top[1].1 - 0.25_f32.ln()).abs() < 1e-5);
}

#[test]
fn logprobs_are_only_made_on_request() {
    let drawn = sampler(SamplerConfig::default()).sample(&LOGITS, &[]).unwrap();
    assert_eq!((drawn.logprob, drawn.top), (None, vec![]));
}

#[test]
fn mirostat_brings_the_surprise_to_its_target() {
    // Zipf's law over 2000 tokens has 7.4 bits of entropy.
    let logits: Vec<f32> = (1..=2000).map(|rank| -(rank as f32).ln()).collect();
    for tau in [2.0, 4.0] {
        let mirostat = Some(Mirostat { tau, eta: 0.1 });
        let config = SamplerConfig { mirostat, logprobs: Some(0), ..SamplerConfig::default() };
        let mut sampler = Sampler::new(config, logits.len()).unwrap();
        let drawn: Vec<u32> = (0..4000).map(|_| sampler.sample(&logits, &[]).unwrap().token).collect();
        // With the bound settled, the surprise among the kept is near tau, so about 2^tau tokens matter.
        let largest = drawn[500..].iter().max().unwrap() + 1;
        let harmonic = |count: u32| (1..=count).map(|rank| 1.0 / f64::from(rank)).sum::<f64>();
        let bits = |count: u32| {
            let total = harmonic(count);
            (1..=count).map(|rank| (f64::from(rank) * total).log2() / (f64::from(rank) * total)).sum::<f64>()
        };
        let mean = drawn[500..].iter().map(|id| f64::from(id + 1).log2()).sum::<f64>() / 3500.0;
        assert!(largest < 2000, "nothing was cut");
        assert!(bits(largest) > f64::from(tau) * 0.8, "{largest}");
        assert!(mean < f64::from(tau), "{mean}");
    }
}

proptest! {
    #[test]
    fn every_sound_configuration_draws_a_token_that_is_not_masked(
        logits in proptest::collection::vec(prop_oneof![4 => -50.0_f32..50.0, 1 => Just(f32::NEG_INFINITY), 1 => -3e38_f32..3e38], 1..400),
        history in proptest::collection::vec(any::<prop::sample::Index>(), 0..100),
        temperature in prop_oneof![Just(0.0_f32), Just(1e-30), 0.1_f32..2.0],
        (top_k, top_p, min_p, typical_p) in (0_usize..500, 0.001_f32..=1.0, 0.0_f32..=1.0, 0.001_f32..=1.0),
        (repetition_penalty, frequency_penalty, presence_penalty) in (0.1_f32..10.0, -3.0_f32..3.0, -3.0_f32..3.0),
        mirostat in proptest::option::of((0.1_f32..10.0, 0.01_f32..=1.0).prop_map(|(tau, eta)| Mirostat { tau, eta })),
        seed in any::<u64>(),
    ) {
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        let history: Vec<u32> = history.iter().map(|index| index.index(logits.len()) as u32).collect();
        let config = SamplerConfig {
            temperature, top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty,
            mirostat, seed, logprobs: Some(5), ..SamplerConfig::default()
        };
        let run = || {
            let mut sampler = Sampler::new(config.clone(), logits.len()).unwrap();
            (0..4).map(|_| sampler.sample(&logits, &history).unwrap()).collect::<Vec<_>>()
        };
        let drawn = run();
        for each in &drawn {
            prop_assert!(logits[each.token as usize] > f32::NEG_INFINITY);
            prop_assert!(each.logprob.unwrap() <= 1e-6);
            prop_assert!(each.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        }
        prop_assert_eq!(run(), drawn);
    }

    #[test]
    fn the_likeliest_alone_give_the_same_tokens_where_they_are_enough(
        logits in proptest::collection::vec(prop_oneof![4 => -50.0_f32..50.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(7.0)], 1..400),
        temperature in prop_oneof![Just(0.0_f32), 0.1_f32..2.0],
        (top_k, top_p, min_p, typical_p) in (1_usize..=256, 0.001_f32..=1.0, 0.0_f32..=1.0, 0.001_f32..=1.0),
        more in 0_usize..5,
        seed in any::<u64>(),
    ) {
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        let config = SamplerConfig { temperature, top_k, top_p, min_p, typical_p, seed, ..SamplerConfig::default() };
        let mut likeliest: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        likeliest.truncate(config.likeliest().unwrap() + more);
        let mut from_all = Sampler::new(config.clone(), logits.len()).unwrap();
        let mut from_few = Sampler::new(config, logits.len()).unwrap();
        for _ in 0..4 {
            prop_assert_eq!(from_few.sample_among(&likeliest).unwrap(), from_all.sample(&logits, &[]).unwrap());
        }
    }
}

#[test]
fn samplers_that_look_at_every_logit_take_no_shortlist() {
    let configs = [
        SamplerConfig::default(),
        SamplerConfig { top_k: 257, ..SamplerConfig::default() },
        SamplerConfig { presence_penalty: 1.0, ..SamplerConfig::greedy() },
        SamplerConfig { logit_bias: BTreeMap::from([(1, 1.0)]), ..SamplerConfig::greedy() },
        SamplerConfig { logprobs: Some(0), ..SamplerConfig::greedy() },
        SamplerConfig { mirostat: Some(Mirostat::default()), top_k: 5, ..SamplerConfig::default() },
    ];
    for config in configs {
        assert_eq!(config.likeliest(), None, "{config:?}");
        let refused = sampler(config).sample_among(&[(1, 3.0)]);
        assert!(matches!(refused, Err(SamplingError::LogitCount { found: 1, expected: 6 })), "{refused:?}");
    }
}

#[test]
fn logits_that_are_no_numbers_are_refused_in_a_shortlist_too() {
    for value in [f32::NAN, f32::INFINITY] {
        let refused = sampler(SamplerConfig::greedy()).sample_among(&[(4, value)]);
        assert!(matches!(refused, Err(SamplingError::BadLogit { token: 4, .. })), "{refused:?}");
    }
    for none in [&[][..], &[(2, f32::NEG_INFINITY)]] {
        assert!(matches!(sampler(SamplerConfig::greedy()).sample_among(none), Err(SamplingError::AllMasked)));
    }
}
