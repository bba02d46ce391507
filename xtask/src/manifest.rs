//! The manifests of a workspace, as far as dependencies go.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use crate::{CheckError, read};

/// One member.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root, with `/` between parts.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// The key it stands under, which is its name in the code.
    pub(crate) name: String,
    /// Whether the root manifest says what it is.
    pub(crate) inherited: bool,
    /// The package it resolves to; the key when it is not renamed.
    pub(crate) package: String,
    /// The folder it points at, relative to the root, when it has a path.
    pub(crate) folder: Option<String>,
    /// The table it stands in, as written in the manifest.
    pub(crate) table: String,
}

/// Cargo still reads the spelling with an underscore in older editions.
const TABLES: [&str; 5] = [
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "build-dependencies",
    "build_dependencies",
];

pub(crate) fn packages(root: &Path) -> Result<Vec<Package>, CheckError> {
    let path = root.join("Cargo.toml");
    let manifest = parse(&path)?;
    let workspace = manifest
        .get("workspace")
        .and_then(Value::as_table)
        .ok_or_else(|| malformed(&path, "there is no [workspace]"))?;
    let shared = workspace
        .get("dependencies")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let members = workspace
        .get("members")
        .and_then(Value::as_array)
        .ok_or_else(|| malformed(&path, "there is no list of members"))?;
    let mut packages = Vec::new();
    for member in members {
        let folder = member
            .as_str()
            .ok_or_else(|| malformed(&path, "a member is not a text"))?;
        if folder.contains(['*', '?', '[']) {
            return Err(malformed(&path, "members are listed one by one"));
        }
        packages.push(package(root, folder, &shared)?);
    }
    Ok(packages)
}

/// The dependencies that the root manifest offers its members.
pub(crate) fn shared(root: &Path) -> Result<Vec<String>, CheckError> {
    let manifest = parse(&root.join("Cargo.toml"))?;
    let shared = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    Ok(shared.into_iter().flat_map(Table::keys).cloned().collect())
}

fn package(root: &Path, folder: &str, shared: &Table) -> Result<Package, CheckError> {
    let path = root.join(folder).join("Cargo.toml");
    let manifest = parse(&path)?;
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
        .ok_or_else(|| malformed(&path, "the package has no name"))?
        .to_owned();
    let mut dependencies = Vec::new();
    collect(&manifest, "", folder, shared, &mut dependencies);
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        for (target, tables) in targets {
            if let Some(tables) = tables.as_table() {
                let prefix = format!("target.'{target}'.");
                collect(tables, &prefix, folder, shared, &mut dependencies);
            }
        }
    }
    Ok(Package {
        name,
        folder: normalize(folder),
        dependencies,
    })
}

fn collect(
    tables: &Table,
    prefix: &str,
    folder: &str,
    shared: &Table,
    dependencies: &mut Vec<Dependency>,
) {
    for table in TABLES {
        let Some(entries) = tables.get(table).and_then(Value::as_table) else {
            continue;
        };
        for (key, entry) in entries {
            let inherited = entry
                .get("workspace")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            // What is inherited resolves as the workspace says, from its root.
            let (source, base) = if inherited {
                (shared.get(key), "")
            } else {
                (Some(entry), folder)
            };
            let text = |name: &str| {
                source
                    .and_then(|source| source.get(name))
                    .and_then(Value::as_str)
            };
            dependencies.push(Dependency {
                name: key.clone(),
                inherited,
                package: text("package").unwrap_or(key).to_owned(),
                folder: text("path").map(|path| normalize(&format!("{base}/{path}"))),
                table: format!("{prefix}{table}"),
            });
        }
    }
}

/// `a/./b/../c` as `a/c`.
fn normalize(path: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in PathBuf::from(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}

fn parse(path: &Path) -> Result<Table, CheckError> {
    read(path)?
        .parse()
        .map_err(|error: toml::de::Error| malformed(path, error.message()))
}

fn malformed(path: &Path, why: &str) -> CheckError {
    CheckError::Manifest {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

/// The packages by name, for looking dependencies up.
pub(crate) fn by_name(packages: &[Package]) -> BTreeMap<&str, &Package> {
    packages
        .iter()
        .map(|package| (package.name.as_str(), package))
        .collect()
}
