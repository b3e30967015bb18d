//! A device whose kernels are emulated: what a driver does, without one.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use gemma_hal::rotary::{RotaryBase, RotaryTables};
use gemma_hal::{
    Budget, BufferId, Cache, CacheLayout, Call, DType, Device, DeviceError, DeviceInfo, DeviceKind,
    Executable, MemoryUse, Op, Plan, Positions, Snapshot, WeightId, block, planes,
};
use gemma_hip_kernels::prepare::{self, CachedLayer, Memory, Table, Turned};
use gemma_hip_kernels::{Activations, Address, Planes, Slots};

use super::{Bank, Emulator, Runner};

const NAME: &str = "emulated";

/// As the Radeon 780M has.
const COMPUTE_UNITS: usize = 12;

/// Pieces of a bank fit into 16 bits; weights are forgotten long before.
const MOST_PIECES: usize = 60_000;

struct Shared {
    bank: Bank,
    emulator: Box<dyn Runner>,
    /// Names of kernels that have been run, by the plan they were run for.
    kernels: Vec<BTreeSet<String>>,
}

/// The device.
pub struct EmulatedDevice {
    info: DeviceInfo,
    budget: Budget,
    activations: Activations,
    /// Whether there are turned copies.
    turns: bool,
    shared: Arc<Mutex<Shared>>,
}

impl EmulatedDevice {
    /// On the emulation.
    pub fn new(activations: Activations, turns: bool) -> Self {
        Self::on(Emulator::new(), activations, turns)
    }

