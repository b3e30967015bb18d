//! Code objects that are missing, old, or another GPU's.

mod common;

use std::fs;
use std::path::Path;

use common::{Machine, build_folder, options};
use gemma_hal::{Device, DeviceError};
use gemma_hip::{HipDevice, HipOptions};
use gemma_hip_kernels::images::digest;
use gemma_hip_kernels::objects::{MANIFEST, SOURCES, file_name, folder};

/// Opens the GPU with a copy of the built objects, which `change` has changed.
fn open(change: impl FnOnce(&Path)) -> Result<(), DeviceError> {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(&build_folder())).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    change(copy.path());
    let options = HipOptions { kernels: Some(copy.path().to_owned()), ..options() };
    HipDevice::new(&Machine::new().adapter(), &options).map(|device| assert!(device.memory().used == 0))
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn the_built_objects_can_be_loaded() {
    open(|_| ()).unwrap();
}

#[test]
fn objects_that_do_not_fit_are_refused_with_what_to_do() {
    let file = file_name("copy", "gfx1103");
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(Change<'_>, &str); 6] = [
        (&|folder| fs::remove_file(folder.join(MANIFEST)).unwrap(), "no code objects of HIP kernels"),
        (&|folder| fs::remove_file(folder.join(&file)).unwrap(), "copy.gfx1103.co: "),
        (&|folder| edit(folder, SOURCES, "0badc0de"), "of other sources than this program"),
        (
            &|folder| edit(folder, "architecture = \"gfx1103\"", "architecture = \"gfx1150\""),
            "no object for gfx1103",
        ),
        (&|folder| fs::write(folder.join(&file), "old").unwrap(), "is not the object that was built"),
        (
            &|folder| {
                // The same object as one for gfx1100, by the flags in its header.
                let path = folder.join(&file);
                let mut bytes = fs::read(&path).unwrap();
                let old = digest(&bytes);
                bytes[48] = 0x41;
                fs::write(&path, &bytes).unwrap();
                edit(folder, &old, &digest(&bytes));
            },
            "hipModuleLoadData of copy.gfx1103.co",
        ),
    ];
    for (change, words) in changes {
        let error = open(change).unwrap_err();
        let DeviceError::Driver { detail, .. } = &error else { panic!("{error}") };
        assert!(detail.contains(words) && detail.contains("cargo xtask build-kernels --hip"), "{detail}");
    }
}
