//! The GPU device beside the CPU: the same texts, and conversations that move from one to the other.

#[path = "../../gemma-igpu/tests/common/mod.rs"]
mod vulkan;

use std::path::Path;
use std::sync::Arc;

use gemma_cpu::simd::Activations;
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::fault::{Fault, FaultDevice};
use gemma_hal::{Cache, Call, DType, Deadline, Device, DeviceError, Executable, Outputs, Plan};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_orchestrator::{Engine, EngineOptions, Model, Session, evaluate};

const PROMPT: &str = "Once upon a time, there was a fox who";
/// Tokens of a greedy continuation.
const TOKENS: usize = 64;

/// The story model that is part of the program.
fn model() -> Model {
    Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf"), None).unwrap()
}

fn cpu() -> Arc<dyn Device> {
    // The GPU computes in f32.
    let options = CpuOptions { activations: Activations::Float32, ..CpuOptions::detect(1 << 30).unwrap() };
    Arc::new(CpuDevice::new(options).unwrap())
}

fn gpu() -> Arc<dyn Device> {
    Arc::new(vulkan::device())
}

fn prompt(model: &Model) -> Vec<u32> {
    model.tokenizer().unwrap().encode_prompt(PROMPT).unwrap()
}

/// The greedy continuation of the prompt by an engine on `devices`.
fn greedy(model: &Model, devices: Vec<Arc<dyn Device>>, cache_dtype: DType) -> Vec<u32> {
    let options = EngineOptions { context: 128, chunk: 8, cache_dtype };
    let mut engine = Engine::new(model.config.clone(), model.weights.clone(), options, devices).unwrap();
    let mut session = Session::new(&engine).unwrap();
    session.advance_to(&mut engine, &prompt(model), &Deadline::never()).unwrap();
    evaluate::greedy(&mut engine, &mut session, TOKENS).unwrap()
}

#[test]
fn the_built_in_model_tells_the_same_story_on_the_gpu() {
    let model = model();
    let tokenizer = model.tokenizer().unwrap();
    for dtype in gemma_hal::CACHE_DTYPES {
        let (on_cpu, on_gpu) = (greedy(&model, vec![cpu()], dtype), greedy(&model, vec![gpu()], dtype));
        assert_eq!(
            on_gpu,
            on_cpu,
            "{dtype}: {:?} and {:?}",
            tokenizer.decode(&on_gpu),
            tokenizer.decode(&on_cpu)
        );
    }
}

#[test]
fn sessions_of_several_threads_keep_out_of_each_other_s_way() {
    let (model, device) = (model(), gpu());
    let expected = greedy(&model, vec![cpu()], DType::F16);
    std::thread::scope(|scope| {
        let tell = || (0..3).all(|_| greedy(&model, vec![Arc::clone(&device)], DType::F16) == expected);
        let told: Vec<_> = (0..3).map(|_| scope.spawn(tell)).collect();
        assert!(told.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn a_session_whose_gpu_is_lost_goes_on_with_the_cpu() {
    let model = model();
    let expected = greedy(&model, vec![cpu()], DType::F16);
    let lost = DeviceError::Lost { device: "vulkan".to_owned(), detail: "unplugged".to_owned() };
    // In the prompt, and in the middle of the text.
    for after in [20, 800] {
        let fault = Fault { after, error: lost.clone(), forever: true };
        let device = Arc::new(FaultDevice::new(Box::new(vulkan::device()), fault));
        let devices: Vec<Arc<dyn Device>> = vec![device.clone(), cpu()];
        assert_eq!(greedy(&model, devices, DType::F16), expected, "after {after} operations");
        assert!(device.operations() > after, "lost after {after} operations");
    }
}

/// A device that is ready for a token at a time.
struct Place {
    executable: Box<dyn Executable>,
    cache: Box<dyn Cache>,
}

impl Place {
    fn new(device: &dyn Device, plan: &Arc<Plan>) -> Self {
        let cache = device.create_cache(plan.cache(), 128, 1).unwrap();
        Self { executable: device.prepare(Arc::clone(plan)).unwrap(), cache }
    }

    /// The likeliest token behind `token`.
    fn next(&mut self, token: u32) -> u32 {
        let deadline = Deadline::never();
        let call = Call { tokens: &[token], cache: self.cache.as_mut(), deadline, probe: None };
        self.executable.run(call).unwrap();
        evaluate::argmax(self.executable.output())
    }
}

#[test]
fn a_cache_that_moves_between_cpu_and_gpu_carries_the_story_on() {
    let model = model();
    let prompt = prompt(&model);
    for dtype in gemma_hal::CACHE_DTYPES {
        let expected = greedy(&model, vec![cpu()], dtype);
        let options = PlanOptions {
            name: "decode".to_owned(),
            max_tokens: 1,
            outputs: Outputs::Last,
            cache_dtype: dtype,
        };
        let plan = Arc::new(plan::build(&model.config, &model.weights, &options).unwrap());
        let mut places = [cpu(), gpu()].map(|device| Place::new(device.as_ref(), &plan));
        let mut found = Vec::new();
        let mut here = 0;
        for step in 0..prompt.len() + TOKENS - 1 {
            // Six moves, the first within the prompt.
            if step % 12 == 6 {
                let snapshot = places[here].cache.export().unwrap();
                here = 1 - here;
                places[here].cache.import(&snapshot).unwrap();
            }
            let token = prompt.get(step).or(found.last()).copied().unwrap();
            let next = places[here].next(token);
            if step + 1 >= prompt.len() {
                found.push(next);
            }
        }
        assert_eq!(found, expected, "{dtype}");
    }
}
