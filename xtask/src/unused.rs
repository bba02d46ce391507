//! A dependency that is named in a manifest is named in the code, too.

use std::collections::BTreeSet;
use std::path::Path;

use crate::manifest::{self, Dependency, Package};
use crate::source::{self, Source};
use crate::{CheckError, Finding};

/// Folders of a package that only its tests are compiled from.
const TEST_FOLDERS: [&str; 3] = ["tests", "benches", "examples"];

/// Finds what no source file of its package names, what only tests name and is
/// not a dev-dependency, and what the root offers and no member takes.
pub(crate) fn check(
    root: &Path,
    sources: &[Source],
    findings: &mut Vec<Finding>,
) -> Result<(), CheckError> {
    let packages = manifest::packages(root)?;
    for package in &packages {
        let file = Path::new(&package.folder).join("Cargo.toml");
        for dependency in &package.dependencies {
            if let Some(message) = unused(package, dependency, sources) {
                findings.push(Finding::new(&file, message));
            }
        }
    }
    let taken: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| dependency.inherited)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for name in manifest::shared(root)? {
        if !taken.contains(name.as_str()) {
            let message = format!("no member takes `{name}`: remove it");
            findings.push(Finding::new("Cargo.toml", message));
        }
    }
    Ok(())
}

fn unused(package: &Package, dependency: &Dependency, sources: &[Source]) -> Option<String> {
    // A package names itself to switch features on for its own tests.
    if dependency.package == package.name {
        return None;
    }
    let name = dependency.name.replace('-', "_");
    let mut tests = false;
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Ok(inside) = source.path.strip_prefix(&package.folder) else {
            continue;
        };
        if source::words(&source.text, &name).next().is_none() {
            continue;
        }
        let top = inside.iter().next().unwrap_or_default();
        let compiled = !TEST_FOLDERS.iter().any(|folder| top == *folder)
            && source::words(source::without_tests(&source.text), &name)
                .next()
                .is_some();
        if compiled || dependency.table.contains("dev") {
            return None;
        }
        tests = true;
    }
    Some(if tests {
        format!(
            "only tests name `{}`: it belongs into [dev-dependencies]",
            dependency.name
        )
    } else {
        format!(
            "no source file of {} names `{}` of [{}]: remove it",
            package.name, dependency.name, dependency.table
        )
    })
}
