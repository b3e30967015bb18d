//! A GGUF file of any bytes: header, metadata, tensor directory, configuration and vocabulary are read or refused.
//!
//! The first two bytes are a number of times 32 zeros of tensor data to add, so that directories of real models fit
//! into small inputs.
#![no_main]

use gemma_hal::Storage;
use gemma_matformer::Checkpoint;
use libfuzzer_sys::fuzz_target;

/// Values of a block; every tensor of a real model ends on one.
const DATA_STEP: usize = 32;

fuzz_target!(|data: &[u8]| {
    let Some((steps, rest)) = data.split_first_chunk() else { return };
    let steps = usize::from(u16::from_le_bytes(*steps));
    let mut file = rest.to_vec();
    file.resize(file.len() + steps * DATA_STEP, 0);
    if let Ok(checkpoint) = Checkpoint::from_gguf_storage(&Storage::new("fuzz", file)) {
        if let Ok(weights) = checkpoint.weights() {
            let _ = weights.check_finite();
        }
    }
});
