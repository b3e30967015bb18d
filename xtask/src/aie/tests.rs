//! Made-up installations: folders with small scripts in the place of compilers, for each kind of place and each kind of flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gemma_npu_kernels::design::Design;
use gemma_npu_kernels::gemm::Gemm;
use gemma_npu_kernels::kernels::{Product, Shape};
use tempfile::TempDir;

use super::device;
use super::host::Host;
use super::manifest::{self, Manifest};
use super::tools::{Flags, Tools};

/// Answers `--version`; else writes the file behind `-o`, which says what it was made of.
const CLANG: &str = r#"
[ "$1" = --version ] && { echo "clang version 20.0.0 (made up)"; exit; }
case " $* " in *" --target=aie2-none-unknown-elf "*) ;; *) echo "another target" >&2; exit 1;; esac
echo object "$@" >> "${0%/*}/calls"
while [ "$1" != -o ]; do shift; done
echo object > "$2"
"#;

/// A driver that knows these flags alone, with `@` for what each kind has of its own.
const DRIVER: &str = r#"
[ "$1" = --help ] && { printf '%s\n' @HELP@; exit; }
for word; do
    case $word in
        @XCLBIN@) xclbin=1;; @INSTS@) insts=1;;
        --peano=*) [ -x "${word#*=}/bin/clang++" ] || exit 1;;
        --xclbin-name=*) xclbin_name=${word#*=};; --npu-insts-name=*) insts_name=${word#*=};;
        --tmpdir=*|@MORE@) ;;
        *.mlir) grep -q 'aie.device(npu1)' "$word" || exit 1;;
        *) echo "Unknown command line argument '$word'" >&2; exit 1;;
    esac
done
echo design "$@" >> "${0%/*}/calls"
[ -e gemm_i8_i32.o ] || { echo "no gemm_i8_i32.o" >&2; exit 1; }
[ -z "$xclbin" ] || echo xclbin > "$xclbin_name"
[ -z "$insts" ] || echo insts > "$insts_name"
"#;

/// What a kind of driver lists, takes for the two outputs, and takes besides.
struct Kind {
    file: &'static str,
    help: &'static str,
    outputs: [&'static str; 2],
    more: &'static str,
    flags: Flags,
}

const KINDS: [Kind; 4] = [
    // March 2025 to January 2026.
    Kind {
        file: "aiecc.py",
        help: "--aie-generate-xclbin --aie-generate-npu-insts --no-xchesscc --no-xbridge --no-compile-host",
        outputs: ["--aie-generate-xclbin", "--aie-generate-npu-insts"],
        more: "--no-xchesscc|--no-xbridge|--no-compile-host",
        flags: Flags::Generate,
    },
    // February to July 2026.
    Kind {
        file: "aiecc",
        help: "--aie-generate-npu-insts --aie-generate-xclbin --no-compile-host --no-xbridge --no-xchesscc",
        outputs: ["--aie-generate-xclbin", "--aie-generate-npu-insts"],
        more: "--no-xchesscc|--no-xbridge|--no-compile-host",
        flags: Flags::Generate,
    },
    // After that, with another compiler where none is named.
    Kind {
        file: "aiecc",
        help: "'--get=<name> have --get-<name> shorthands (e.g. --get-xclbin)' --no-xbridge --no-xchesscc",
        outputs: ["--get-xclbin", "--get-npu-insts"],
        more: "--no-xchesscc|--no-xbridge",
        flags: Flags::Get,
    },
    // Later still.
    Kind {
        file: "aiecc",
        help: "'--get=<name> have --get-<name> shorthands (e.g. --get-xclbin)' --xbridge --xchesscc",
        outputs: ["--get-xclbin", "--get-npu-insts"],
        more: "--none",
        flags: Flags::Get,
    },
];

/// Written by another process: a program that this one has open for writing could not be started.
fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut child = install.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn peano(root: &Path) {
    script(&root.join("bin/clang++"), CLANG);
}

fn mlir_aie(root: &Path, kind: &Kind) {
    let text = DRIVER.replace("@HELP@", kind.help).replace("@MORE@", kind.more);
    let text = text.replace("@XCLBIN@", kind.outputs[0]).replace("@INSTS@", kind.outputs[1]);
    script(&root.join("bin").join(kind.file), &text);
    fs::create_dir_all(root.join("include/aie_api")).unwrap();
    fs::write(root.join("include/aie_api/aie.hpp"), "").unwrap();
}

fn find(variables: &[(&str, &Path)]) -> Tools {
    let variables: BTreeMap<&str, OsString> =
        variables.iter().map(|(name, path)| (*name, path.as_os_str().to_owned())).collect();
    Tools::find(&|name| variables.get(name).cloned())
}

fn sources() -> PathBuf {
    crate::repository().unwrap().join(super::SOURCES)
}

/// A folder with the text of a design.
fn out(folder: &Path) -> Vec<(Gemm, Design)> {
    let gemm = Gemm::new(Product::I8, Shape::new(256, 128, 256));
    let design = gemm.design().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{}.mlir", design.name)), gemma_npu_kernels::mlir::text(&design)).unwrap();
    vec![(gemm, design)]
}

const FILES: [&str; 3] =
    ["gemm_i8_i32.o", "gemm_i8_i32_256x128x256.xclbin", "gemm_i8_i32_256x128x256.insts.bin"];

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.files.iter().map(|file| &*file.name).collect()
}

