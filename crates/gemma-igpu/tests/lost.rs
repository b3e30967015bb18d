//! A device that is lost says so. Alone in its process: the adapter is gone for all of it.

mod common;

use std::sync::Arc;
use std::time::Duration;

use gemma_hal::op::Op;
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, DeviceError, Outputs, PlanBuilder, Rows, Storage, Weight,
};

#[test]
fn a_destroyed_device_is_lost() {
    let device = common::device();

    let values: Vec<u8> = (0..64_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let table = Weight::new(Storage::new("test", values), 0, 4, 16, DType::F32).unwrap();
    let layout = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
    let mut plan = PlanBuilder::new("embed", 2, Outputs::All, 1e-6, layout);
    let table = plan.weight("table", table);
    let output = plan.buffer("embedded", Rows::Tokens, 16);
    plan.push(None, Op::Embed { table, scale: 2.0, output });
    let plan = Arc::new(plan.finish(Some(output)).unwrap());

    let mut executable = device.prepare(Arc::clone(&plan)).unwrap();
    let mut cache = device.create_cache(plan.cache(), 8, 2).unwrap();
    let mut run = |tokens: &[u32]| {
        let deadline = Deadline::after(Duration::from_mins(1));
        executable.run(Call { tokens, cache: cache.as_mut(), deadline, probe: None })
    };
    run(&[1]).unwrap();
    device.destroy();
    for _ in 0..2 {
        let lost = run(&[2]).unwrap_err();
        assert!(matches!(lost, DeviceError::Lost { .. }), "{lost}");
    }
}
