//! A config.json of any bytes; one that is accepted must bear every question that a plan asks of it.
//!
//! What stands behind the first NUL is read as a slice's TOML and taken from that configuration.
#![no_main]

use gemma_matformer::{Config, Slice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (json, toml) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let slice = Slice::from_toml(toml, "fuzz");
    let Ok(config) = Config::from_json(json, "fuzz") else { return };
    config.validate("fuzz").expect("what was accepted is valid");
    for layer in 0..config.layers() {
        let source = config.kv_source(layer);
        assert!(config.owns_kv(source), "layer {layer} takes keys and values from {source}, which has none");
        let _ = (config.layer_theta(layer), config.sparsity_multiplier(layer));
    }
    let _ = (config.kv_width(), config.query_width(), Slice::fraction(&config, 2));
    if let Ok(slice) = slice {
        if let Ok((child, _)) = slice.apply(&config) {
            child.validate("fuzz").expect("a slice of a valid configuration is valid");
        }
    }
});
