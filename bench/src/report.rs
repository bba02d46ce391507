//! What a run found: a table, and `target/bench/report.json`. `docs/benchmarks.md`
//! says how to read both.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::figures;
use crate::ticks::Summary;

/// What a decision of another engine is about, where ours is about the whole.
const ENGINES_JUDGE: &str = "policies for one principal; no chain, no budget, no rate";

/// What `value` of an entry is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stat {
    /// The median of single calls; the lower the better.
    Median,
    /// The 99th percentile of single calls; the lower the better.
    P99,
    /// The longest of a round's single calls, in the median round; the lower the better.
    Longest,
    /// How often a second; the higher the better.
    Rate,
    /// How much for each; the lower the better.
    Each,
}

impl Stat {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::P99 => "p99",
            Self::Longest => "longest",
            Self::Rate => "rate",
            Self::Each => "each",
        }
    }
}

/// One measured figure. `value`, `p99`, `max` and what peers took are in `unit`.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) stat: Stat,
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<f64>,
    /// The first of `peers` again, for whoever wants one number.
    #[serde(flatten)]
    first: Option<First>,
    pub(crate) peers: Vec<Peer>,
}

#[derive(Debug, Serialize)]
struct First {
    peer: String,
    peer_value: f64,
    ratio: f64,
}

/// What an entry is compared with, measured in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// The entry's value over the peer's.
    pub(crate) ratio: f64,
    /// What an engine looks at in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    judges: Option<&'static str>,
}

impl Entry {
    fn new(name: &str, unit: &'static str, stat: Stat, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            stat,
            value,
            p99: None,
            max: None,
            first: None,
            peers: Vec::new(),
        }
    }

    /// Single calls: the median, with the 99th percentile and the longest.
    pub(crate) fn latency(name: &str, unit: &'static str, sample: Summary) -> Self {
        Self {
            p99: Some(sample.p99),
            max: Some(sample.max),
            ..Self::new(name, unit, Stat::Median, sample.median)
        }
    }

    /// Single calls of which the 99th percentile is what matters.
    pub(crate) fn p99(name: &str, unit: &'static str, sample: Summary) -> Self {
        Self {
            p99: Some(sample.p99),
            max: Some(sample.max),
            ..Self::new(name, unit, Stat::P99, sample.p99)
        }
    }

    /// Single calls of which the longest of a round is what matters: that of the median
    /// round, with the 99th percentile and the longest of all rounds.
    pub(crate) fn longest(name: &str, unit: &'static str, longest: f64, all: Summary) -> Self {
        Self {
            p99: Some(all.p99),
            max: Some(all.max),
            ..Self::new(name, unit, Stat::Longest, longest)
        }
    }

    /// So many a second.
    pub(crate) fn rate(name: &str, value: f64) -> Self {
        Self::new(name, "1/s", Stat::Rate, value)
    }

    /// So much for each.
    pub(crate) fn each(name: &str, unit: &'static str, value: f64) -> Self {
        Self::new(name, unit, Stat::Each, value)
    }

    /// Beside this, in the same unit.
    pub(crate) fn beside(self, name: &str, value: f64) -> Self {
        self.with(name, value, None)
    }

    /// Beside another engine, which decides for one principal.
    pub(crate) fn beside_engine(self, name: &str, value: f64) -> Self {
        self.with(name, value, Some(ENGINES_JUDGE))
    }

    fn with(mut self, name: &str, value: f64, judges: Option<&'static str>) -> Self {
        let ratio = self.value / value;
        self.first.get_or_insert_with(|| First {
            peer: name.to_owned(),
            peer_value: value,
            ratio,
        });
        self.peers.push(Peer {
            name: name.to_owned(),
            value,
            ratio,
            judges,
        });
        self
    }
}

/// The entries of a run.
#[derive(Debug)]
pub(crate) struct Report {
    only: Vec<String>,
    /// Everything is measured, for the document.
    figures: bool,
    entries: Vec<Entry>,
}

impl Report {
    /// Of the entries whose names begin with one of these; of all when there is none.
    pub(crate) fn new(only: Vec<String>) -> Self {
        Self {
            only,
            figures: false,
            entries: Vec::new(),
        }
    }

    /// Of everything, to be written into the document.
    pub(crate) fn for_figures() -> Self {
        Self {
            figures: true,
            ..Self::new(Vec::new())
        }
    }

