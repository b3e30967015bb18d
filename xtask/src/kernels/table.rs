//! What the compiler says of the kernels, as tables: a line a kernel and processor for the terminal, a line a kernel for the docs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::manifest::{Kernel, Manifest, waves};

/// Between these lines docs/hip.md is generated.
const BEGIN: &str = "<!-- Written by `cargo xtask build-kernels --hip`. -->";
const END: &str = "<!-- End of what is written by `cargo xtask build-kernels --hip`. -->";

/// Every kernel for every processor.
pub(super) fn all(manifest: &Manifest) -> String {
    let mut text = format!(
        "{:<8} {:>5} {:>5} {:>5} {:>7} {:>6} {:>5} {:>6} {:>4} {:>4}  kernel\n",
        "", "VGPRs", "SGPRs", "spill", "scratch", "LDS", "waves", "code", "dot4", "wmma"
    );
    for object in &manifest.objects {
        for k in &object.kernels {
            let _ = writeln!(
                text,
                "{:<8} {:>5} {:>5} {:>5} {:>7} {:>6} {:>5} {:>6} {:>4} {:>4}  {}",
                object.architecture,
                k.vgprs,
                k.sgprs,
                k.spilled,
                k.scratch,
                k.lds,
                waves(&object.architecture, k.vgprs),
                k.code,
                k.dot4,
                k.wmma,
                k.name
            );
        }
    }
    text
}

/// How much there is.
pub(super) fn summary(manifest: &Manifest) -> String {
    let kernels: usize = manifest.objects.iter().map(|object| object.kernels.len()).sum();
    format!("{kernels} kernels in {} code objects, by {}", manifest.objects.len(), manifest.compiler)
}

/// `page` with its generated part made of the manifest; none without the lines around it.
pub(super) fn renew(page: &str, manifest: &Manifest) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let mut architectures: Vec<&str> = manifest.objects.iter().map(|object| &*object.architecture).collect();
    architectures.sort_unstable();
    architectures.dedup();
    let mut kernels: BTreeMap<&str, Vec<(&str, &Kernel)>> = BTreeMap::new();
    for object in &manifest.objects {
        for kernel in &object.kernels {
            kernels.entry(&kernel.name).or_default().push((&object.architecture, kernel));
        }
    }
    let mut text = format!(
        "\n{} kernels, by {}. Vector registers by processor; of the other figures the largest, of waves a SIMD the fewest.\n\n",
        kernels.len(),
        manifest.compiler
    );
    let _ = writeln!(
        text,
        "| kernel | {} | waves | SGPRs | LDS | code | dot4 | wmma |",
        architectures.join(" | ")
    );
    let _ = writeln!(text, "|{}", " --- |".repeat(architectures.len() + 7));
    for (name, of) in &kernels {
        let vgprs = architectures.iter().map(|wanted| {
            of.iter()
                .find(|(architecture, _)| architecture == wanted)
                .map_or(String::new(), |(_, k)| k.vgprs.to_string())
        });
        let vgprs: Vec<String> = vgprs.collect();
        let most = |figure: fn(&Kernel) -> u64| of.iter().map(|(_, k)| figure(k)).max().unwrap_or(0);
        let fewest = of.iter().map(|(architecture, k)| waves(architecture, k.vgprs)).min().unwrap_or(0);
        let _ = writeln!(
            text,
            "| `{name}` | {} | {fewest} | {} | {} | {} | {} | {} |",
            vgprs.join(" | "),
            most(|k| k.sgprs),
            most(|k| k.lds),
            most(|k| k.code),
            most(|k| k.dot4),
            most(|k| k.wmma)
        );
    }
    Some(format!("{before}{BEGIN}{text}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Object;
    use super::*;

    #[test]
    fn kernels_have_a_line_each_and_the_rest_of_the_page_stays() {
        let object = |architecture: &str, vgprs| Object {
            file: String::new(),
            operation: "a".to_owned(),
            architecture: architecture.to_owned(),
            source: String::new(),
            sha256: String::new(),
            kernels: vec![Kernel { name: "a".to_owned(), vgprs, lds: vgprs, ..Kernel::default() }],
        };
        let objects = vec![object("gfx1100", 100), object("gfx1103", 96)];
        let manifest = Manifest { compiler: "clang".to_owned(), objects, ..Manifest::default() };
        let page = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = renew(&page, &manifest).unwrap();
        assert!(new.starts_with("above\n") && new.ends_with("\nbelow\n") && !new.contains("old"));
        assert!(new.contains("| kernel | gfx1100 | gfx1103 | waves |"));
        assert!(new.contains("| `a` | 100 | 96 | 10 | 0 | 100 |"), "{new}");
        assert_eq!(renew(&new, &manifest).unwrap(), new);
        assert!(renew("no marks", &manifest).is_none());
        assert_eq!(all(&manifest).lines().count(), 3);
    }
}
