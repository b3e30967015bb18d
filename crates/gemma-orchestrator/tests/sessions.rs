//! Sessions: reuse, limits, cancelling, recovery.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::fault::{Fault, FaultDevice, Place};
use gemma_hal::null::NullDevice;
use gemma_hal::{DType, Deadline, Device, DeviceError};
use gemma_matformer::{Config, LayerKind, synthetic};
use gemma_orchestrator::{Engine, EngineError, EngineOptions, Model, Session, evaluate};

const MEMORY: u64 = 1 << 30;

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens/ten-layers");
    Model::open(&folder, None).unwrap()
}

fn cpu() -> CpuDevice {
    CpuDevice::new(CpuOptions {
        threads: 1,
        isa: Isa::detect(),
        activations: Activations::Int8,
        memory: MEMORY,
    })
    .unwrap()
}

fn engine_on(devices: Vec<Arc<dyn Device>>, context: usize, chunk: usize) -> Engine {
    let model = model();
    let options = EngineOptions { context, chunk, cache_dtype: DType::F32 };
    Engine::new(model.config, model.weights, options, devices).unwrap()
}

fn engine(context: usize, chunk: usize) -> Engine {
    engine_on(vec![Arc::new(cpu())], context, chunk)
}

/// Text-like ids, other ones for another `salt`.
fn ids(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 7 + 3 + salt * 11) % 256).collect()
}

fn fresh_logits(tokens: &[u32], context: usize, chunk: usize) -> Vec<f32> {
    let mut engine = engine(context, chunk);
    let mut session = Session::new(&engine).unwrap();
    session.extend(&mut engine, tokens, &Deadline::never()).unwrap();
    session.logits().to_vec()
}

#[test]
fn an_edited_turn_reuses_the_common_prefix() {
    // The window is 16 and chunks are 8, so that a little less than 8 positions can be taken back.
    let mut engine = engine(128, 8);
    let mut session = Session::new(&engine).unwrap();
    let first = ids(60, 0);
    session.advance_to(&mut engine, &first, &Deadline::never()).unwrap();
    for (keep, reused) in [(56, 56), (20, 0)] {
        let edited: Vec<u32> = first[..keep].iter().copied().chain(ids(9, 1)).collect();
        let advance = session.advance_to(&mut engine, &edited, &Deadline::never()).unwrap();
        assert_eq!((advance.reused, advance.run), (reused, keep + 9 - reused), "keeping {keep}");
        assert_eq!(session.logits(), fresh_logits(&edited, 128, 8), "keeping {keep}");
        assert_eq!(session.tokens(), edited);
    }
    let same = session.tokens().to_vec();
    let advance = session.advance_to(&mut engine, &same, &Deadline::never()).unwrap();
    assert_eq!((advance.reused, advance.run), (29, 0));
}

#[test]
fn windows_are_crossed_alike_in_prompt_and_decode() {
    let tokens = ids(50, 2);
    let expected = fresh_logits(&tokens, 64, 32);
    for (prompt, chunk) in [(1, 32), (15, 4), (16, 16), (17, 5), (49, 32)] {
        let mut engine = engine(64, chunk);
        let mut session = Session::new(&engine).unwrap();
        session.extend(&mut engine, &tokens[..prompt], &Deadline::never()).unwrap();
        for id in &tokens[prompt..] {
            session.extend(&mut engine, &[*id], &Deadline::never()).unwrap();
        }
        assert_eq!(session.logits(), expected, "{prompt} at once, in chunks of {chunk}");
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused_with_the_numbers() {
    let mut engine = engine(32, 8);
    let mut session = Session::new(&engine).unwrap();
    let error = session.advance_to(&mut engine, &ids(32, 0), &Deadline::never()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the prompt has 32 tokens, but the context holds 32 (one is kept for the answer); shorten the prompt or raise --context (this model: up to {})",
            engine.config().max_context
        )
    );
    let error = session.advance_to(&mut engine, &[], &Deadline::never()).unwrap_err();
    assert!(matches!(error, EngineError::EmptyPrompt));
    session.advance_to(&mut engine, &ids(31, 0), &Deadline::never()).unwrap();
    session.extend(&mut engine, &[1], &Deadline::never()).unwrap();
    let full = session.extend(&mut engine, &[1], &Deadline::never()).unwrap_err();
    assert_eq!(full.to_string(), "cpu: context full: 32 + 1 of 32 positions");
    assert_eq!(session.tokens().len(), 32);
}

#[test]
fn options_that_cannot_be_are_refused() {
    let model = model();
    let too_long = model.config.max_context + 1;
    for (context, chunk, option) in [(0, 1, "--context"), (too_long, 1, "--context"), (8, 0, "--chunk")] {
        let options = EngineOptions { context, chunk, cache_dtype: DType::F32 };
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu())];
        let result = Engine::new(model.config.clone(), model.weights.clone(), options, devices);
        let Err(EngineError::Option { option: found, .. }) = result else { panic!("{context}, {chunk}") };
        assert_eq!(found, option);
    }
}