    /// On what runs kernels.
    pub fn on(runner: impl Runner + 'static, activations: Activations, turns: bool) -> Self {
        let info = DeviceInfo {
            id: NAME.to_owned(),
            name: "kernels on the host".to_owned(),
            kind: DeviceKind::Cpu,
            features: Vec::new(),
            units: 1,
        };
        let shared = Shared { bank: Bank::default(), emulator: Box::new(runner), kernels: Vec::new() };
        Self {
            info,
            budget: Budget::new(NAME, 1 << 30),
            activations,
            turns,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Names of the kernels that have been run so far.
    pub fn kernels(&self) -> Vec<String> {
        self.kernels_by_plan().into_iter().flatten().collect()
    }

    /// The same for each plan in the order in which they were prepared.
    pub fn kernels_by_plan(&self) -> Vec<BTreeSet<String>> {
        lock(&self.shared).kernels.clone()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no test goes on after a panic")
}

impl Device for EmulatedDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan) -> Result<(), DeviceError> {
        match prepare::unsupported(plan) {
            Some(what) => Err(DeviceError::Unsupported { device: NAME.to_owned(), what }),
            None => Ok(()),
        }
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        let mut shared = lock(&self.shared);
        let number = shared.kernels.len();
        shared.kernels.push(BTreeSet::new());
        let bank = &mut shared.bank;
        if bank.len() > MOST_PIECES {
            bank.truncate(0);
        }
        let mut matrices = Vec::new();
        for named in plan.weights() {
            let weight = &named.weight;
            let packed = planes::pack(weight, 0..weight.rows());
            let mut plane = |words: &[u32]| if words.is_empty() { Address::NULL } else { bank.hold(words) };
            let place = Planes {
                words: plane(&packed.words),
                scales: plane(&packed.scales),
                high: plane(&packed.high),
            };
            let turned = if self.turns { planes::turn(weight) } else { None };
            let turned = turned
                .map(|turned| Turned { words: bank.hold(&turned.words), scales: bank.hold(&turned.scales) });
            let vector = (weight.values() < 1 << 16).then(|| {
                let mut values = vec![0.0_f32; weight.rows() * weight.columns()];
                for (row, out) in values.chunks_exact_mut(weight.columns()).enumerate() {
                    block::dequantise_row(weight.dtype(), weight.row(row), out);
                }
                bank.hold(&values)
            });
            matrices.push((place, turned, vector));
        }
        let blocks = plan.steps().iter().filter_map(|step| match &step.op {
            Op::PerLayerEmbed { blocks, output, .. } => {
                let blocks: Vec<u32> = blocks.iter().map(|block| u32::from(*block)).collect();
                Some((*output, bank.hold(&blocks)))
            }
            _ => None,
        });
        let blocks = blocks.collect();
        let counters = bank.hold(&vec![0_u32; prepare::counters(&plan)]);
        let angles = RotaryTables::of(&plan);
        Ok(Box::new(EmulatedExecutable {
            plan,
            number,
            weights: Weights { matrices, blocks, counters },
            angles,
            activations: self.activations,
            output: Vec::new(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        let positions = Positions::new(NAME, layout, context, chunk)?;
        let bank = &mut lock(&self.shared).bank;
        let mut slots = |index: usize| {
            let values = positions.capacity(index) * layout.layers[index].width;
            let words = match layout.dtype {
                DType::F32 => bank.hold(&vec![f32::NAN; values]),
                DType::F16 => bank.hold(&vec![0x7e00_u16; values]),
                _ => bank.hold(&vec![0x55_u8; values]),
            };
            // Scales that are no numbers.
            let scales = if layout.dtype == DType::Q8_0 {
                bank.hold(&vec![0x7e00_u32; values / 32])
            } else {
                Address::NULL
            };
            Slots { words, scales }
        };
        let layers = (0..layout.layers.len()).map(|index| (slots(index), slots(index))).collect();
        Ok(Box::new(EmulatedCache { positions, layers }))
    }

    fn memory(&self) -> MemoryUse {
        self.budget.memory()
    }
}

struct Weights {
    matrices: Vec<(Planes, Option<Turned>, Option<Address>)>,
    blocks: Vec<(BufferId, Address)>,
    counters: Address,
}

struct EmulatedExecutable {
    plan: Arc<Plan>,
    /// Among all plans of the device.
    number: usize,
    weights: Weights,
    angles: RotaryTables,
    activations: Activations,
    output: Vec<f32>,
    shared: Arc<Mutex<Shared>>,
}

/// Where things lie in one run.
struct Places<'a> {
    weights: &'a Weights,
    buffers: Vec<Address>,
    ids: Address,
    header: Address,
    angles: Vec<(RotaryBase, Address)>,
    layers: Vec<CachedLayer>,
    scratch: Address,
}

impl Memory for Places<'_> {
    fn compute_units(&self) -> usize {
        COMPUTE_UNITS
    }

    fn buffer(&self, id: BufferId) -> Address {
        self.buffers[id.index()]
    }

    fn matrix(&self, id: WeightId) -> Planes {
        self.weights.matrices[id.index()].0
    }

    fn vector(&self, id: WeightId) -> Address {
        self.weights.matrices[id.index()].2.expect("vectors are short")
    }

    fn turned(&self, id: WeightId) -> Option<Turned> {
        self.weights.matrices[id.index()].1
    }

    fn table(&self, id: WeightId, _output: BufferId) -> Table {
        Table::Planes(self.matrix(id))
    }

    fn blocks(&self, output: BufferId) -> Address {
        self.weights.blocks.iter().find(|(id, _)| *id == output).expect("it has blocks").1
    }

    fn ids(&self) -> Address {
        self.ids
    }

    fn header(&self) -> Address {
        self.header
    }

    fn angles(&self, base: RotaryBase) -> Address {
        self.angles.iter().find(|(known, _)| *known == base).expect("every base of the plan").1
    }

    fn layer(&self, index: usize) -> CachedLayer {
        self.layers[index]
    }

    fn scratch(&self) -> Address {
        self.scratch
    }

    fn counters(&self) -> Address {
        self.weights.counters
    }
}

impl Executable for EmulatedExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, call: Call<'_>) -> Result<(), DeviceError> {
        call.check(NAME, &self.plan)?;
        let cache = call.cache.as_any_mut().downcast_mut::<EmulatedCache>().expect("an emulated cache");
        let (start, count) = (cache.positions.len(), call.tokens.len());
        cache.positions.begin(count);
        let mut shared = lock(&self.shared);
        let Shared { bank, emulator, kernels } = &mut *shared;
        let mark = bank.len();
        let plan = &self.plan;
        self.angles.fill(start, count);
        let bases = plan.steps().iter().filter_map(|step| match &step.op {
            Op::Rotary { heads, theta, stretch, .. } => {
                Some(RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim })
            }
            _ => None,
        });
        let layers = cache.layers.iter().enumerate().map(|(index, (keys, values))| CachedLayer {
            keys: *keys,
            values: *values,
            capacity: cache.positions.capacity(index),
        });
        // Every activation has exactly the rows of this run.
        let buffers =
            plan.buffers().iter().map(|buffer| bank.room(plan.row_count(buffer.rows, count) * buffer.width));
        let buffers: Vec<Address> = buffers.collect();
        let angles = bases.map(|base| (base, bank.hold(self.angles.rows(base, 0, count)))).collect();
        let places = Places {
            weights: &self.weights,
            buffers,
            ids: bank.hold(call.tokens),
            header: bank.hold(&[start as u32]),
            angles,
            layers: layers.collect(),
            scratch: bank.hold(&vec![0xff_u8; prepare::scratch_bytes(plan)]),
        };
        for launch in prepare::launches(plan, count, self.activations, &places) {
            let done = emulator.run(&launch, bank);
            done.map_err(|detail| DeviceError::Driver { device: NAME.to_owned(), detail })?;
            kernels[self.number].insert(launch.kernel);
        }
        self.output = plan.output().map_or(Vec::new(), |id| bank.read(places.buffers[id.index()]));
        bank.truncate(mark);
        cache.positions.commit(count);
        Ok(())
    }

    fn output(&self) -> &[f32] {
        &self.output
    }
}

struct EmulatedCache {
    positions: Positions,
    layers: Vec<(Slots, Slots)>,
}

impl Cache for EmulatedCache {
    fn positions(&self) -> &Positions {
        &self.positions
    }

    fn positions_mut(&mut self) -> &mut Positions {
        &mut self.positions
    }

    fn bytes(&self) -> u64 {
        self.positions.bytes()
    }

    fn export(&self) -> Result<Snapshot, DeviceError> {
        Err(DeviceError::Unsupported { device: NAME.to_owned(), what: "copies of a cache".to_owned() })
    }

    fn import(&mut self, _snapshot: &Snapshot) -> Result<(), DeviceError> {
        Err(DeviceError::Unsupported { device: NAME.to_owned(), what: "copies of a cache".to_owned() })
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
