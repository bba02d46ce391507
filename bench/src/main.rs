//! The product's benchmarks. Each entry is measured beside its peer or physical
//! limit in the same run, because machines are shared and noisy: read the ratio.
//!
//! Writes `target/bench/report.json` and prints the same as a table.
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is the real clock; product code takes an injected one"
)]

mod actions;
mod audit;
mod authz;
mod crypto;
mod report;
mod sample;

use std::error::Error;

use report::Report;

fn main() -> Result<(), Box<dyn Error>> {
    let mut report = Report::default();
    for (name, run) in [
        (
            "crypto",
            crypto::run as fn(&mut Report) -> Result<(), Box<dyn Error>>,
        ),
        ("authz", authz::run),
        ("audit", audit::run),
        ("actions", actions::run),
    ] {
        eprintln!("measuring {name}");
        run(&mut report)?;
    }
    report.finish()?;
    Ok(())
}