    /// Whether an entry is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Whether a long entry is to be measured: with all, or by its own name.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|prefix| prefix == name)
    }

    /// Adds an entry, unless only others are wanted.
    pub(crate) fn add(&mut self, entry: Entry) {
        if self.wants(&entry.name) {
            eprintln!("  {}: {:.1} {}", entry.name, entry.value, entry.unit);
            self.entries.push(entry);
        }
    }

    pub(crate) fn finish(&self) -> Result<(), Box<dyn Error>> {
        if self.entries.is_empty() {
            return Err(format!("no entry begins with {}", self.only.join(" or ")).into());
        }
        println!(
            "{:<30} {:>14} {:<8} {:>13} {:>13} {:<4}  ratio to peer",
            "name", "value", "is the", "p99", "longest", "unit"
        );
        for entry in &self.entries {
            let show = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.1}"));
            let stat = entry.stat.name();
            let mut line = format!(
                "{:<30} {:>14.1} {:<8} {:>13} {:>13} {:<4}",
                entry.name,
                entry.value,
                stat,
                show(entry.p99),
                show(entry.max),
                entry.unit,
            );
            let width = line.len();
            for (place, peer) in entry.peers.iter().enumerate() {
                if place > 0 {
                    line.push('\n');
                    line.push_str(&" ".repeat(width));
                }
                let precision = if peer.ratio < 0.01 { 5 } else { 2 };
                line.push_str(&format!(
                    "  {:.precision$} of {:.1} {}",
                    peer.ratio, peer.value, peer.name
                ));
            }
            println!("{line}");
        }
        let engines = |entry: &Entry| entry.peers.iter().any(|peer| peer.judges.is_some());
        if self.entries.iter().any(engines) {
            println!("other engines judge {ENGINES_JUDGE}; docs/benchmarks.md says more");
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        fs::create_dir_all(&directory)?;
        let path = directory.join("report.json");
        fs::write(&path, serde_json::to_vec_pretty(&self.entries)?)?;
        println!("written to target/bench/report.json");
        if self.figures {
            let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
            figures::write(&document, &self.entries, &figures::machine())?;
            println!("written to docs/benchmarks.md");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ENGINES_JUDGE, Entry, Report};
    use crate::ticks::Summary;

    const SAMPLE: Summary = Summary {
        median: 2.0,
        p99: 3.0,
        max: 9.0,
    };

    fn written(entry: &Entry) -> serde_json::Value {
        serde_json::to_value(entry).expect("an entry is JSON")
    }

    /// The fields that `docs/benchmarks.md` promises.
    #[test]
    fn entries_keep_their_form() {
        let entry = Entry::latency("a/b", "ns", SAMPLE)
            .beside_engine("other", 4.0)
            .beside("limit", 1.0);
        let expected = json!({
            "name": "a/b", "unit": "ns", "stat": "median",
            "value": 2.0, "p99": 3.0, "max": 9.0,
            "peer": "other", "peer_value": 4.0, "ratio": 0.5,
            "peers": [
                {"name": "other", "value": 4.0, "ratio": 0.5, "judges": ENGINES_JUDGE},
                {"name": "limit", "value": 1.0, "ratio": 2.0},
            ],
        });
        assert_eq!(written(&entry), expected);
        let entry = Entry::each("m", "B", 7.0);
        let expected = json!({"name": "m", "unit": "B", "stat": "each", "value": 7.0, "peers": []});
        assert_eq!(written(&entry), expected);
    }

    #[test]
    fn the_longest_is_not_the_median() {
        let entry = written(&Entry::longest("pause", "ns", 8.0, SAMPLE));
        assert_eq!(entry["stat"], "longest");
        assert_eq!(entry["value"], 8.0);
        assert_eq!(entry["max"], 9.0);
        assert_eq!(entry["p99"], 3.0);
        let entry = written(&Entry::p99("call", "ns", SAMPLE));
        assert_eq!(
            (&entry["stat"], &entry["value"]),
            (&json!("p99"), &json!(3.0))
        );
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut report = Report::new(vec!["authz/miss".to_owned()]);
        report.add(Entry::rate("audit/append", 1.0));
        report.add(Entry::rate("authz/miss/10", 1.0));
        assert_eq!(report.entries.len(), 1);
        assert!(Report::new(Vec::new()).wants("audit/append"));
    }
}
