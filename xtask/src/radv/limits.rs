//! The committed figures: how many vector registers RADV gives each kernel, and which Mesa that was.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use toml::{Table, Value};

use super::kernel::Kernel;

/// What stands above the figures.
const HEAD: &str = "\
# The most vector registers that a kernel of each kind takes on gfx1103 (Radeon 780M), as RADV compiles it.
# Written by `cargo xtask radv`; `cargo xtask radv --check` fails where a kernel takes more. See docs/kernels.md.
";

/// Figures by kind of kernel.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The version of Mesa.
    pub(super) mesa: String,
    vgprs: BTreeMap<String, u64>,
}

impl Limits {
    /// The figures of these kernels.
    pub(super) fn of(mesa: &str, kernels: &[Kernel]) -> Self {
        let mut vgprs = BTreeMap::new();
        for kernel in kernels {
            let most: &mut u64 = vgprs.entry(kernel.key()).or_default();
            *most = kernel.vgprs.max(*most);
        }
        Self { mesa: mesa.to_owned(), vgprs }
    }

    /// Reads what [`Limits::text`] has written.
    ///
    /// # Errors
    /// For anything else.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse()?;
        let mesa = table.get("mesa").and_then(Value::as_str).context("no version of Mesa")?.to_owned();
        let figures = table.get("vgprs").and_then(Value::as_table).context("no table of figures")?;
        let figure = |(key, value): (&String, &Value)| {
            let figure = value.as_integer().and_then(|figure| u64::try_from(figure).ok());
            Ok((key.clone(), figure.with_context(|| format!("{key} is not a number of registers"))?))
        };
        let vgprs = figures.iter().map(figure).collect::<anyhow::Result<_>>()?;
        Ok(Self { mesa, vgprs })
    }

    /// As a file.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}\nmesa = \"{}\"\n\n[vgprs]\n", self.mesa);
        for (key, figure) in &self.vgprs {
            let _ = writeln!(text, "\"{key}\" = {figure}");
        }
        text
    }

    /// Where these kernels are not within the figures.
    pub(super) fn compare(&self, kernels: &[Kernel]) -> Vec<String> {
        let now = Self::of("", kernels);
        let mut faults = Vec::new();
        for kernel in kernels {
            let key = kernel.key();
            match self.vgprs.get(&key) {
                Some(most) if kernel.vgprs > *most => faults.push(format!(
                    "{key}: {} vector registers, {most} are committed; if that is meant, run `cargo xtask radv` ({}, target/radv/isa/{}.s)",
                    kernel.vgprs, kernel.variant, kernel.entry
                )),
                Some(_) => {}
                None => faults.push(format!("{key}: is new; `cargo xtask radv` writes its figure")),
            }
        }
        let gone = self.vgprs.keys().filter(|key| !now.vgprs.contains_key(*key));
        faults.extend(gone.map(|key| format!("{key}: is not compiled any more; run `cargo xtask radv`")));
        faults.dedup();
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, vgprs: u64) -> Kernel {
        Kernel { name: name.to_owned(), vgprs, wave: 64, ..Kernel::default() }
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let kernels = [kernel("a::b", 40), kernel("a::b", 48), kernel("c::d", 24)];
        let limits = Limits::parse(&Limits::of("25.0.7", &kernels).text()).unwrap();
        assert_eq!((&*limits.mesa, limits.vgprs["a::b"], limits.vgprs.len()), ("25.0.7", 48, 2));
        assert!(limits.compare(&kernels).is_empty());
        for bad in ["", "mesa = \"1\"", "mesa = \"1\"\n[vgprs]\na = \"x\"", "mesa = \"1\"\n[vgprs]\na = -1"] {
            assert!(Limits::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_registers_new_kernels_and_lost_ones_are_faults() {
        let limits = Limits::of("25.0.7", &[kernel("a::b", 48), kernel("c::d", 24)]);
        for (kernels, expected) in [
            (vec![kernel("a::b", 56), kernel("c::d", 24)], "56 vector registers, 48 are committed"),
            (vec![kernel("a::b", 40), kernel("c::d", 24), kernel("e::f", 8)], "e::f: is new"),
            (vec![kernel("a::b", 48)], "c::d: is not compiled any more"),
        ] {
            let faults = limits.compare(&kernels);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
    }
}
