//! `cargo xtask radv`: compiles every kernel of the GPU backend with RADV for the Radeon 780M, without a GPU.
//!
//! gemma-igpu's example `every_kernel` runs on gemma-radv, a driver that compiles and computes nothing. What RADV says of each
//! kernel goes to docs/kernels.md, its vector registers to a committed file; with `--check` both are compared instead.

mod compile;
mod kernel;
mod limits;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use compile::{Compiled, Pass};
use kernel::Kernel;
use limits::Limits;

/// The committed figures.
const LIMITS: &str = "crates/gemma-igpu/radv.toml";

/// The page with the table.
const PAGE: &str = "docs/kernels.md";

/// Compiles, and writes or (`check`) compares. With `skip_older` a Mesa older than the one of the figures, or none, ends it well.
pub(crate) fn run(root: &Path, check: bool, skip_older: bool) -> anyhow::Result<()> {
    let path = root.join(LIMITS);
    let committed = match fs::read_to_string(&path) {
        Ok(text) => Limits::parse(&text).with_context(|| path.display().to_string())?,
        Err(_) if !check => Limits::default(),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut kernels = Vec::new();
    let (mut mesa, mut forced) = (String::new(), 0);
    for pass in Pass::ALL {
        match compile::compile(root, pass, &committed.mesa)? {
            Compiled::Kernels { mesa: version, kernels: more } => {
                mesa = version;
                let is_new =
                    |kernel: &Kernel| kernels.iter().all(|known: &Kernel| known.entry != kernel.entry);
                let more: Vec<Kernel> = more.into_iter().filter(is_new).collect();
                forced += if pass == Pass::Own { 0 } else { more.len() };
                kernels.extend(more);
            }
            Compiled::TooOld(reason) if skip_older => {
                println!("kernels were NOT compiled for gfx1103: {reason}");
                return Ok(());
            }
            Compiled::TooOld(reason) => bail!("{reason}"),
        }
    }
    kernels.sort_by(|a, b| (a.key(), &a.entry).cmp(&(b.key(), &b.entry)));
    print!("{}", table::all(&kernels));
    let mut faults = faults(&kernels);
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let renewed = table::renew(&text, &mesa, &kernels, forced)
        .with_context(|| format!("{PAGE} has lost the marks of its generated part"))?;
    if check {
        faults.extend(committed.compare(&kernels));
        // Another Mesa makes other code of the same kernels.
        if mesa == committed.mesa && renewed != text {
            faults.push(format!("{PAGE} is not what the kernels are now: run `cargo xtask radv`"));
        }
    } else {
        fs::write(&path, Limits::of(&mesa, &kernels).text())?;
        fs::write(&page, renewed)?;
    }
    if faults.is_empty() {
        println!("{} kernels compiled by RADV of Mesa {mesa} for gfx1103", kernels.len());
        return Ok(());
    }
    bail!("{} faults:\n{}", faults.len(), faults.join("\n"))
}

/// What no kernel may have, and what it must.
fn faults(kernels: &[Kernel]) -> Vec<String> {
    kernels.iter().flat_map(Kernel::faults).collect()
}
