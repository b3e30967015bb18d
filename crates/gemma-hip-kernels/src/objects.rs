//! Where `cargo xtask build-kernels` leaves what it builds, and which object has which kernel.

use std::path::{Path, PathBuf};

use crate::arguments::SIZES;

/// SHA-256 of the sources that this crate was compiled beside, in hexadecimal; the manifest of objects of the same sources has the same.
pub const SOURCES: &str = env!("GEMMA_HIP_SOURCES");

/// The file that says what was built, beside the objects.
pub const MANIFEST: &str = "manifest.toml";

/// Processors that objects are built for.
pub const ARCHITECTURES: [&str; 6] = ["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151"];

/// Sources of `kernels/hip`, an object each, with how the names of their kernels begin.
pub const OPERATIONS: [(&str, &[&str]); 22] = [
    ("activation", &["activation_"]),
    ("attention", &["attention_f32", "attention_f16", "attention_q8_0"]),
    ("attention_step", &["attention_step_"]),
    ("attention_wmma", &["attention_wmma_"]),
    ("copy", &["copy_values"]),
    ("feed_forward", &["feed_forward_"]),
    ("gated", &["gated_"]),
    ("gather", &["gather_"]),
    ("gemm_tile", &["gemm_tile_"]),
    ("gemm_wmma", &["gemm_wmma_"]),
    ("gemm_wmma_int8", &["gemm_wmma_"]),
    ("norm", &["rms_norm", "add_norm"]),
    ("per_layer", &["per_layer_embed", "per_layer_scale", "per_layer_multiply"]),
    ("per_layer_gate", &["per_layer_gate_"]),
    ("product", &["product_"]),
    ("products", &["products_"]),
    ("rotary", &["rotary_"]),
    ("shortlist", &["shortlist_", "argmax"]),
    ("sparse_cut", &["sparse_cut_"]),
    ("sparse_down", &["sparse_down_"]),
    ("sparse_up", &["sparse_up_"]),
    ("streams", &["altup_", "attention_residual", "per_layer_add"]),
];

/// The operation whose object has this kernel.
pub fn operation_of(kernel: &str) -> Option<&'static str> {
    if kernel.starts_with("gemm_wmma_") {
        return Some(if kernel.ends_with("_int8") { "gemm_wmma_int8" } else { "gemm_wmma" });
    }
    let has = |names: &[&str]| names.iter().any(|name| kernel.starts_with(name));
    OPERATIONS.iter().find(|(_, names)| has(names)).map(|(operation, _)| *operation)
}

/// Bytes of the structure that a kernel takes, if there is such a kernel.
pub fn argument_bytes(kernel: &str) -> Option<usize> {
    let is_of = |name: &str| if name.ends_with('_') { kernel.starts_with(name) } else { kernel == name };
    let known = SIZES.iter().filter(|(name, _)| is_of(name));
    known.max_by_key(|(name, _)| name.len()).map(|(_, bytes)| *bytes)
}

/// The file of an operation's object for a processor.
pub fn file_name(operation: &str, architecture: &str) -> String {
    format!("{operation}.{architecture}.co")
}

/// Under a build folder (`target`): the code objects and their `manifest.toml`.
pub fn folder(build: &Path) -> PathBuf {
    build.join("kernels").join("hip")
}

/// Under a build folder: `libgemma_kernels_emulated.so` and the process `checked`.
pub fn emulation_folder(build: &Path) -> PathBuf {
    build.join("kernels").join("emulation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_one_operation() {
        for (kernel, operation) in [
            ("product_q4_0_int8", Some("product")),
            ("products_f16_f32", Some("products")),
            ("attention_f16", Some("attention")),
            ("attention_step_f16", Some("attention_step")),
            ("attention_wmma_q8_0", Some("attention_wmma")),
            ("attention_residual", Some("streams")),
            ("per_layer_gate_f32_f32", Some("per_layer_gate")),
            ("per_layer_add", Some("streams")),
            ("gemm_wmma_q4_0_f16_32", Some("gemm_wmma")),
            ("gemm_wmma_q4_0_int8", Some("gemm_wmma_int8")),
            ("argmax", Some("shortlist")),
            ("unheard_of", None),
        ] {
            assert_eq!(operation_of(kernel), operation, "{kernel}");
        }
    }
}
