//! What a run found.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// One measured figure. Latencies: `value` is the median, `p99` beside it, both in
/// `unit`. Rates: per second, higher is better.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    entries: Vec<Entry>,
}

/// What an entry is compared with, measured in the same run.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

impl Report {
    /// A latency: the ratio is ours over the peer's, so lower is better.
    pub(crate) fn latency(
        &mut self,
        name: &'static str,
        unit: &'static str,
        sample: crate::sample::Summary,
        peer: Peer,
    ) {
        self.entries.push(Entry {
            name,
            unit,
            value: sample.median,
            p99: Some(sample.p99),
            peer: Some(peer.name),
            peer_value: Some(peer.value),
            ratio: Some(sample.median / peer.value),
        });
    }

    /// A rate per second: the ratio is ours over the peer's, so higher is better.
    pub(crate) fn rate(&mut self, name: &'static str, value: f64, p99: Option<f64>, peer: Peer) {
        self.entries.push(Entry {
            name,
            unit: "1/s",
            value,
            p99,
            peer: Some(peer.name),
            peer_value: Some(peer.value),
            ratio: Some(value / peer.value),
        });
    }

    pub(crate) fn finish(&self) -> Result<(), Box<dyn Error>> {
        println!(
            "{:<28} {:>14} {:>14} {:<5} {:>10}  peer",
            "name", "value", "p99", "unit", "ratio"
        );
        for entry in &self.entries {
            let show = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.1}"));
            println!(
                "{:<28} {:>14} {:>14} {:<5} {:>10}  {} {}",
                entry.name,
                show(Some(entry.value)),
                show(entry.p99),
                entry.unit,
                entry.ratio.map_or(String::new(), |r| format!("{r:.2}")),
                entry.peer.unwrap_or_default(),
                show(entry.peer_value),
            );
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        fs::create_dir_all(&directory)?;
        let path = directory.join("report.json");
        fs::write(&path, serde_json::to_vec_pretty(&self.entries)?)?;
        println!("written to target/bench/report.json");
        Ok(())
    }
}
