//! Who comes last: the cube that goes on with what all cubes of a launch have written, in place of another launch.
//!
//! Only for adapters whose cubes can see each other's writes, see [`crate::gpu::Gpu::cubes_meet`].

use cubecl::prelude::*;

/// Whether this is the last one of `cubes` cubes to come here. Then it sees what the others have written before they came,
/// and the counter is zero again, as it must have been at first.
///
/// Every unit must come here.
#[cube]
pub(super) fn comes_last(counters: &mut [Atomic<u32>], counter: usize, cubes: u32) -> bool {
    let mut arrived = Shared::<u32>::new();
    // What this cube has written is there for whoever comes last.
    sync_storage();
    if UNIT_POS == 0 {
        *arrived = counters[counter].fetch_add(1u32);
    }
    // And what others have written before they came is there for this one.
    sync_storage();
    let last = *arrived == cubes - 1;
    if last && UNIT_POS == 0 {
        counters[counter].store(0u32);
    }
    last
}
