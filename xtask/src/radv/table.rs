//! What RADV says of the kernels, as tables: a line a kernel for the terminal, a line a kind for the docs.

use std::fmt::Write as _;

use super::kernel::Kernel;

/// Between these lines docs/kernels.md is generated.
const BEGIN: &str = "<!-- Written by `cargo xtask radv`. -->";
const END: &str = "<!-- End of what is written by `cargo xtask radv`. -->";

/// Every kernel, with what it was compiled for.
pub(super) fn all(kernels: &[Kernel]) -> String {
    let mut text = format!(
        "{:>4} {:>5} {:>5} {:>5} {:>7} {:>6} {:>5} {:>6} {:>4} {:>4}  kernel\n",
        "wave", "VGPRs", "SGPRs", "spill", "scratch", "LDS", "waves", "code", "dot4", "wmma"
    );
    for k in kernels {
        let _ = writeln!(
            text,
            "{:>4} {:>5} {:>5} {:>5} {:>7} {:>6} {:>5} {:>6} {:>4} {:>4}  {} [{}] {}",
            k.wave,
            k.vgprs,
            k.sgprs,
            k.spilled,
            k.scratch,
            k.lds,
            k.waves,
            k.code,
            k.dot4,
            k.wmma,
            k.key(),
            k.variant,
            k.entry
        );
    }
    text
}

/// `page` with its generated part made of `kernels`, `forced` of which the backend takes only where all subgroups are told to have
/// one size; none without the lines around it.
pub(super) fn renew(page: &str, mesa: &str, kernels: &[Kernel], forced: usize) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let kinds = kernels.chunk_by(|a, b| a.key() == b.key());
    let mut text = format!(
        "\nRADV of Mesa {mesa} for gfx1103; {} kernels. Most, or for waves the fewest, of all shapes that a line stands for.\n\n",
        kernels.len()
    );
    if forced > 0 {
        let _ = writeln!(
            text,
            "**{forced} of them, for matrix units, are not taken on this driver as it is**: it says that subgroups have 32 to 64 units, and the \
             backend asks for one size. They were compiled as if it said 64, which is the size it gives every kernel.\n"
        );
    }
    text.push_str("| kernel | weights or cache | activations | shapes | wave | VGPRs | SGPRs | LDS, bytes | waves a SIMD | code, bytes | dot4 | wmma |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for kind in kinds {
        let most = |of: fn(&Kernel) -> u64| kind.iter().map(of).max().unwrap_or(0);
        let least = |of: fn(&Kernel) -> u64| kind.iter().map(of).min().unwrap_or(0);
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            kind[0].name,
            kind[0].format,
            kind[0].activations,
            kind.len(),
            kind[0].wave,
            most(|k| k.vgprs),
            most(|k| k.sgprs),
            most(|k| k.lds),
            least(|k| k.waves),
            most(|k| k.code),
            most(|k| k.dot4 as u64),
            most(|k| k.wmma as u64),
        );
    }
    Some(format!("{before}{BEGIN}{text}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_a_line_each_and_the_rest_of_the_page_stays() {
        let kernel =
            |name: &str, vgprs| Kernel { name: name.to_owned(), vgprs, wave: 64, ..Kernel::default() };
        let kernels = [kernel("a::b", 40), kernel("a::b", 48), kernel("c::d", 24)];
        let page = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = renew(&page, "25.0.7", &kernels, 1).unwrap();
        assert!(new.starts_with("above\n") && new.ends_with("\nbelow\n") && !new.contains("old"));
        assert!(
            new.contains("| `a::b` |  |  | 2 | 64 | 48 |") && new.contains("| `c::d` |  |  | 1 | 64 | 24 |")
        );
        assert_eq!(renew(&new, "25.0.7", &kernels, 1).unwrap(), new);
        assert!(!renew(&page, "25.0.7", &kernels, 0).unwrap().contains("not taken"));
        assert!(renew("no marks", "25.0.7", &kernels, 0).is_none());
    }
}
