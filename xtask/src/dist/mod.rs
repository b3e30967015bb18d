//! `cargo xtask dist`: a release as one archive, with the program and the HIP kernels where it looks for them.
//!
//! It builds the program, unless it is given one, and never the kernels: what `cargo xtask build-kernels --hip` has built must be whole and
//! of the sources that the program was compiled beside. What it writes is in the build folder.

mod archive;
mod licences;
mod program;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use gemma_hip_kernels::images;
use gemma_hip_kernels::objects::{SOURCES, folder};

use archive::{Entry, archive};

/// Files of the repository that go with the program: what it is, its licences, and the notices of the built-in model.
const TEXTS: [&str; 6] =
    ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT", "assets/README.md"];

/// What the program is asked for, and the file that it goes to.
const PAGES: [(&[&str], &str); 4] = [
    (&["man"], "share/man/man1/gemma.1"),
    (&["completions", "bash"], "share/bash-completion/completions/gemma"),
    (&["completions", "fish"], "share/fish/vendor_completions.d/gemma.fish"),
    (&["completions", "zsh"], "share/zsh/site-functions/_gemma"),
];

/// The licences of the crates that are part of the program.
const LICENCES: &str = "THIRD-PARTY-LICENSES.txt";

/// Where the time of all files comes from, in seconds since 1970, where it is set.
const TIME: &str = "SOURCE_DATE_EPOCH";

/// Packs a release in `dist` of the build folder: of `program`, or of what cargo builds.
///
/// # Errors
/// When kernels are missing, old or another program's, or the program does not build or run.
pub(crate) fn run(root: &Path, program: Option<PathBuf>) -> anyhow::Result<()> {
    let build = crate::build_folder(root);
    // First what takes a moment to find missing.
    let kernels = crate::kernels::built(&folder(&build))?;
    // A bare name is a file here, not a command.
    let program =
        program.map_or_else(|| program::build(root), |program| Ok(std::path::absolute(program)?))?;
    let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
    // Before it is asked for anything.
    check(&bytes).with_context(|| program.display().to_string())?;
    let release = format!("gemma-{}-{}", env!("CARGO_PKG_VERSION"), program::MACHINE);
    let mut pages = pages(&program)?;
    let licences = licences::text(root, program::PACKAGE, program::MACHINE)?;
    pages.push((LICENCES.to_owned(), licences.into_bytes()));
    let entries = entries(root, bytes, pages, kernels)?;
    let bytes = archive(&release, &entries, time(env::var(TIME).ok().as_deref())?)?;
    let out = build.join("dist");
    fs::create_dir_all(&out)?;
    let (name, digest) = (format!("{release}.tar.gz"), images::digest(&bytes));
    fs::write(out.join(&name), &bytes)?;
    // As `sha256sum --check` takes it.
    fs::write(out.join(format!("{name}.sha256")), format!("{digest}  {name}\n"))?;
    println!("{} files, {} bytes, sha256 {digest}", entries.len(), bytes.len());
    println!("{}", out.join(name).display());
    Ok(())
}

