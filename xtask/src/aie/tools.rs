//! Where Peano (clang for AIE2) and mlir-aie are, and which flags its compiler driver takes.
//!
//! Both come as Python packages or as folders that environment variables name. Nothing is installed here.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A look into the environment, by a variable's name.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

const PEANO: &str = "PEANO_INSTALL_DIR";
const MLIR_AIE: &str = "MLIR_AIE_INSTALL_DIR";

const GET_PEANO: &str =
    "pip install llvm-aie -f https://github.com/Xilinx/llvm-aie/releases/expanded_assets/nightly";
/// Of the wheels of all days, and of the release that is there when those have become too new.
const GET_MLIR_AIE: &str = "pip install --pre \"mlir_aie<1.4.1\" -f https://github.com/Xilinx/mlir-aie/releases/expanded_assets/latest-wheels-4 \
                            -f https://github.com/Xilinx/mlir-aie/releases/expanded_assets/v1.3.4";

/// The first version of mlir-aie that is refused, with its pre-releases, as pip understands the command above. Designs are written with
/// `aie.objectfifo.subview.access`, which the compiler dropped soon after.
const TOO_NEW: [u64; 3] = [1, 4, 1];

/// What a Python says of where its packages are.
const ASK_PYTHON: &str =
    "import site, sysconfig; print(sysconfig.get_path('platlib')); print(site.getusersitepackages())";

/// Both, or why not.
pub(super) struct Tools {
    pub(super) peano: Result<Peano, String>,
    pub(super) mlir_aie: Result<MlirAie, String>,
}

/// Clang for the cores.
#[derive(Clone, Debug)]
pub(super) struct Peano {
    pub(super) root: PathBuf,
    pub(super) clang: PathBuf,
    pub(super) version: String,
}

/// The compiler of designs.
#[derive(Clone, Debug)]
pub(super) struct MlirAie {
    pub(super) root: PathBuf,
    pub(super) driver: PathBuf,
    pub(super) flags: Flags,
    /// What it prints for `--help`, which tells versions apart.
    help: String,
}

/// How its driver is asked for outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flags {
    /// `--aie-generate-xclbin`, `--aie-generate-npu-insts`: aiecc.py from March 2025 on, and aiecc from February 2026 on.
    Generate,
    /// `--get-xclbin`, `--get-npu-insts`: aiecc from July 2026 on.
    Get,
}

impl Tools {
    pub(super) fn find(environment: Environment<'_>) -> Self {
        let folders = python_folders(environment);
        let peano =
            place(environment, PEANO, &folders, "llvm-aie", GET_PEANO).and_then(|root| Peano::of(&root));
        let mlir_aie = place(environment, MLIR_AIE, &folders, "mlir_aie", GET_MLIR_AIE)
            .and_then(|root| MlirAie::of(&root));
        Self { peano, mlir_aie }
    }

    /// What is missing, and what to do about it.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        let all = [self.peano.as_ref().err(), self.mlir_aie.as_ref().err()];
        all.into_iter().flatten().map(String::as_str)
    }
}

impl Peano {
    fn of(root: &Path) -> Result<Self, String> {
        let clang = root.join("bin").join("clang++");
        let answer = output(Command::new(&clang).arg("--version"))
            .map_err(|error| format!("Peano (llvm-aie) in {} does not answer: {error}", root.display()))?;
        let version = answer.lines().next().unwrap_or_default().to_owned();
        Ok(Self { root: root.to_owned(), clang, version })
    }
}

impl MlirAie {
    fn of(root: &Path) -> Result<Self, String> {
        let place = root.display();
        if let Some(version) = installed(root).filter(|version| is_too_new(version)) {
            return Err(format!(
                "mlir-aie {version} in {place} is too new: designs are written for versions before 1.4.1, and later ones do not read \
                 aie.objectfifo.subview.access any more; {GET_MLIR_AIE}"
            ));
        }
        if !root.join("include").join("aie_api").join("aie.hpp").is_file() {
            return Err(format!(
                "mlir-aie in {place} has no include/aie_api/aie.hpp, which kernels are written with"
            ));
        }
        let bin = root.join("bin");
        let driver = ["aiecc", "aiecc.py"].map(|name| bin.join(name)).into_iter().find(|path| path.is_file());
        let driver =
            driver.ok_or_else(|| format!("mlir-aie in {place} has neither bin/aiecc nor bin/aiecc.py"))?;
        let mut found = Self { root: root.to_owned(), driver, flags: Flags::Get, help: String::new() };
        found.help = output(found.command(&|name| std::env::var_os(name)).arg("--help"))
            .map_err(|error| format!("{} --help fails: {error}", found.driver.display()))?;
        // The later driver's help names its flags as `--get-<name> shorthands (e.g. --get-xclbin)`.
        found.flags = if found.help.contains("--get-xclbin") {
            Flags::Get
        } else if found.takes("--aie-generate-xclbin") && found.takes("--aie-generate-npu-insts") {
            Flags::Generate
        } else {
            return Err(format!(
                "{} takes neither --get-xclbin nor --aie-generate-xclbin with --aie-generate-npu-insts: it is older than March \
                 2025 or newer than this was written for; {GET_MLIR_AIE}",
                found.driver.display()
            ));
        };
        Ok(found)
    }

