//! A manifest of any text beside a code object of any bytes: read or refused, and what is read is what launches are made for.
//!
//! Up to the first NUL stands the manifest, what follows is the object, which all files are. In the manifest `@sources` and `@sha256` stand
//! for the digests that it must have.
#![no_main]

use gemma_hip_kernels::images::{digest, parse};
use gemma_hip_kernels::objects::{ARCHITECTURES, OPERATIONS, SOURCES, argument_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (manifest, object) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let filled = str::from_utf8(manifest)
        .map(|text| text.replace("@sources", SOURCES).replace("@sha256", &digest(object)));
    let manifest = filled.as_ref().map_or(manifest, String::as_bytes);
    for architecture in ARCHITECTURES {
        let read = |file: &str| {
            assert!(
                !file.is_empty() && file != ".." && !file.contains('/'),
                "{file:?} leads out of the folder"
            );
            Ok(object.to_vec())
        };
        let Ok(images) = parse(manifest, architecture, read) else { continue };
        assert!(images.len() >= OPERATIONS.len(), "only {} objects", images.len());
        for image in images {
            assert_eq!(image.words.len(), object.len().div_ceil(size_of::<u128>()));
            for kernel in image.kernels {
                assert!(argument_bytes(&kernel.name).is_none_or(|bytes| bytes == kernel.argument_bytes));
            }
        }
    }
});
