//! Whatever a session went through, its logits are those of its tokens run afresh.
//!
//! Random conversations: edited prompts, answers, resets, chunks of any length, one fault at any operation.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::fault::{Fault, FaultDevice};
use gemma_hal::{DType, Deadline, Device, DeviceError};
use gemma_orchestrator::{Engine, EngineError, EngineOptions, Model, Session};
use proptest::prelude::*;

/// More than twice the model's window of 16.
const CONTEXT: usize = 64;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens/ten-layers");
    Model::open(&folder, None).unwrap()
});

/// What happens to a session.
#[derive(Clone, Debug)]
enum Event {
    /// A prompt that shares its first `keep` tokens, as far as there are so many, with what is there.
    Edit {
        keep: usize,
        add: Vec<u32>,
    },
    /// Tokens behind those that are there.
    Append(Vec<u32>),
    Reset,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ids = |most| prop::collection::vec(0..256_u32, 1..most);
    let event = prop_oneof![
        3 => (0..CONTEXT, ids(30)).prop_map(|(keep, add)| Event::Edit { keep, add }),
        4 => ids(12).prop_map(Event::Append),
        1 => Just(Event::Reset),
    ];
    prop::collection::vec(event, 1..8)
}

fn cpu() -> Box<dyn Device> {
    Box::new(
        CpuDevice::new(CpuOptions {
            threads: 1,
            isa: Isa::detect(),
            activations: Activations::Int8,
            memory: 1 << 30,
        })
        .unwrap(),
    )
}

fn engine(devices: Vec<Arc<dyn Device>>, chunk: usize) -> Engine {
    let options = EngineOptions { context: CONTEXT, chunk, cache_dtype: DType::F32 };
    Engine::new(MODEL.config.clone(), MODEL.weights.clone(), options, devices).unwrap()
}

/// A device that fails once, or is lost, after some operations; and a spare one.
fn failing(after: u64, lost: bool) -> Vec<Arc<dyn Device>> {
    let device = "fault".to_owned();
    let error = if lost {
        DeviceError::Lost { device, detail: "unplugged".to_owned() }
    } else {
        DeviceError::Timeout { device, what: "linear".to_owned(), waited: Duration::ZERO }
    };
    let faulty = FaultDevice::new(cpu(), Fault { after, error, forever: lost });
    vec![Arc::new(faulty), Arc::from(cpu())]
}

/// Lets `event` happen to the session; returns the tokens that it must then hold.
fn happen(session: &mut Session, engine: &mut Engine, event: &Event) -> Result<Vec<u32>, EngineError> {
    let held = session.tokens().to_vec();
    let (target, appended) = match event {
        Event::Reset => {
            session.reset();
            return Ok(Vec::new());
        }
        Event::Edit { keep, add } => {
            let kept = &held[..(*keep).min(held.len()).min(CONTEXT - 1 - add.len())];
            ([kept, add].concat(), None)
        }
        Event::Append(ids) => {
            let ids = &ids[..ids.len().min(CONTEXT - 1 - held.len())];
            if ids.is_empty() {
                return Ok(held);
            }
            ([&held, ids].concat(), Some(ids))
        }
    };
    let never = Deadline::never();
    let first = match appended {
        Some(ids) => session.extend(engine, ids, &never),
        None => session.advance_to(engine, &target, &never).map(|_| ()),
    };
    if let Err(error) = first {
        // Only a time-out comes through, and what did run is a part of what was asked for.
        assert!(matches!(error, EngineError::Device(DeviceError::Timeout { .. })), "{error}");
        assert!(target.starts_with(session.tokens()), "{:?} of {target:?}", session.tokens());
        session.advance_to(engine, &target, &never)?;
    }
    Ok(target)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn logits_depend_on_the_tokens_alone(
        events in events(),
        chunk in 1..24_usize,
        after in 0..1500_u64,
        lost in any::<bool>(),
    ) {
        let mut engine = engine(failing(after, lost), chunk);
        let mut session = Session::new(&engine).unwrap();
        let mut oracle = self::engine(vec![Arc::from(cpu())], CONTEXT);
        let mut fresh = Session::new(&oracle).unwrap();
        for event in &events {
            let tokens = happen(&mut session, &mut engine, event).unwrap();
            prop_assert_eq!(session.tokens(), &tokens);
            if tokens.is_empty() {
                prop_assert!(session.logits().is_empty());
                continue;
            }
            fresh.reset();
            fresh.extend(&mut oracle, &tokens, &Deadline::never()).unwrap();
            prop_assert_eq!(session.logits(), fresh.logits(), "after {:?}", event);
        }
    }
}
