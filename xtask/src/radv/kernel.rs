//! What RADV has said of a kernel, and which kernel that was.

use anyhow::Context as _;
use serde_json::Value;

/// The integer dot product of four bytes each.
const DOT4: &str = "v_dot4_i32_iu8";

/// Products of matrices, of whatever type.
const MATRIX: &str = "v_wmma_";

/// Where kernels of the backend lie.
const OURS: &str = "gemma_igpu::kernels::";

/// A compiled kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    /// Its entry point, by which RADV knows it.
    pub(super) entry: String,
    /// Module and name.
    pub(super) name: String,
    /// Types of weights or of the cache; empty where it reads none.
    pub(super) format: String,
    /// How activations meet weights: `int8`, `f32`, or empty where they do not.
    pub(super) activations: &'static str,
    /// All that it was compiled for.
    pub(super) variant: String,
    /// Units of a subgroup.
    pub(super) wave: u64,
    /// Vector registers.
    pub(super) vgprs: u64,
    /// Scalar registers that values take before they are scheduled; RADV always gives a kernel 128.
    pub(super) sgprs: u64,
    /// Spilled registers of both kinds.
    pub(super) spilled: u64,
    /// Bytes of memory in which arrays and spilled registers lie.
    pub(super) scratch: u64,
    /// Bytes of shared memory.
    pub(super) lds: u64,
    /// Subgroups that a SIMD unit has room for.
    pub(super) waves: u64,
    /// Bytes of code.
    pub(super) code: u64,
    pub(super) dot4: usize,
    pub(super) wmma: usize,
    /// Why there is none of this.
    pub(super) refused: Option<String>,
}

impl Kernel {
    /// What the runtime's log says of a kernel: entry point, name, and what it was compiled for. None for what is no kernel.
    pub(super) fn of_log(block: &str) -> Option<Self> {
        let entry = block.split_once("OpEntryPoint GLCompute ")?.1.split('"').nth(1)?;
        let path = block.split_once("type: ")?.1.split([',', '<', '\n']).next()?;
        // The last part is the kernel's type, which is called as its function is.
        let name = path.strip_prefix(OURS).unwrap_or(path).rsplit_once("::")?.0;
        let info = block.split_once("info: ")?.1.split("\nsource:").next()?;
        let variant = variant(info);
        Some(Self {
            entry: entry.to_owned(),
            name: name.to_owned(),
            format: formats(&variant),
            activations: activations(&variant),
            variant,
            ..Self::default()
        })
    }

    /// Takes over what gemma-radv has reported of this kernel.
    ///
    /// # Errors
    /// For a report without the figures.
    pub(super) fn read(&mut self, record: &Value) -> anyhow::Result<()> {
        if let Some(code) = record.get("refused") {
            self.refused = Some(format!("RADV refuses it with VkResult {code}"));
            return Ok(());
        }
        let of = |name: &str| {
            let value = record["statistics"].get(name).and_then(Value::as_u64);
            value.with_context(|| format!("RADV does not say {name} of {}", self.entry))
        };
        let wave = record["subgroup"].as_u64().context("no size of subgroups")?.max(1);
        let (vgprs, sgprs) = (of("VGPRs")?, of("Pre-Sched SGPRs")?);
        let spilled = of("Spilled VGPRs")? + of("Spilled SGPRs")?;
        let (scratch, lds, code) = (of("Scratch size")?, of("LDS size")?, of("Code size")?);
        // RADV counts subgroups of 32.
        let waves = of("Subgroups per SIMD")? * 32 / wave;
        let assembly = record["assembly"].as_str().unwrap_or_default();
        let count = |instruction: &str| assembly.matches(instruction).count();
        let (dot4, wmma) = (count(DOT4), count(MATRIX));
        (self.wave, self.vgprs, self.sgprs, self.spilled) = (wave, vgprs, sgprs, spilled);
        (self.scratch, self.lds, self.waves, self.code) = (scratch, lds, waves, code);
        (self.dot4, self.wmma) = (dot4, wmma);
        Ok(())
    }

