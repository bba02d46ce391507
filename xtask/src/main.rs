//! `cargo xtask <check>`: see the library for what the checks promise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use xtask::{CheckError, Finding, layers, tidy};

const USAGE: &str = "usage: cargo xtask <check-layers | tidy> [ROOT]

  check-layers  dependencies point down, in every manifest
  tidy          nothing left over, nothing unexplained, no unused dependency, a page for
                each error code";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let check: fn(&Path) -> Result<Vec<Finding>, CheckError> = match arguments.next().as_deref() {
        Some("check-layers") => layers::check,
        Some("tidy") => tidy::check,
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let root = arguments.next().map_or_else(workspace_root, PathBuf::from);
    match check(&root) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            eprintln!("{} findings", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("{error}{cause}");
            ExitCode::from(2)
        }
    }
}

/// This crate lies directly below the root.
fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
