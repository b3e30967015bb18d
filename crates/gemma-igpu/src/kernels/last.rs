//! The one way in which cubes of a launch wait for each other: each announces what it has written, and the one that comes last
//! goes on with it. Nobody spins.

use cubecl::prelude::*;

/// Whether all other `parts` of counter `counter` have come here before, whose writes this cube can read then. The counter is
/// zero before the launch, and again behind it.
///
/// Every unit must come here.
#[cube]
pub(super) fn is_last(counters: &mut [Atomic<u32>], counter: usize, #[comptime] parts: usize) -> bool {
    let mut arrived = Shared::<u32>::new();
    // What this cube has written is there for whoever comes last.
    sync_storage();
    if UNIT_POS == 0 {
        let before = counters[counter].fetch_add(1u32);
        if before == comptime!(parts as u32 - 1) {
            counters[counter].store(0u32);
        }
        *arrived = before;
    }
    // And what others have written before they came is there for this one.
    sync_storage();
    *arrived == comptime!(parts as u32 - 1)
}