/// All files of a release: the program, the texts, what the program says of itself, and the kernels.
fn entries(
    root: &Path,
    program: Vec<u8>,
    pages: Vec<(String, Vec<u8>)>,
    kernels: Vec<(String, Vec<u8>)>,
) -> anyhow::Result<Vec<Entry>> {
    let name = format!("gemma{}", env::consts::EXE_SUFFIX);
    let mut entries = vec![Entry { name, bytes: program, runs: true }];
    let mut add = |name: String, bytes| entries.push(Entry { name, bytes, runs: false });
    for name in TEXTS {
        add(name.to_owned(), fs::read(root.join(name)).with_context(|| name.to_owned())?);
    }
    for (name, bytes) in pages {
        add(name, bytes);
    }
    for (name, bytes) in kernels {
        // The program takes the folder that it is in for a build folder.
        let name = folder(Path::new("")).join(name);
        add(name.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/"), bytes);
    }
    Ok(entries)
}

/// The manual page and the completions of a program.
fn pages(program: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    PAGES.iter().map(|(asked, name)| Ok(((*name).to_owned(), program::output(program, asked)?))).collect()
}

/// Whether a program knows the kernels that it is packed with.
fn check(program: &[u8]) -> anyhow::Result<()> {
    ensure!(
        contains(program, SOURCES.as_bytes()),
        "it knows other kernels than those of this tree, or none: build it with `cargo build --release -p gemma-cli`"
    );
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let places = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    places.into_iter().any(|(at, _)| bytes[at..].starts_with(wanted))
}

fn time(set: Option<&str>) -> anyhow::Result<u64> {
    set.map_or(Ok(0), |set| set.parse().with_context(|| format!("{TIME} is no number of seconds: {set:?}")))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use gemma_hip_kernels::objects::{ARCHITECTURES, MANIFEST, OPERATIONS, file_name};
    use tar::Archive;

    use super::*;

    /// The smallest code object: a header of an ELF file for AMD's GPUs, and something that tells it from others.
    fn object(operation: &str, architecture: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18] = 224;
        [bytes, format!("{operation} {architecture}").into_bytes()].concat()
    }

    /// A folder as the kernels' build leaves it.
    fn kernels() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = format!("compiler = \"clang\"\nsources = {SOURCES:?}\n");
        for architecture in ARCHITECTURES {
            for (operation, _) in OPERATIONS {
                let (file, bytes) = (file_name(operation, architecture), object(operation, architecture));
                let _ = write!(
                    manifest,
                    "\n[[object]]\nfile = {file:?}\noperation = {operation:?}\narchitecture = {architecture:?}\nsource = \"\"\n\
                     sha256 = {:?}\n",
                    images::digest(&bytes)
                );
                fs::write(folder.path().join(file), bytes).unwrap();
            }
        }
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        // Of an earlier build.
        fs::write(folder.path().join("forgotten.gfx1103.co"), "old").unwrap();
        folder
    }

    fn program() -> Vec<u8> {
        format!("a program of {SOURCES}").into_bytes()
    }

    fn packed(folder: &Path, time: u64) -> Vec<u8> {
        let kernels = crate::kernels::built(folder).unwrap();
        // A program that says what it is asked for.
        let pages = pages(Path::new("echo")).unwrap();
        let entries = entries(crate::repository().unwrap(), program(), pages, kernels).unwrap();
        archive("gemma-1.2.3-some-machine", &entries, time).unwrap()
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let folder = kernels();
        let packed = packed(folder.path(), 1_000);
        let (mut found, root) = (Vec::new(), crate::repository().unwrap());
        for entry in Archive::new(GzDecoder::new(&*packed)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (header, name) = (entry.header().clone(), entry.path().unwrap().to_str().unwrap().to_owned());
            let name = name.strip_prefix("gemma-1.2.3-some-machine/").unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 1_000)
            );
            assert_eq!(
                header.mode().unwrap(),
                if name.starts_with("gemma") { 0o755 } else { 0o644 },
                "{name}"
            );
            let expected = match name.strip_prefix("kernels/hip/") {
                Some(file) => fs::read(folder.path().join(file)).unwrap(),
                None if name.starts_with("gemma") => program(),
                None if name.starts_with("share/man/") => b"man\n".to_vec(),
                None if name.starts_with("share/zsh") => b"completions zsh\n".to_vec(),
                None if name.starts_with("share/fish") => b"completions fish\n".to_vec(),
                None if name.starts_with("share/bash") => b"completions bash\n".to_vec(),
                None => fs::read(root.join(&name)).unwrap(),
            };
            assert!(bytes == expected, "{name}");
            found.push(name);
        }
        assert!(found.is_sorted(), "{found:?}");
        for name in
            ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md", "kernels/hip/manifest.toml"]
        {
            assert!(found.iter().any(|found| found == name), "{name}");
        }
        let objects =
            found.iter().filter(|name| name.starts_with("kernels/hip/") && !name.ends_with(MANIFEST));
        assert_eq!(objects.count(), OPERATIONS.len() * ARCHITECTURES.len());
        assert_eq!(found.len(), 1 + TEXTS.len() + PAGES.len() + 1 + OPERATIONS.len() * ARCHITECTURES.len());
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let (one, other) = (kernels(), kernels());
        assert!(packed(one.path(), 0) == packed(other.path(), 0));
        assert!(packed(one.path(), 0) != packed(one.path(), 1));
        assert_eq!((time(None).unwrap(), time(Some("1700000000")).unwrap()), (0, 1_700_000_000));
        assert!(time(Some("yesterday")).unwrap_err().to_string().contains(TIME));
    }

    #[test]
    fn kernels_that_are_not_whole_are_refused_with_what_to_run() {
        type Change<'a> = &'a dyn Fn(&Path);
        let edit = |folder: &Path, from: &str, to: &str| {
            let text = fs::read_to_string(folder.join(MANIFEST)).unwrap();
            assert!(text.contains(from), "{from}");
            fs::write(folder.join(MANIFEST), text.replace(from, to)).unwrap();
        };
        let changes: [(Change<'_>, &str); 7] = [
            (&|folder| fs::remove_file(folder.join(MANIFEST)).unwrap(), MANIFEST),
            (&|folder| fs::remove_file(folder.join("norm.gfx1150.co")).unwrap(), "norm.gfx1150.co"),
            (&|folder| fs::write(folder.join("norm.gfx1151.co"), "old").unwrap(), "norm.gfx1151.co is not"),
            (&|folder| edit(folder, "= \"gfx1102\"", "= \"gfx1200\""), "no object for gfx1102"),
            (
                &|folder| edit(folder, "\"copy.gfx1101.co", "\"paste.gfx1101.co"),
                "there is no copy.gfx1101.co",
            ),
            (&|folder| edit(folder, SOURCES, "0badc0de"), "other sources"),
            (&|folder| edit(folder, "compiler", "computer"), MANIFEST),
        ];
        for (change, words) in changes {
            let folder = kernels();
            change(folder.path());
            let problem = format!("{:#}", crate::kernels::built(folder.path()).unwrap_err());
            assert!(
                problem.contains(words) && problem.contains("cargo xtask build-kernels --hip"),
                "{problem}"
            );
        }
    }

    #[test]
    fn a_program_of_other_kernels_is_refused() {
        assert!(check(&program()).is_ok());
        let problem = check(b"a program").unwrap_err().to_string();
        assert!(problem.contains("cargo build --release -p gemma-cli"), "{problem}");
        assert!(pages(Path::new("no/such/program")).is_err());
    }
}
