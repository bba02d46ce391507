//! The product's benchmarks. Each entry is measured beside its peers or a physical
//! limit in the same run, because machines are shared and noisy: read the ratio.
//!
//! `creto-bench [PREFIX...]` measures all entries, or those whose names begin so, and
//! writes `target/bench/report.json`, and the same as a table. `creto-bench --figures`
//! measures all, and writes the figures of `docs/benchmarks.md`.
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is the real clock; product code takes an injected one"
)]

mod actions;
mod audit;
mod authz;
mod consensus;
mod crypto;
mod figures;
mod lines;
mod memory;
mod nhi;
mod peers;
mod report;
mod sample;
mod ticks;

use std::error::Error;

use report::Report;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> Result<(), Box<dyn Error>> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let mut report = match only.as_slice() {
        [one] if one == "--figures" => Report::for_figures(),
        prefixes if prefixes.iter().any(|prefix| prefix.starts_with('-')) => {
            return Err("usage: creto-bench [PREFIX... | --figures]".into());
        }
        _ => Report::new(only),
    };
    for (name, run) in [
        (
            "authz",
            authz::run as fn(&mut Report) -> Result<(), Box<dyn Error>>,
        ),
        ("crypto", crypto::run),
        ("consensus", consensus::run),
        ("audit", audit::run),
        ("actions", actions::run),
        ("nhi", nhi::run),
    ] {
        eprintln!("measuring {name}");
        run(&mut report)?;
    }
    report.finish()
}
