//! The figures in `docs/benchmarks.md`: written from a run, never by hand.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use creto_types::{Clock as _, SystemClock};

use crate::report::{Entry, Peer};

/// The section of the document that has the figures, up to the next one.
const SECTION: &str = "\n## Figures of a run\n";
const NEXT: &str = "\n## ";

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
    let missing = || "the document has no section for its figures, or none after it";
    let (before, rest) = text.split_once(SECTION).ok_or_else(missing)?;
    let (_, after) = rest.split_once(NEXT).ok_or_else(missing)?;
    Ok(format!("{before}{SECTION}{figures}{NEXT}{after}"))
}

fn table(entries: &[Entry], machine: &str) -> String {
    let mut text = format!(
        "\nBy `make figures`: {machine}\n\n| entry | value | is the | p99 | longest | beside it |\n\
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
    use super::{figure, replaced, table};
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
    fn only_the_section_changes() {
        let document = "before\n\n## Figures of a run\n\nold\n\n## report.json\nafter\n";
        let entry = Entry::rate("a/b", 2_000.0).beside("limit | bare", 4_000.0);
        let new = replaced(document, &table(&[entry], "Here.")).expect("it has the section");
        let head = "before\n\n## Figures of a run\n\nBy `make figures`: Here.\n\n| entry |";
        assert!(new.starts_with(head), "{new}");
        assert!(new.ends_with(" |\n\n## report.json\nafter\n"), "{new}");
        assert!(!new.contains("old"), "{new}");
        let row = "| `a/b` | 2,000/s | rate |  |  | 0.50 of 4,000/s limit / bare |\n";
        assert!(new.contains(row), "{new}");
        assert!(replaced("without a section", "").is_err());
    }

    /// The document that `make figures` writes to has a place for them.
    #[test]
    fn the_document_has_the_section() {
        let document = include_str!("../../docs/benchmarks.md");
        assert!(replaced(document, "").is_ok());
    }
}
