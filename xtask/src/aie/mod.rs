//! `cargo xtask build-kernels --aie`: core kernels and designs for AMD's XDNA NPU, as far as this machine has the tools.
//!
//! Kernels are compiled for this machine and checked, designs are checked, simulated and written as MLIR, always. Where Peano and
//! mlir-aie are installed, they make objects, xclbins and instructions of it; where not, it says what was not made and how to get
//! them. It runs nothing on an NPU.

mod device;
mod host;
mod manifest;
mod served;
#[cfg(test)]
mod tests;
mod tools;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use gemma_hip_kernels::images::digest;
use gemma_npu_kernels::design::Design;
use gemma_npu_kernels::gemm::{DESIGNS, Gemm};
use gemma_npu_kernels::kernels::{Product, Shape};
use gemma_npu_kernels::simulate::Simulator;
use gemma_npu_kernels::{check, mlir};
use sha2::{Digest as _, Sha256};

use host::Host;
use manifest::Manifest;
use served::Served;
use tools::Tools;

/// The sources.
const SOURCES: &str = "kernels/aie";

/// Builds into `target/kernels/aie`; with `check_only` what needs no other tool than a C++ compiler.
///
/// # Errors
/// When a check fails, or a tool that is there does. Missing tools are no error.
pub(crate) fn run(root: &Path, check_only: bool) -> anyhow::Result<()> {
    let sources = root.join(SOURCES);
    let out = crate::build_folder(root).join("kernels").join("aie");
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let host = Host::build(&sources, &out)?;
    println!("core kernels on this machine, by {}: {}", host.version, host.check()?);
    for product in Product::ALL {
        println!("{}", simulate(product, &host)?);
    }
    let designs = write_designs(&out)?;
    if check_only {
        println!("nothing was made for an NPU: --check asks for checks alone");
        return Ok(());
    }
    let tools = Tools::find(&|name| std::env::var_os(name));
    let manifest = device::build(&sources, &out, &designs, &tools)?;
    fs::write(out.join(manifest::NAME), manifest.text())?;
    print!("{}", report(&manifest, &tools, &out));
    Ok(())
}

/// Writes all designs that have no fault.
fn write_designs(out: &Path) -> anyhow::Result<Vec<(Gemm, Design)>> {
    let mut designs = Vec::new();
    for gemm in DESIGNS {
        let design = gemm.design()?;
        let usage = check(&design).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{} has faults:\n{}", design.name, faults.join("\n"))
        })?;
        let most = |row: fn(u8) -> bool| {
            usage.iter().filter(|of| row(of.tile.row)).map(|of| of.bytes).max().unwrap_or(0)
        };
        println!(
            "{}: fits; {} of {} bytes of a core's memory, {} of {} of a memory tile's",
            design.name,
            most(|row| row > 1),
            64 << 10,
            most(|row| row == 1),
            512 << 10
        );
        fs::write(out.join(format!("{}.mlir", design.name)), mlir::text(&design))?;
        designs.push((gemm, design));
    }
    Ok(designs)
}

/// Runs a product on the simulated array, with the kernels as they are compiled for this machine.
fn simulate(product: Product, host: &Host) -> anyhow::Result<String> {
    let tile = product.tile();
    let shape = Shape::new(8 * tile.rows, 2 * tile.depth, 8 * tile.columns);
    let design = Gemm::new(product, shape).design()?;
    let kernels = Served::start(host, product, tile)?;
    let mut simulator = Simulator::new(&design, kernels, 1)?;
    let matrix = |rows: u64, columns: u64, seed: u64| -> Vec<i64> {
        let digest = |at: u64| Sha256::digest(((seed << 32) | at).to_le_bytes());
        (0..rows * columns).map(|at| i64::from(digest(at)[0] as i8)).collect()
    };
    let (a, b) = (matrix(shape.rows, shape.depth, 1), matrix(shape.depth, shape.columns, 2));
    let size = product.output().bytes() * shape.rows * shape.columns;
    let mut buffers = vec![input(product, &a), input(product, &b), vec![0; size as usize]];
    let report = simulator.run(&mut buffers)?;
    let found = buffers[2].as_chunks::<4>().0.iter();
    for (at, found) in found.enumerate() {
        let (row, column) = (at / shape.columns as usize, at % shape.columns as usize);
        let depth = shape.depth as usize;
        let sum: i64 = (0..depth).map(|k| a[row * depth + k] * b[k * shape.columns as usize + column]).sum();
        // Sums of so many small whole numbers are exact in f32 too.
        let found = match product {
            Product::I8 => f64::from(i32::from_le_bytes(*found)),
            Product::Bf16 => f64::from(f32::from_le_bytes(*found)),
        };
        ensure!(found == sum as f64, "{}: {found} in row {row}, column {column}, not {sum}", design.name);
    }
    Ok(format!(
        "{}: the exact product on the simulated array ({} calls of kernels, {} words over streams)",
        design.name, report.calls, report.words
    ))
}

fn input(product: Product, values: &[i64]) -> Vec<u8> {
    match product {
        Product::I8 => values.iter().map(|value| *value as u8).collect(),
        Product::Bf16 => values
            .iter()
            .flat_map(|value| ((*value as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec())
            .collect(),
    }
}

/// What was made and what not, in plain words.
fn report(manifest: &Manifest, tools: &Tools, out: &Path) -> String {
    let mut lines = vec![format!("{} files for an NPU in {}", manifest.files.len(), out.display())];
    if !manifest.missing.is_empty() {
        lines.push(format!("NOT made: {}", manifest.missing.join(", ")));
        lines.extend(tools.problems().map(|problem| format!("  {problem}")));
    }
    lines.join("\n") + "\n"
}

/// One hash of several things, wherever one ends and the next begins.
fn fingerprint(parts: &[&[u8]]) -> String {
    let hashes: Vec<String> = parts.iter().map(|part| digest(part)).collect();
    digest(hashes.concat().as_bytes())
}