fn faulty(after: u64, error: DeviceError, forever: bool) -> Arc<dyn Device> {
    Arc::new(FaultDevice::new(Box::new(cpu()), Fault { after, error, forever }))
}

fn lost() -> DeviceError {
    DeviceError::Lost { device: "fault".to_owned(), detail: "unplugged".to_owned() }
}

#[test]
fn a_lost_device_is_replaced_without_a_trace_in_the_text() {
    let prompt = ids(40, 3);
    let greedy = |devices| {
        let mut engine = engine_on(devices, 64, 8);
        let mut session = Session::new(&engine).unwrap();
        session.advance_to(&mut engine, &prompt, &Deadline::never()).unwrap();
        let tokens = evaluate::greedy(&mut engine, &mut session, 16).unwrap();
        (tokens, session.tokens().len())
    };
    let expected = greedy(vec![Arc::new(cpu())]);
    // In the first chunk, in a later one, and in the middle of decoding.
    for after in [0, 3, 250, 700, 1500] {
        let found = greedy(vec![faulty(after, lost(), true), Arc::new(cpu())]);
        assert_eq!(found, expected, "lost after {after} operations");
    }
}

/// A device that fails to prepare plans or to make caches.
fn faulty_at(place: Place, after: u64, error: DeviceError, forever: bool) -> Arc<dyn Device> {
    Arc::new(FaultDevice::at(place, Box::new(cpu()), Fault { after, error, forever }))
}

fn no_memory() -> DeviceError {
    let (device, what) = ("fault".to_owned(), "activations".to_owned());
    DeviceError::OutOfMemory { device, what, wanted: 2, available: 1 }
}

fn is_out_of_memory<T>(result: Result<T, EngineError>) -> bool {
    matches!(result, Err(EngineError::Device(error)) if error == no_memory())
}

#[test]
fn a_plan_that_cannot_be_prepared_is_told_and_may_be_asked_for_again() {
    let model = model();
    let options = EngineOptions { context: 64, chunk: 8, cache_dtype: DType::F32 };
    let devices = vec![faulty_at(Place::Prepare, 0, no_memory(), true)];
    assert!(is_out_of_memory(Engine::new(model.config, model.weights, options, devices)));
    let tokens = ids(30, 6);
    // The plan of whole chunks, when none has run; that of the last chunk, when three have.
    for (after, run) in [(1, 0), (2, 24)] {
        let mut engine = engine_on(vec![faulty_at(Place::Prepare, after, no_memory(), false)], 64, 8);
        let mut session = Session::new(&engine).unwrap();
        assert!(is_out_of_memory(session.advance_to(&mut engine, &tokens, &Deadline::never())));
        assert_eq!(session.tokens(), &tokens[..run], "after {after} plans");
        session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
        assert_eq!(session.logits(), fresh_logits(&tokens, 64, 8), "after {after} plans");
    }
}