    /// What kernels have in common that one figure is committed for.
    pub(super) fn key(&self) -> String {
        [&*self.name, &self.format, self.activations]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What is wrong whatever the committed figures say.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut fault = |what: String| {
            found.push(format!(
                "{}: {what} ({}, target/radv/isa/{}.s)",
                self.key(),
                self.variant,
                self.entry
            ));
        };
        if let Some(reason) = &self.refused {
            fault(reason.clone());
            return found;
        }
        if self.spilled > 0 {
            fault(format!("{} registers are spilled", self.spilled));
        }
        if self.scratch > 0 {
            fault(format!("{} bytes of scratch: an array is indexed by what is not known", self.scratch));
        }
        if self.activations == "int8" && self.dot4 == 0 {
            fault(format!("no {DOT4}, though activations are rounded to 8 bits"));
        }
        if self.name == "matrix_units::product" && self.wmma == 0 {
            fault(format!("no {MATRIX}*, though it is for matrix units"));
        }
        found
    }
}

/// What a kernel was compiled for, on one line: its comptime arguments, without those of its memory.
fn variant(info: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut in_memory = false;
    for line in info.lines().skip(1).map(str::trim) {
        in_memory |= line.ends_with("BufferCompilationArg {");
        if !in_memory && !line.ends_with(": (),") && line != "}" && !line.is_empty() {
            words.push(line);
        }
        in_memory &= line != "},";
    }
    let joined = words.join(" ").replace(", }", " }");
    joined.trim_end_matches(',').to_owned()
}

/// Each type that is named in `variant`, once.
fn formats(variant: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for part in variant.split("ormat: ").skip(1) {
        let name = part.split([',', ' ']).next().unwrap_or_default();
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found.join("+")
}

fn activations(variant: &str) -> &'static str {
    match variant {
        rounded if rounded.contains("rounded: true") => "int8",
        staged if staged.contains("rounded: false") => "f32",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOG: &str = "\nname: x\nid: KernelId {\n    type: gemma_igpu::kernels::linear::product::Product,\n    cube_dim: Dim3 {\n        x: 256,\n    },\n    info: ProductInfo {\n        words: BufferCompilationArg {\n            inplace: None,\n        },\n        rows: (),\n        reading: Reading {\n            format: Q4_0,\n            staging: Staging {\n                fours: 512,\n                rounded: true,\n            },\n        },\n    },\n}\nsource:\n```spirv\nOpEntryPoint GLCompute %1 \"product_0549b6a0\" %2 %3\n";

    fn record(scratch: u64, assembly: &str) -> Value {
        json!({
            "subgroup": 64,
            "statistics": {
                "VGPRs": 40, "Pre-Sched SGPRs": 20, "Spilled VGPRs": 0, "Spilled SGPRs": 0,
                "Scratch size": scratch, "LDS size": 512, "Code size": 100, "Subgroups per SIMD": 24,
            },
            "assembly": assembly,
        })
    }

    #[test]
    fn a_log_names_the_kernel_and_what_it_is_for() {
        let kernel = Kernel::of_log(LOG).unwrap();
        assert_eq!((&*kernel.entry, &*kernel.key()), ("product_0549b6a0", "linear::product Q4_0 int8"));
        assert!(
            kernel.variant.contains("format: Q4_0, staging: Staging { fours: 512,"),
            "{}",
            kernel.variant
        );
        assert!(!kernel.variant.contains("words"), "{}", kernel.variant);
        assert!(Kernel::of_log("something else").is_none());
    }

    #[test]
    fn faults_are_those_of_the_report() {
        for (scratch, assembly, expected) in [
            (0, "v_dot4_i32_iu8 v1, v2", None),
            (0, "v_mul_f32 v1, v2", Some("no v_dot4_i32_iu8")),
            (64, "v_dot4_i32_iu8 v1, v2", Some("64 bytes of scratch")),
        ] {
            let mut kernel = Kernel::of_log(LOG).unwrap();
            kernel.read(&record(scratch, assembly)).unwrap();
            assert_eq!((kernel.vgprs, kernel.waves), (40, 12));
            let faults = kernel.faults();
            assert_eq!(faults.len(), usize::from(expected.is_some()), "{faults:?}");
            assert!(expected.is_none_or(|expected| faults[0].contains(expected)), "{faults:?}");
        }
        let mut kernel = Kernel::of_log(LOG).unwrap();
        kernel.read(&json!({ "refused": -3 })).unwrap();
        assert!(kernel.faults()[0].contains("refuses"));
        assert!(kernel.read(&json!({ "subgroup": 64, "statistics": {} })).is_err());
    }
}