#[test]
fn kernels_are_right_on_this_machine_and_in_the_simulated_array() {
    let folder = TempDir::new().unwrap();
    let host = Host::build(&sources(), folder.path()).unwrap();
    host.check().unwrap();
    for product in Product::ALL {
        super::simulate(product, &host).unwrap();
    }
}

#[test]
fn each_kind_of_driver_makes_all_files() {
    for (number, kind) in KINDS.iter().enumerate() {
        let folder = TempDir::new().unwrap();
        let (peano_root, mlir_root) = (folder.path().join("peano"), folder.path().join("mlir"));
        peano(&peano_root);
        mlir_aie(&mlir_root, kind);
        let tools = find(&[("PEANO_INSTALL_DIR", &peano_root), ("MLIR_AIE_INSTALL_DIR", &mlir_root)]);
        assert_eq!(tools.problems().collect::<Vec<_>>(), [""; 0], "kind {number}");
        assert_eq!(tools.mlir_aie.as_ref().unwrap().flags, kind.flags);
        let place = folder.path().join("out");
        let manifest = device::build(&sources(), &place, &out(&place), &tools).unwrap();
        assert_eq!(names(&manifest), FILES, "kind {number}");
        assert_eq!(manifest.missing, [""; 0]);
        for file in &manifest.files {
            assert!(place.join(&file.name).is_file());
        }
    }
}

#[test]
fn tools_are_found_where_they_may_be() {
    let folder = TempDir::new().unwrap();
    let packages = folder.path().join("env/lib/python3.12/site-packages");
    peano(&packages.join("llvm-aie"));
    mlir_aie(&packages.join("mlir_aie"), &KINDS[1]);
    // A Python that says where they are.
    let bin = folder.path().join("bin");
    script(&bin.join("python3"), &format!("echo /nowhere; echo '{}'\n", packages.display()));
    let environment = folder.path().join("env");
    for variables in
        [&[("VIRTUAL_ENV", &*environment)][..], &[("CONDA_PREFIX", &environment)], &[("PATH", &bin)]]
    {
        let tools = find(variables);
        assert_eq!(tools.problems().collect::<Vec<_>>(), [""; 0], "{variables:?}");
        assert_eq!(tools.peano.unwrap().root, packages.join("llvm-aie"));
        assert_eq!(tools.mlir_aie.unwrap().driver, packages.join("mlir_aie/bin/aiecc"));
    }
}

#[test]
fn what_is_missing_is_said_with_how_to_get_it() {
    let folder = TempDir::new().unwrap();
    let tools = find(&[("PATH", folder.path())]);
    let problems: Vec<_> = tools.problems().collect();
    assert!(problems[0].contains("pip install llvm-aie -f https://"), "{problems:?}");
    assert!(problems[1].contains("pip install --pre \"mlir_aie<1.4.1\" -f https://"), "{problems:?}");
    let place = folder.path().join("out");
    let manifest = device::build(&sources(), &place, &out(&place), &tools).unwrap();
    assert_eq!(manifest.missing, FILES);
    assert_eq!(names(&manifest), [""; 0]);
    let report = super::report(&manifest, &tools, &place);
    assert!(report.starts_with("0 files for an NPU") && report.contains(&FILES.join(", ")), "{report}");
}

#[test]
fn what_does_not_work_is_said() {
    let folder = TempDir::new().unwrap();
    let root = |name: &str| folder.path().join(name);
    script(&root("silent/bin/clang++"), "echo broken >&2; exit 3\n");
    fs::create_dir_all(root("empty")).unwrap();
    mlir_aie(&root("old"), &Kind { help: "--aie-generate-npu --aie-generate-xclbin-x", ..KINDS[1] });
    mlir_aie(&root("none"), &KINDS[1]);
    fs::remove_file(root("none/bin/aiecc")).unwrap();
    mlir_aie(&root("bare"), &KINDS[1]);
    fs::remove_file(root("bare/include/aie_api/aie.hpp")).unwrap();
    for (variable, place, wanted) in [
        ("PEANO_INSTALL_DIR", "nowhere", "which is no folder"),
        ("PEANO_INSTALL_DIR", "silent", "does not answer: exit status: 3: broken"),
        ("PEANO_INSTALL_DIR", "empty", "does not answer"),
        ("MLIR_AIE_INSTALL_DIR", "empty", "has no include/aie_api/aie.hpp"),
        ("MLIR_AIE_INSTALL_DIR", "bare", "has no include/aie_api/aie.hpp"),
        ("MLIR_AIE_INSTALL_DIR", "none", "has neither bin/aiecc nor bin/aiecc.py"),
        ("MLIR_AIE_INSTALL_DIR", "old", "takes neither --get-xclbin nor"),
    ] {
        let tools = find(&[(variable, &root(place))]);
        assert!(tools.problems().any(|problem| problem.contains(wanted)), "{place}: {wanted}");
    }
}