#[test]
fn a_cache_that_cannot_be_made_is_told_and_may_be_asked_for_again() {
    let tokens = ids(30, 7);
    let expected = fresh_logits(&tokens, 64, 8);
    let mut engine = engine_on(vec![faulty_at(Place::CreateCache, 0, no_memory(), false)], 64, 8);
    assert!(is_out_of_memory(Session::new(&engine)));
    let mut session = Session::new(&engine).unwrap();
    session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
    assert_eq!(session.logits(), expected);

    // The spare device has no room when the session first comes to it.
    let spare = faulty_at(Place::CreateCache, 0, no_memory(), false);
    let mut engine = engine_on(vec![faulty(300, lost(), true), spare], 64, 8);
    let mut session = Session::new(&engine).unwrap();
    assert!(is_out_of_memory(session.advance_to(&mut engine, &tokens, &Deadline::never())));
    let kept = session.tokens().len();
    assert!(kept > 0 && kept < 30 && tokens.starts_with(session.tokens()), "{kept}");
    session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
    assert_eq!(session.logits(), expected);
}

#[test]
fn a_spare_device_that_is_lost_too_is_passed_over() {
    let tokens = ids(30, 8);
    let expected = fresh_logits(&tokens, 64, 8);
    for place in [Place::Prepare, Place::CreateCache] {
        let first = || vec![faulty(300, lost(), true), faulty_at(place, 0, lost(), true)];
        let devices = first().into_iter().chain([Arc::new(cpu()) as Arc<dyn Device>]).collect();
        let mut engine = engine_on(devices, 64, 8);
        let mut session = Session::new(&engine).unwrap();
        session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
        assert_eq!(session.logits(), expected, "{place:?}");

        let mut engine = engine_on(first(), 64, 8);
        let mut session = Session::new(&engine).unwrap();
        for _ in 0..2 {
            let error = session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap_err();
            assert!(matches!(&error, EngineError::NoDevice(last) if *last == lost()), "{place:?}: {error}");
            assert!(tokens.starts_with(session.tokens()));
        }
    }
}

#[test]
fn a_plan_lost_while_it_is_prepared_moves_the_session() {
    let tokens = ids(30, 9);
    for after in [1, 2] {
        let devices = vec![faulty_at(Place::Prepare, after, lost(), true), Arc::new(cpu())];
        let mut engine = engine_on(devices, 64, 8);
        let mut session = Session::new(&engine).unwrap();
        session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
        assert_eq!(session.logits(), fresh_logits(&tokens, 64, 8), "after {after} plans");
    }
}

#[test]
fn without_another_device_a_loss_is_an_error() {
    let mut engine = engine_on(vec![faulty(5, lost(), true)], 64, 8);
    let mut session = Session::new(&engine).unwrap();
    let error = session.extend(&mut engine, &ids(4, 0), &Deadline::never()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no device is left to run on; the last said: fault: lost: unplugged; go on with another device (--device cpu)"
    );
}

#[test]
fn after_a_timeout_the_session_goes_on_where_it_was() {
    let timeout = DeviceError::Timeout {
        device: "fault".to_owned(),
        what: "linear".to_owned(),
        waited: Duration::from_secs(2),
    };
    let tokens = ids(30, 4);
    for after in [4, 120, 300] {
        let mut engine = engine_on(vec![faulty(after, timeout.clone(), false)], 64, 8);
        let mut session = Session::new(&engine).unwrap();
        let error = session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap_err();
        assert!(matches!(error, EngineError::Device(DeviceError::Timeout { .. })), "{error}");
        assert!(session.tokens().len() < 30 && tokens.starts_with(session.tokens()));
        session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
        assert_eq!(session.logits(), fresh_logits(&tokens, 64, 8), "timeout after {after} operations");
    }
}

#[test]
fn a_cancelled_prompt_can_be_resumed() {
    let mut engine = engine(64, 8);
    let mut session = Session::new(&engine).unwrap();
    let tokens = ids(30, 5);
    let cancelled = Deadline::never().or_cancelled(Arc::new(AtomicBool::new(true)));
    let error = session.advance_to(&mut engine, &tokens, &cancelled).unwrap_err();
    assert!(matches!(error, EngineError::Device(DeviceError::Cancelled { .. })), "{error}");
    session.advance_to(&mut engine, &tokens, &Deadline::never()).unwrap();
    assert_eq!(session.logits(), fresh_logits(&tokens, 64, 8));
}

