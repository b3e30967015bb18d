//! Slices from files: our TOML, and the CSV table of Google's MatFormer Lab.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::{MAX_SLICE_BYTES, Slice, SliceError};
use crate::bounded;

const NAME: &str = "name";
const WIDTHS: &str = "FFN Hidden Dims";
const SKIPPED: &str = "Layers Skipped";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    #[serde(default)]
    skip_layers: Vec<usize>,
    ffn_widths: Vec<usize>,
}

impl Slice {
    /// A slice from TOML: `skip_layers`, layers of the parent (none when absent), and `ffn_widths`, one for each kept
    /// layer. `file` is named in errors.
    ///
    /// # Errors
    /// [`SliceError::Content`].
    pub fn from_toml(bytes: &[u8], file: &str) -> Result<Self, SliceError> {
        let fail = |problem: String| SliceError::Content { file: file.to_owned(), problem };
        let text = std::str::from_utf8(bytes).map_err(|_| fail("not UTF-8".to_owned()))?;
        let Toml { skip_layers, ffn_widths } =
            toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().replace('\n', " ")))?;
        Ok(Self { skip_layers, ffn_widths })
    }

    /// A slice from a row of MatFormer Lab's table: columns `name`, `FFN Hidden Dims` (a list of products such as
    /// `2_048 * 4`) and `Layers Skipped`. `row` is the name, or a part of it that only one row has.
    ///
    /// # Errors
    /// [`SliceError::Content`], [`SliceError::Row`].
    pub fn from_csv(bytes: &[u8], row: &str, file: &str) -> Result<Self, SliceError> {
        let fail = |problem: String| SliceError::Content { file: file.to_owned(), problem };
        let mut table = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
        let headers = table.headers().map_err(|error| fail(error.to_string()))?.clone();
        let column = |name: &str| {
            headers.iter().position(|h| h == name).ok_or_else(|| fail(format!("no column {name:?}")))
        };
        let (name, widths, skipped) = (column(NAME)?, column(WIDTHS)?, column(SKIPPED)?);
        let rows: Vec<csv::StringRecord> =
            table.records().collect::<Result<_, _>>().map_err(|error| fail(error.to_string()))?;
        let record = find(&rows, name, row, file)?;
        let list = |column: usize| {
            numbers(record.get(column).unwrap_or_default())
                .ok_or_else(|| fail(format!("column {:?} of row {row:?} is not a list", &headers[column])))
        };
        Ok(Self { skip_layers: list(skipped)?, ffn_widths: list(widths)? })
    }
}

/// A slice from the path of a .toml file, or `table.csv#row`.
pub(super) fn file(text: &str) -> Result<Slice, SliceError> {
    let ends_in = |ending: &str| Path::new(text).extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    if ends_in("toml") {
        return Slice::from_toml(&read(text)?, text);
    }
    match text.rsplit_once(".csv#") {
        Some((path, row)) => {
            let path = format!("{path}.csv");
            Slice::from_csv(&read(&path)?, row, &path)
        }
        None if ends_in("csv") => Err(SliceError::Content {
            file: text.to_owned(),
            problem: format!("a table of slices; name a row as {text}#row"),
        }),
        None => Err(SliceError::Unknown { name: text.to_owned() }),
    }
}

fn read(path: &str) -> Result<Vec<u8>, SliceError> {
    let fail = |error: std::io::Error| SliceError::Io { file: path.to_owned(), reason: error.to_string() };
    let bytes = bounded::read(File::open(path).map_err(fail)?, MAX_SLICE_BYTES).map_err(fail)?;
    bytes.ok_or_else(|| SliceError::TooLarge { file: path.to_owned() })
}

/// The row of this very name, or else the only one whose name contains it, in either case.
fn find<'a>(
    rows: &'a [csv::StringRecord],
    column: usize,
    row: &str,
    file: &str,
) -> Result<&'a csv::StringRecord, SliceError> {
    let name = |record: &csv::StringRecord| record.get(column).unwrap_or_default().to_lowercase();
    let wanted = row.to_lowercase();
    if let Some(exact) = rows.iter().find(|record| name(record) == wanted) {
        return Ok(exact);
    }
    let found: Vec<_> = rows.iter().filter(|record| name(record).contains(&wanted)).collect();
    match found.as_slice() {
        [only] => Ok(only),
        several => Err(SliceError::Row {
            file: file.to_owned(),
            row: row.to_owned(),
            found: several.len(),
            names: rows.iter().filter_map(|record| record.get(column)).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// `[2_048 * 4, 8192]` as numbers; nothing at all is an empty list.
fn numbers(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Vec::new());
    }
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let factor = |text: &str| text.trim().replace('_', "").parse::<usize>().ok();
    let product =
        |text: &str| text.split('*').try_fold(1_usize, |product, f| product.checked_mul(factor(f)?));
    inside.split(',').filter(|item| !item.trim().is_empty()).map(product).collect()
}