#[test]
fn a_version_that_is_too_new_is_refused_where_it_can_be_told() {
    for (entries, too_new) in [
        (&["mlir_aie-1.3.2.dev126+g8373e49.dist-info"][..], false),
        (&["mlir_aie-1.3.4.dist-info"], false),
        (&["mlir_aie-1.4.0.dist-info", "mlir_aie.libs", "mlir_aie_extra-2.0.0.dist-info"], false),
        (&["mlir_aie-0.0.1.2025031904+abc.dist-info"], false),
        (&["mlir_aie-1.4.1.dist-info"], true),
        (&["mlir_aie-1.4.1.dev3+g0123456.dist-info"], true),
        (&["mlir_aie-1.4.1rc1.dist-info"], true),
        (&["mlir_aie-1.4.2.dist-info", "other-1.0.0.dist-info"], true),
        (&["mlir_aie-1.10.dist-info"], true),
        (&["mlir_aie-2.dist-info"], true),
        // Nothing is told.
        (&[], false),
        (&["mlir_aie-next.dist-info"], false),
        (&["mlir_aie-1.4.2.dist-info", "mlir_aie-1.3.4.dist-info"], false),
        (&["other-1.4.2.dist-info"], false),
    ] {
        let folder = TempDir::new().unwrap();
        let packages = folder.path().join("env/lib/python3.12/site-packages");
        mlir_aie(&packages.join("mlir_aie"), &KINDS[2]);
        for entry in entries {
            fs::create_dir_all(packages.join(entry)).unwrap();
        }
        // Found, and named.
        let (environment, package) = (&*folder.path().join("env"), &*packages.join("mlir_aie"));
        for variable in [("VIRTUAL_ENV", environment), ("MLIR_AIE_INSTALL_DIR", package)] {
            let found = find(&[variable]).mlir_aie.map(|found| found.flags);
            let problem = found.as_ref().err().cloned().unwrap_or_default();
            assert_eq!(found.is_err(), too_new, "{entries:?}: {problem}");
            for words in ["is too new", "subview.access", "--pre \"mlir_aie<1.4.1\""] {
                assert_eq!(problem.contains(words), too_new, "{entries:?}: {problem}");
            }
        }
    }
    // A folder of another name is no package, whatever stands beside it.
    let folder = TempDir::new().unwrap();
    mlir_aie(&folder.path().join("install"), &KINDS[2]);
    fs::create_dir_all(folder.path().join("mlir_aie-1.4.2.dist-info")).unwrap();
    assert!(find(&[("MLIR_AIE_INSTALL_DIR", &folder.path().join("install"))]).mlir_aie.is_ok());
}

#[test]
fn only_what_has_changed_is_made_again() {
    let folder = TempDir::new().unwrap();
    let (peano_root, mlir_root, place) =
        (folder.path().join("peano"), folder.path().join("mlir"), folder.path().join("out"));
    peano(&peano_root);
    mlir_aie(&mlir_root, &KINDS[1]);
    let designs = out(&place);
    let build = || {
        let tools = find(&[("PEANO_INSTALL_DIR", &peano_root), ("MLIR_AIE_INSTALL_DIR", &mlir_root)]);
        let manifest = device::build(&sources(), &place, &designs, &tools)?;
        fs::write(place.join(manifest::NAME), manifest.text())?;
        let calls =
            |root: &Path| fs::read_to_string(root.join("bin/calls")).unwrap_or_default().lines().count();
        anyhow::Ok((calls(&peano_root), calls(&mlir_root)))
    };
    assert_eq!(build().unwrap(), (1, 1));
    assert_eq!(build().unwrap(), (1, 1));
    // A file that somebody has changed, then one that is gone.
    fs::write(place.join(FILES[1]), "other").unwrap();
    assert_eq!(build().unwrap(), (1, 2));
    fs::remove_file(place.join(FILES[0])).unwrap();
    assert_eq!(build().unwrap(), (2, 2));
    // Another driver.
    mlir_aie(&mlir_root, &KINDS[2]);
    assert_eq!(build().unwrap(), (2, 3));
    // One that says it is done and is not, and one that says why not.
    let help = "if [ \"$1\" = --help ]; then echo --get-xclbin; exit; fi\n";
    script(&mlir_root.join("bin/aiecc"), help);
    let error = format!("{:#}", build().unwrap_err());
    assert!(error.contains("gemm_i8_i32_256x128x256.xclbin was not written"), "{error}");
    script(&mlir_root.join("bin/aiecc"), &format!("{help}echo 'no route' >&2; exit 1\n"));
    let error = format!("{:#}", build().unwrap_err());
    assert!(error.contains("no route"), "{error}");
}
