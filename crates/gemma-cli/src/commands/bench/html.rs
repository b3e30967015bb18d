//! `gemma bench --report`: one HTML page that needs nothing else, with bars drawn in SVG.
//!
//! No scripts, no fonts, no links: the page can be mailed and opened anywhere. Every text that is not written here
//! goes through [`escape`], names of peers and of files among them.

use std::fmt::{self, Display, Write};

use super::compare::{Comparison, Rated};
use super::input::Peer;
use super::profile::Profile;
use super::report::{Measured, PeakReport, Report, range};
use super::stats::Spread;

/// Left edge of the bars, their longest, and the height of a line of a chart, in pixels.
const BARS: f64 = 220.0;
const LONGEST: f64 = 480.0;
const LINE: f64 = 22.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:62em;padding:0 1em;color-scheme:light dark}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #8884}\
th:first-child,td:first-child{text-align:left}code{white-space:pre-wrap;overflow-wrap:anywhere}\
svg{max-width:100%;font:13px system-ui,sans-serif}svg text{fill:currentColor}\
.ours{fill:#2a78d6}.peer{fill:#8a8f98}.range{stroke:currentColor}.roof{stroke:#c9302c;stroke-dasharray:4 3}";

/// A bar of a chart.
struct Bar<'a> {
    label: &'a str,
    rate: Spread,
    class: &'static str,
}

/// The page.
pub(super) fn page(report: &Report, peers: &[Peer]) -> String {
    let mut page = String::new();
    write_page(&mut page, report, peers).expect("a string takes all");
    page
}

fn write_page(out: &mut String, report: &Report, peers: &[Peer]) -> fmt::Result {
    let title = format!("gemma bench: {} {}", report.shape, report.dtype);
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>", escape(&title))?;
    writeln!(out, "<h1>{}</h1>", escape(&title))?;
    write_machine(out, report)?;
    writeln!(out, "<h2>Phases</h2>")?;
    write_phases(out, report)?;
    for result in &report.results {
        write_chart(out, result, peers)?;
    }
    report.profile.iter().try_for_each(|profile| write_profile(out, profile))?;
    report.comparison.iter().try_for_each(|comparison| write_comparison(out, comparison))?;
    if !peers.is_empty() {
        writeln!(out, "<h2>Peers</h2>")?;
        let rows = peers.iter().map(|peer| {
            vec![
                escape(&peer.name),
                format!("<code>{}</code>", escape(peer.command.as_deref().unwrap_or("-"))),
            ]
        });
        write_table(out, &["engine", "command"], rows)?;
    }
    writeln!(out, "</body>\n</html>")
}

