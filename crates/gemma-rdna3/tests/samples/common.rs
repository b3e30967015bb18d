//! What the tests share: sample kernels compiled by clang, arguments as bytes, random data.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gemma_rdna3::{CodeObject, Error, Memory, Options, Report, launch};

/// Ways in which every sample kernel is compiled.
pub(crate) const VARIANTS: [(&str, &str); 4] =
    [("gfx1103", "-O3"), ("gfx1103", "-O1"), ("gfx1100", "-O3"), ("gfx1100", "-O1")];

/// Most instructions of a launch in these tests.
pub(crate) const INSTRUCTIONS: u64 = 1_000_000;

/// A tool of LLVM 17 or newer by name, from the environment variable or from the path.
pub(crate) fn tool(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let names = (17..=22).rev().map(|version| format!("{name}-{version}")).chain([name.to_owned()]);
    let works = |name: &String| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = names.into_iter().find(works).map(PathBuf::from);
    found.unwrap_or_else(|| {
        panic!("this test needs {name} 17 or newer (apt-get install clang-19 lld-19 llvm-19), or its path in {variable}")
    })
}

/// The compiler, looked for once.
fn clang() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| tool("clang", "CLANG"))
}

/// The folder with the sample kernels.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")
}

/// The code object of a sample kernel file.
pub(crate) fn compile(file: &str, (chip, level): (&str, &str)) -> Vec<u8> {
    compile_with(&folder().join(file), chip, level, &[])
}

/// The code object that clang makes of a file.
pub(crate) fn compile_with(file: &Path, chip: &str, level: &str, flags: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a folder for the object");
    let target = directory.path().join("object.co");
    let output = Command::new(clang())
        .args(["-x", "hip", "--cuda-device-only", "--no-gpu-bundle-output", "-nogpuinc", "-nogpulib"])
        .args(["-std=c++17", "-Wall", "-Werror", "-ffp-contract=off", level])
        .arg(format!("--offload-arch={chip}"))
        .args(flags)
        .arg(file)
        .arg("-o")
        .arg(&target)
        .output()
        .expect("clang starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(target).expect("the object is there")
}

/// The segment of arguments, piece by piece.
#[derive(Default)]
pub(crate) struct Arguments(pub(crate) Vec<u8>);

impl Arguments {
    pub(crate) fn pointer(mut self, address: u64) -> Self {
        self.0.extend(address.to_le_bytes());
        self
    }

    pub(crate) fn word(mut self, value: i32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn float(mut self, value: f32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// Runs a kernel of an object with workgroups along x.
pub(crate) fn run(
    object: &CodeObject,
    name: &str,
    grid: u32,
    block: u32,
    arguments: Arguments,
    memory: &mut Memory,
    seed: u64,
) -> Result<Report, Error> {
    let kernel = object.kernel(name).unwrap_or_else(|| panic!("no kernel {name}"));
    let mut arguments = arguments.0;
    arguments.resize(kernel.argument_bytes(), 0);
    let options = Options { seed, instructions: INSTRUCTIONS, ..Options::default() };
    launch(object, kernel, [grid, 1, 1], [block, 1, 1], &arguments, memory, &options)
}

/// Runs a check on a sample file compiled in every way.
pub(crate) fn in_every_variant(file: &str, check: impl Fn(&CodeObject, u64)) {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let object = CodeObject::parse(&compile(file, variant));
        let object = object.unwrap_or_else(|error| panic!("{file} {variant:?}: {error}"));
        assert_eq!(object.chip(), variant.0);
        check(&object, index as u64 + 1);
    }
}

/// Bytes of numbers.
pub(crate) fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    bytes(values, |value| value.to_le_bytes())
}

pub(crate) fn words(values: &[i32]) -> Vec<u8> {
    bytes(values, |value| value.to_le_bytes())
}

pub(crate) fn halves(values: &[half::f16]) -> Vec<u8> {
    bytes(values, |value| value.to_le_bytes())
}

/// Numbers of a buffer.
pub(crate) fn read<T, const N: usize>(
    memory: &Memory,
    address: u64,
    count: usize,
    from: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let bytes = memory.read(address, count * N).expect("the buffer is there");
    bytes.chunks_exact(N).map(|chunk| from(chunk.try_into().expect("whole chunks"))).collect()
}

pub(crate) fn read_floats(memory: &Memory, address: u64, count: usize) -> Vec<f32> {
    read(memory, address, count, f32::from_le_bytes)
}

pub(crate) fn read_words(memory: &Memory, address: u64, count: usize) -> Vec<i32> {
    read(memory, address, count, i32::from_le_bytes)
}

pub(crate) fn read_halves(memory: &Memory, address: u64, count: usize) -> Vec<half::f16> {
    read(memory, address, count, half::f16::from_le_bytes)
}

/// Random numbers that a seed repeats.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    /// Between -1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(crate) fn halves(&mut self, count: usize) -> Vec<half::f16> {
        (0..count).map(|_| half::f16::from_f32(self.float())).collect()
    }

    pub(crate) fn words(&mut self, count: usize) -> Vec<i32> {
        (0..count).map(|_| self.bits() as i32).collect()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }
}