#[test]
fn the_size_of_a_cache_is_known_before_it_is_made() {
    for (context, chunk, dtype) in [(64, 8, DType::F32), (100, 30, DType::F16), (16, 100, DType::F16)] {
        let (model, options) = (model(), EngineOptions { context, chunk, cache_dtype: dtype });
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu())];
        let engine = Engine::new(model.config, model.weights, options, devices).unwrap();
        let before = engine.memory().used;
        let bytes = engine.cache_bytes();
        assert_eq!(engine.memory().used, before);
        assert_eq!(Session::new(&engine).unwrap().cache_bytes(), bytes, "{context}, {chunk}, {dtype}");
    }
}

#[test]
fn a_cache_in_blocks_needs_heads_that_end_on_one() {
    let model = model();
    let options = EngineOptions { context: 64, chunk: 8, cache_dtype: DType::Q8_0 };
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu())];
    let error = Engine::new(model.config, model.weights, options, devices).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--cache-type: q8_0 is not possible: it keeps blocks of 32 values, and this model's heads have 16; choose f16 or f32"
    );
}

#[test]
fn a_null_device_carries_a_session() {
    let mut engine = engine_on(vec![Arc::new(NullDevice::new(MEMORY))], 64, 8);
    let mut session = Session::new(&engine).unwrap();
    session.advance_to(&mut engine, &ids(20, 0), &Deadline::never()).unwrap();
    assert_eq!(evaluate::greedy(&mut engine, &mut session, 5).unwrap(), [0; 5]);
    assert!(session.logits().iter().all(|logit| *logit == 0.0));
}

/// Two layers, one of them with full attention, small enough to run 32768 tokens in a test.
fn small_with_long_context() -> Config {
    let mut config = Config::e2b();
    config.layer_kinds = vec![LayerKind::Sliding, LayerKind::Full];
    (config.ffn_widths, config.sparsity) = (vec![32, 32], vec![0.5, 0.0]);
    (config.hidden, config.heads, config.kv_heads, config.head_dim) = (32, 1, 1, 16);
    (config.ple_width, config.laurel_rank, config.shared_kv_layers) = (32, 8, 0);
    (config.vocabulary, config.ple_vocabulary, config.window) = (300, 290, 512);
    config
}

#[test]
fn a_context_of_32768_tokens_is_filled_to_the_last() {
    let config = small_with_long_context();
    let weights = synthetic::weights(&config, DType::F32, 7).unwrap();
    let tokens: Vec<u32> = (0..32_768).map(|i| i * 31 % 300).collect();
    let run = |chunk| {
        let options = EngineOptions { context: 32_768, chunk, cache_dtype: DType::F16 };
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu())];
        let mut engine = Engine::new(config.clone(), weights.clone(), options, devices).unwrap();
        let mut session = Session::new(&engine).unwrap();
        session.advance_to(&mut engine, &tokens[..32_767], &Deadline::never()).unwrap();
        session.extend(&mut engine, &tokens[32_767..], &Deadline::never()).unwrap();
        assert!(session.extend(&mut engine, &[1], &Deadline::never()).is_err());
        session.logits().to_vec()
    };
    let logits = run(128);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    assert_eq!(logits, run(700));
}

#[test]
fn generation_ends_at_the_end_of_the_context() {
    use gemma_orchestrator::{Finish, Request, generate};
    use gemma_text::{SamplerConfig, StopRules, Tokenizer, Vocabulary};
    let tokens = (0..320).map(|id| format!("t{id}")).collect();
    let scores = Some(vec![0.0; 320]);
    let vocabulary = Vocabulary { tokens, scores, unk: Some(0), ..Vocabulary::default() };
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let mut engine = engine(24, 8);
    let mut session = Session::new(&engine).unwrap();
    let request = Request {
        sampler: SamplerConfig::greedy(),
        stop: StopRules::default(),
        max_tokens: 100,
        cancel: Arc::default(),
    };
    let mut text = String::new();
    let done = generate(&mut engine, &mut session, &tokenizer, &ids(20, 0), &request, &mut |piece| {
        text.push_str(piece.text);
        ControlFlow::Continue(())
    })
    .unwrap();
    // Four tokens fill the context; a fifth is still sampled behind the last.
    assert_eq!((done.finish, done.tokens.len()), (Finish::Context, 5));
    assert_eq!(done.text, text);
    assert_eq!(done.stats.decode_tokens, 4);
}
