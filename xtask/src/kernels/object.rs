//! What a code object says of its kernels: the metadata in its ELF notes, and the instructions that its code has.
//!
//! The bytes are our own compiler's; still nothing is taken for granted that is not there.

use anyhow::{Context as _, ensure};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};
use rmpv::Value;

use super::manifest::Kernel;

/// Owner and type of the note that holds the metadata as MessagePack.
const OWNER: &[u8] = b"AMDGPU";
const METADATA: u32 = 32;

/// The kernels of a code object, without counts of instructions.
///
/// # Errors
/// When it is no code object or says less than it must.
pub(super) fn kernels(bytes: &[u8]) -> anyhow::Result<Vec<Kernel>> {
    let metadata = metadata(bytes)?;
    let kernels = field(&metadata, "amdhsa.kernels")?.as_array().context("kernels are no list")?;
    let file = object::File::parse(bytes)?;
    let mut all = Vec::new();
    for kernel in kernels {
        let number =
            |name: &str| field(kernel, name)?.as_u64().with_context(|| format!("{name} is no number"));
        let name = field(kernel, ".name")?.as_str().context("a kernel without a name")?.to_owned();
        let arguments = field(kernel, ".args")?.as_array().context("arguments are no list")?;
        ensure!(
            arguments.len() == 1,
            "{name} has {} arguments, hidden ones included, not one",
            arguments.len()
        );
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(&*name));
        all.push(Kernel {
            vgprs: number(".vgpr_count")?,
            sgprs: number(".sgpr_count")?,
            spilled: number(".vgpr_spill_count")? + number(".sgpr_spill_count")?,
            scratch: number(".private_segment_fixed_size")?,
            lds: number(".group_segment_fixed_size")?,
            threads: number(".max_flat_workgroup_size")?,
            wave: number(".wavefront_size")?,
            arguments: number(".kernarg_segment_size")?,
            code: symbol.map_or(0, |symbol| symbol.size()),
            dot4: 0,
            wmma: 0,
            name,
        });
    }
    ensure!(!all.is_empty(), "there is no kernel");
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn metadata(bytes: &[u8]) -> anyhow::Result<Value> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    for section in header.sections(endian, bytes)?.iter() {
        let Some(mut notes) = section.notes(endian, bytes)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == OWNER && note.n_type(endian).0 == METADATA {
                let mut rest = note.desc();
                return rmpv::decode::read_value(&mut rest).context("the metadata is no MessagePack");
            }
        }
    }
    anyhow::bail!("there is no metadata")
}

fn field<'a>(map: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let entries = map.as_map().with_context(|| format!("no map around {name}"))?;
    let entry = entries.iter().find(|(key, _)| key.as_str() == Some(name));
    entry.map(|(_, value)| value).with_context(|| format!("{name} is missing"))
}

/// Counts in a disassembly the instructions that kernels are expected to have.
pub(super) fn count(assembly: &str, kernels: &mut [Kernel]) {
    let mut current = None;
    for line in assembly.lines() {
        if let Some(name) =
            line.strip_suffix(">:").and_then(|line| line.split_once('<')).map(|(_, name)| name)
        {
            current = kernels.iter().position(|kernel| kernel.name == name);
            continue;
        }
        let Some(kernel) = current.and_then(|index| kernels.get_mut(index)) else { continue };
        let mnemonic = line.split_whitespace().next().unwrap_or_default();
        kernel.dot4 += u64::from(mnemonic.starts_with("v_dot4_i32_iu8"));
        kernel.wmma += u64::from(mnemonic.starts_with("v_wmma_"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_counted_where_they_are() {
        let kernel = |name: &str| Kernel { name: name.to_owned(), ..Kernel::default() };
        let mut kernels = [kernel("a"), kernel("b")];
        let assembly = "\n0000000000001600 <a>:\n\tv_dot4_i32_iu8 v1, v2, v3, v4 neg_lo:[1,1,0]\n\tv_add_f32_e32 v1, v2, v3\n\
                        \n0000000000001700 <b>:\n\tv_wmma_i32_16x16x16_iu8 v[1:8], v[9:12], v[13:16], v[1:8]\n\
                        \n0000000000001800 <other>:\n\tv_dot4_i32_iu8 v1, v2, v3, v4\n";
        count(assembly, &mut kernels);
        assert_eq!(kernels.map(|kernel| (kernel.dot4, kernel.wmma)), [(1, 0), (0, 1)]);
    }

    #[test]
    fn what_is_no_code_object_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 64]] {
            assert!(kernels(bytes).is_err());
        }
    }
}