    /// Whether the help has a flag, not just one that begins like it.
    fn takes(&self, flag: &str) -> bool {
        self.help.match_indices(flag).any(|(at, _)| {
            let after = self.help[at + flag.len()..].chars().next();
            !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    }

    /// The driver, with its own programs and Python modules before others.
    pub(super) fn command(&self, environment: Environment<'_>) -> Command {
        let before = |folder: PathBuf, name| {
            let rest = environment(name).unwrap_or_default();
            let folders = std::iter::once(folder).chain(std::env::split_paths(&rest));
            std::env::join_paths(folders).unwrap_or(rest.clone())
        };
        let mut command = Command::new(&self.driver);
        command.env("PATH", before(self.root.join("bin"), "PATH"));
        command.env("PYTHONPATH", before(self.root.join("python"), "PYTHONPATH"));
        command
    }

    /// What makes `<name>.xclbin` and `<name>.insts.bin` of `<name>.mlir`, in the folder of that.
    pub(super) fn arguments(&self, name: &str, peano: &Peano) -> Vec<String> {
        let (xclbin, instructions) = match self.flags {
            Flags::Generate => ("--aie-generate-xclbin", "--aie-generate-npu-insts"),
            Flags::Get => ("--get-xclbin", "--get-npu-insts"),
        };
        // Versions differ in which compiler they take where none is named.
        let optional = ["--no-xchesscc", "--no-xbridge", "--no-compile-host"];
        let mut all: Vec<String> =
            optional.into_iter().filter(|flag| self.takes(flag)).map(str::to_owned).collect();
        all.extend([
            format!("--peano={}", peano.root.display()),
            format!("--tmpdir={name}.prj"),
            xclbin.to_owned(),
            format!("--xclbin-name={name}.xclbin"),
            instructions.to_owned(),
            format!("--npu-insts-name={name}.insts.bin"),
            format!("{name}.mlir"),
        ]);
        all
    }

    /// Of the driver, by which outputs are told apart.
    pub(super) fn version(&self) -> String {
        let bytes = fs::read(&self.driver).unwrap_or_default();
        super::fingerprint(&[&bytes, self.help.as_bytes()])
    }
}

/// The folder that a variable names, else the first Python folder that has the package.
fn place(
    environment: Environment<'_>,
    variable: &str,
    folders: &[PathBuf],
    package: &str,
    get: &str,
) -> Result<PathBuf, String> {
    if let Some(named) = environment(variable).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_dir() {
            Ok(named)
        } else {
            Err(format!("{variable} names {}, which is no folder", named.display()))
        };
    }
    let found = folders.iter().map(|folder| folder.join(package)).find(|path| path.is_dir());
    found.ok_or_else(|| {
        let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let looked = if looked.is_empty() { "there is no Python".to_owned() } else { looked.join(", ") };
        format!("{package} is missing: {variable} is not set, and it is not among Python's packages ({looked}); {get}")
    })
}

/// Where Python packages are: of the active environment, then of the Python on the path.
fn python_folders(environment: Environment<'_>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        let Some(root) = environment(variable) else { continue };
        let entries = fs::read_dir(Path::new(&root).join("lib")).into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = entries.map(|entry| entry.path().join("site-packages")).collect();
        versions.retain(|path| path.is_dir());
        versions.sort();
        folders.extend(versions);
    }
    let path = environment("PATH").unwrap_or_default();
    let python =
        std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|path| path.is_file());
    if let Some(answer) = python.and_then(|python| output(Command::new(python).args(["-c", ASK_PYTHON])).ok())
    {
        folders.extend(answer.lines().map(PathBuf::from));
    }
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// The version of mlir-aie in a folder, where Python's packages are and one entry beside it tells: `mlir_aie-<version>.dist-info`. The
/// driver itself prints a commit alone, of which nobody knows what came after it.
fn installed(root: &Path) -> Option<String> {
    let root = fs::canonicalize(root).ok()?;
    let entries = fs::read_dir(root.parent().filter(|_| root.ends_with("mlir_aie"))?).ok()?;
    let mut versions = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("mlir_aie-")?.strip_suffix(".dist-info")?.to_owned())
    });
    // Two of them are left over from something that went wrong.
    versions.next().filter(|_| versions.next().is_none())
}

/// Whether a version, such as `1.3.2.dev126+g8373e49`, is [`TOO_NEW`].
fn is_too_new(version: &str) -> bool {
    let release = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    [(); 3].map(|()| numbers.next().unwrap_or(0)) >= TOO_NEW
}

/// What a command writes to its standard output.
fn output(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
