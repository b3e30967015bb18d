//! Holds the limits that SECURITY.md promises against the constants in the source.
//!
//! A row of the table names a constant, its value as the source writes it, and its file.

use std::path::Path;

use super::Finding;

/// Checks the table in the text of `file`; `read` gives the text of a file of the repository.
pub(super) fn check(file: &Path, text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, row) in text.lines().enumerate() {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let ["", name, value, place, ..] = cells[..] else { continue };
        if !name.starts_with("MAX_") {
            continue;
        }
        let source = read(place).unwrap_or_default();
        let declared = source.lines().find_map(|line| line.split_once(&format!("const {name}:")));
        let found = declared
            .and_then(|(_, rest)| rest.split_once('='))
            .map(|(_, value)| value.trim().trim_end_matches(';'));
        if found != Some(value) {
            let problem = match found {
                Some(found) => format!("{name} is {found} in {place}; write that here"),
                None => format!("{name} is not in {place}; name the file that has it"),
            };
            findings.push(Finding { file: file.to_owned(), line: line + 1, rule: "limits", problem });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_against_its_constant() {
        let read = |place: &str| (place == "a.rs").then(|| "pub const MAX_A: u64 = 1 << 20;\n".to_owned());
        for (row, findings) in [
            ("| `MAX_A` | `1 << 20` | `a.rs` | x |", 0),
            ("| `MAX_A` | `1 << 21` | `a.rs` | x |", 1),
            ("| `MAX_B` | `1 << 20` | `a.rs` | x |", 1),
            ("| `MAX_A` | `1 << 20` | `b.rs` | x |", 1),
            ("| limit | value | in | for |", 0),
        ] {
            assert_eq!(check(Path::new("SECURITY.md"), row, &read).len(), findings, "{row}");
        }
    }
}