fn write_machine(out: &mut String, report: &Report) -> fmt::Result {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.3} s"));
    let threads = report.threads.map(|threads| format!("{threads}, ")).unwrap_or_default();
    let mut rows = vec![
        ("command", format!("<code>{}</code>", escape(&report.command))),
        ("version", escape(report.version)),
        ("device", escape(&report.device)),
        (
            if report.threads.is_some() { "threads, instruction set" } else { "features" },
            format!("{threads}{}", escape(report.features.join(" "))),
        ),
        ("slice", escape(report.slice.as_deref().unwrap_or("all"))),
        (
            "context, chunk, cache",
            format!("{}, {}, {}", report.context, report.chunk, escape(report.cache_type)),
        ),
    ];
    rows.extend(report.peaks.iter().flat_map(peaks));
    rows.extend([
        ("load", seconds(Some(report.load_s))),
        ("first token", seconds(report.first_token_s)),
        ("peak RSS", report.peak_rss_bytes.map_or_else(|| "-".to_owned(), crate::output::size)),
    ]);
    write_table(out, &["", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

/// Rows of the machine's table.
fn peaks(peaks: &PeakReport) -> [(&'static str, String); 3] {
    [
        ("read bandwidth, measured", format!("{:.1} GB/s", peaks.read_gb_per_s)),
        (
            "f32 peak, measured",
            format!(
                "{:.0} GFLOP/s (one thread {:.0})",
                peaks.f32_gflop_per_s, peaks.f32_one_thread_gflop_per_s
            ),
        ),
        (
            "int8 peak, measured",
            format!(
                "{:.0} GOP/s (one thread {:.0}), {}",
                peaks.int8_gop_per_s,
                peaks.int8_one_thread_gop_per_s,
                escape(peaks.int8_instruction)
            ),
        ),
    ]
}

fn write_phases(out: &mut String, report: &Report) -> fmt::Result {
    let rows = report.results.iter().map(|result| {
        let mut row = vec![
            name(result),
            range(Some(result.tokens_per_s)),
            format!("{:.2}", result.gb_per_s),
            format!("{:.1}", result.gflop_per_s),
        ];
        row.extend(result.roofline().map(|(percent, bound)| format!("{percent:.0} % ({bound})")));
        row
    });
    let head = ["phase", "tok/s (min to max)", "GB/s", "GFLOP/s", "of roofline"];
    write_table(out, &head[..head.len() - usize::from(report.peaks.is_none())], rows)
}

/// A phase's bars: ours, the peers', and a line where the roofline is, if it is known.
fn write_chart(out: &mut String, result: &Measured, peers: &[Peer]) -> fmt::Result {
    let here = |rated: &&Rated| {
        (rated.phase.as_str(), rated.tokens, rated.depth) == (result.phase, result.tokens, result.depth)
    };
    let mut bars = vec![Bar { label: "gemma", rate: result.tokens_per_s, class: "ours" }];
    bars.extend(peers.iter().filter_map(|peer| {
        let rated = peer.results.iter().find(here)?;
        Some(Bar { label: &peer.name, rate: rated.tokens_per_s, class: "peer" })
    }));
    let roof = result.roofline_fraction.map(|fraction| result.tokens_per_s.median / fraction);
    let longest = bars.iter().map(|bar| bar.rate.max).fold(roof.unwrap_or(0.0), f64::max);
    let at = |rate: f64| BARS + rate / longest * LONGEST;
    let (width, height) = (BARS + LONGEST + 140.0, LINE * (bars.len() as f64 + 1.5));
    let title = format!("{}, tokens a second", name(result));
    writeln!(out, "<h3>{}</h3>", escape(&title))?;
    writeln!(
        out,
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">",
        escape(&title)
    )?;
    for (index, Bar { label, rate, class }) in bars.iter().enumerate() {
        let top = LINE * index as f64;
        let (text, middle) = (top + 15.0, top + LINE / 2.0);
        let (left, right, end) = (at(rate.min), at(rate.max), at(rate.median));
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{text}\" text-anchor=\"end\">{}</text>",
            BARS - 8.0,
            escape(label)
        )?;
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{BARS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            top + 3.0,
            end - BARS,
            LINE - 6.0
        )?;
        writeln!(
            out,
            "<line class=\"range\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>"
        )?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{text}\">{:.2}</text>", right.max(end) + 6.0, rate.median)?;
    }
    if let Some((roof, bound)) = roof.zip(result.bound) {
        let (x, bottom) = (at(roof), LINE * bars.len() as f64);
        writeln!(out, "<line class=\"roof\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/>")?;
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\">roofline {roof:.2} ({})</text>",
            bottom + 16.0,
            bound.name()
        )?;
    }
    writeln!(out, "</svg>")
}

fn write_profile(out: &mut String, profile: &Profile) -> fmt::Result {
    writeln!(out, "<h2>A decode step</h2>")?;
    writeln!(
        out,
        "<p>{:.3} ms at depth {}, median of {}; {:.1} % between operations</p>",
        profile.step_ms,
        profile.depth,
        profile.steps,
        profile.other_fraction * 100.0
    )?;
    let rows = profile.operations.iter().map(|operation| {
        vec![
            escape(&operation.operation),
            operation.count.to_string(),
            format!("{:.3}", operation.ms),
            format!("{:.1}", operation.time_fraction * 100.0),
            format!("{:.1}", operation.bytes_fraction * 100.0),
            format!("{:.2}", operation.gb_per_s),
            format!("{:.1}", operation.gflop_per_s),
        ]
    });
    write_table(out, &["operation", "count", "ms", "% of time", "% of bytes", "GB/s", "GFLOP/s"], rows)
}

fn write_comparison(out: &mut String, comparison: &Comparison) -> fmt::Result {
    writeln!(out, "<h2>Beside {}</h2>", escape(&comparison.with))?;
    for unlike in &comparison.unlike {
        writeln!(out, "<p>Note: {}</p>", escape(unlike))?;
    }
    let rows = comparison.phases.iter().map(|pair| {
        vec![
            escape(format!("{} {} at depth {}", pair.phase, pair.tokens, pair.depth)),
            range(pair.old),
            range(pair.new),
            pair.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            pair.verdict.name().to_owned(),
        ]
    });
    write_table(out, &["phase", "old (min to max)", "new (min to max)", "ratio", ""], rows)?;
    writeln!(out, "<p>{}</p>", escape(&comparison.rule))
}

/// A table of cells that are escaped already.
fn write_table(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> fmt::Result {
    writeln!(out, "<table>")?;
    if head.iter().any(|cell| !cell.is_empty()) {
        writeln!(out, "<tr><th>{}</th></tr>", head.join("</th><th>"))?;
    }
    for row in rows {
        writeln!(out, "<tr><td>{}</td></tr>", row.join("</td><td>"))?;
    }
    writeln!(out, "</table>")
}

fn name(result: &Measured) -> String {
    format!("{} {} at depth {}", result.phase, result.tokens, result.depth)
}

/// `text` as HTML text or attribute shows it, whatever it holds.
fn escape(text: impl Display) -> String {
    let mut escaped = String::new();
    for character in text.to_string().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Forbidden in HTML even as references.
            control if control.is_control() && !control.is_whitespace() => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}
