//! The figures in `docs/benchmarks.md`: written from a run, never by hand.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use creto_types::{Clock as _, SystemClock};

use crate::report::{Entry, Peer};

/// Where the figures begin and end in the document; what is between is replaced.
const BEGIN: &str = "<!-- figures of a run: `make figures` writes this part -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// Puts the figures in the place of those that the document has.
pub(crate) fn write(
    document: &Path,
    entries: &[Entry],
    machine: &str,
) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(document)?;
    let new = replaced(&text, &table(entries, machine))?;
    fs::write(document, new)?;
    Ok(())
}

fn replaced(text: &str, figures: &str) -> Result<String, Box<dyn Error>> {
    let missing = || "the document does not say where its figures are";
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}{figures}{END}{after}"))
}

fn table(entries: &[Entry], machine: &str) -> String {
    let mut text = format!(
        "\n{machine}\n\n| entry | value | is the | p99 | longest | beside it |\n\
         |---|---:|---|---:|---:|---|\n"
    );
    for entry in entries {
        let unit = entry.unit;
        let show = |value: Option<f64>| value.map_or(String::new(), |value| figure(value, unit));
        let beside: Vec<String> = entry
            .peers
            .iter()
            .map(
                |Peer {
                     name, value, ratio, ..
                 }| {
                    let decimals = if *ratio < 0.01 { 5 } else { 2 };
                    format!("{ratio:.decimals$} of {} {name}", figure(*value, unit))
                },
            )
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            entry.name,
            figure(entry.value, unit),
            entry.stat.name(),
            show(entry.p99),
            show(entry.max),
            beside.join("; ").replace('|', "/"),
        );
    }
    text.push('\n');
    text
}

/// A figure as people read it: no decimals where nobody looks for them, thousands apart.
fn figure(value: f64, unit: &str) -> String {
    let decimals = if value < 100.0 { 1 } else { 0 };
    let digits = format!("{value:.decimals$}");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if part.is_empty() { "" } else { "." };
    match unit {
        "1/s" => format!("{grouped}{point}{part}/s"),
        _ => format!("{grouped}{point}{part} {unit}"),
    }
}

/// What the run was made on, in one line.
pub(crate) fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model.trim())
        .collect();
    let model = models
        .first()
        .copied()
        .unwrap_or("a processor that does not say its name");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let now = SystemClock::new().now().to_string();
    let date = now.split('T').next().unwrap_or_default();
    format!("{date}, {model}, {count} of its threads, shared with others; Linux {kernel}.")
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, figure, replaced, table};
    use crate::report::Entry;

    #[test]
    fn figures_are_grouped() {
        for (value, unit, shown) in [
            (0.04, "us", "0.0 us"),
            (12.34, "ns", "12.3 ns"),
            (120.4, "ns", "120 ns"),
            (1_584.0, "B", "1,584 B"),
            (162_528.4, "1/s", "162,528/s"),
            (101_700_000.0, "1/s", "101,700,000/s"),
        ] {
            assert_eq!(figure(value, unit), shown);
        }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let entry = Entry::rate("a/b", 2_000.0).beside("limit | bare", 4_000.0);
        let new = replaced(&document, &table(&[entry], "Here.")).expect("it has marks");
        assert!(
            new.starts_with(&format!("before\n{BEGIN}\nHere.\n")),
            "{new}"
        );
        assert!(new.ends_with(&format!("\n{END}after\n")), "{new}");
        let row = "| `a/b` | 2,000/s | rate |  |  | 0.50 of 4,000/s limit / bare |\n";
        assert!(new.contains(row), "{new}");
        assert!(replaced("without marks", "").is_err());
    }

    /// The document that `make figures` writes to has a place for them.
    #[test]
    fn the_document_has_its_marks() {
        let document = include_str!("../../docs/benchmarks.md");
        assert!(replaced(document, "").is_ok());
    }
}
