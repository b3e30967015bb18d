//! Speed of a model with random weights on one adapter: `speed [adapter] [e2b|e4b] [type] [depth]`.

use std::sync::Arc;
use std::time::Instant;

use gemma_hal::{Call, DType, Deadline, Device, Outputs, Probe, Step};
use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};
use gemma_matformer::plan::{PlanOptions, build};
use gemma_matformer::{Config, synthetic};

struct Profile {
    times: std::collections::BTreeMap<&'static str, (f64, usize)>,
    begun: Instant,
}

impl Probe for Profile {
    fn before(&mut self, _index: usize, _step: &Step) -> Result<(), gemma_hal::DeviceError> {
        self.begun = Instant::now();
        Ok(())
    }

    fn after(&mut self, _index: usize, step: &Step, _read: &dyn Fn(gemma_hal::BufferId) -> Vec<f32>) {
        let entry = self.times.entry(step.op.name()).or_default();
        entry.0 += self.begun.elapsed().as_secs_f64();
        entry.1 += 1;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, usual: &'static str| arguments.get(index).map_or(usual, String::as_str);
    let adapters = adapters();
    for adapter in &adapters {
        println!("{} {} {:?} {}", adapter.id, adapter.name, adapter.kind, adapter.driver);
    }
    let wanted: usize = argument(0, "0").parse()?;
    let device = IgpuDevice::new(&adapters[wanted], IgpuOptions { memory: 16 << 30 })?;
    println!("{:?}", device.info());
    let config = if argument(1, "e2b") == "e4b" { Config::e4b() } else { Config::e2b() };
    let dtype = DType::from_name(argument(2, "q4_0")).ok_or("type")?;
    let depth: usize = argument(3, "0").parse()?;
    let begin = Instant::now();
    let weights = synthetic::weights(&config, dtype, 1)?;
    println!("weights made in {:.1} s", begin.elapsed().as_secs_f64());
    let plan = |name: &str, max_tokens, outputs| {
        let options = PlanOptions { name: name.into(), max_tokens, outputs, cache_dtype: DType::F16 };
        build(&config, &weights, &options).map(Arc::new)
    };
    let begin = Instant::now();
    let decode = plan("decode", 1, Outputs::Last)?;
    let mut executable = device.prepare(Arc::clone(&decode))?;
    let mut cache = device.create_cache(decode.cache(), depth + 4096, 512)?;
    println!("prepared in {:.2} s, {:?}", begin.elapsed().as_secs_f64(), device.memory());
    let mut run = |tokens: &[u32], executable: &mut Box<dyn gemma_hal::Executable>| {
        executable.run(Call { tokens, cache: cache.as_mut(), deadline: Deadline::never(), probe: None })
    };
    let count = 512;
    let prefill = plan("prefill", count, Outputs::Last)?;
    let mut prompt = device.prepare(Arc::clone(&prefill))?;
    let tokens: Vec<u32> = (0..count as u32).collect();
    for _ in 0..depth / count {
        run(&tokens, &mut prompt)?;
    }
    for index in 0..3 {
        let begin = Instant::now();
        run(&[index], &mut executable)?;
        println!("run {index}: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
    for _ in 0..3 {
        let begin = Instant::now();
        for index in 0..32 {
            run(&[index], &mut executable)?;
        }
        println!("decode: {:.1} tok/s", 32.0 / begin.elapsed().as_secs_f64());
    }
    for _ in 0..3 {
        let begin = Instant::now();
        run(&tokens, &mut prompt)?;
        println!("prefill of {count}: {:.1} tok/s", count as f64 / begin.elapsed().as_secs_f64());
    }
    for (name, executable, tokens) in
        [("decode", &mut executable, &tokens[..1]), ("prefill", &mut prompt, &tokens[..])]
    {
        let mut profile = Profile { times: Default::default(), begun: Instant::now() };
        executable.run(Call {
            tokens,
            cache: cache.as_mut(),
            deadline: Deadline::never(),
            probe: Some(&mut profile),
        })?;
        println!("{name}, each step by itself:");
        for (op, (seconds, times)) in profile.times {
            println!("  {op:20} {times:4} times {:8.3} ms", seconds * 1e3);
        }
    }
    println!("{:?}", device.memory());
    Ok(())
}
