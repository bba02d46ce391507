//! Dependencies point down:
//!
//! ```text
//! foundation <- platform <- security <- enablement <- control <- api <- server <- creto
//! ```
//!
//! A package's layer is the folder it lies in. Every kind of dependency counts:
//! normal, dev, build, of one target only, optional, renamed, inherited from the
//! workspace.

use std::path::{Path, PathBuf};

use crate::manifest::{self, Dependency, Package};
use crate::{CheckError, Finding};

/// Where a package stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Foundation,
    Platform,
    Security,
    Enablement,
    Control,
    Api,
    Server,
    Creto,
    /// Technology behind a port.
    Backend,
    /// Helpers for tests: a dev-dependency of anybody.
    Testing,
    /// `tests`, `bench`, `fuzz`, `xtask`: may name anything, are named by nobody.
    Outside,
}

impl Layer {
    fn of(folder: &str) -> Option<Self> {
        let mut parts = folder.split('/');
        let layer = match (parts.next()?, parts.next(), parts.next()) {
            ("tests" | "bench" | "fuzz" | "xtask", None, None) => Self::Outside,
            ("crates", Some("server"), None) => Self::Server,
            ("crates", Some("creto"), None) => Self::Creto,
            ("crates", Some(layer), Some(_)) => match layer {
                "foundation" => Self::Foundation,
                "platform" => Self::Platform,
                "security" => Self::Security,
                "enablement" => Self::Enablement,
                "control" => Self::Control,
                "api" => Self::Api,
                "backends" => Self::Backend,
                "testing" => Self::Testing,
                _ => return None,
            },
            _ => return None,
        };
        parts.next().is_none().then_some(layer)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Foundation => "foundation",
            Self::Platform => "platform",
            Self::Security => "security",
            Self::Enablement => "enablement",
            Self::Control => "control",
            Self::Api => "api",
            Self::Server => "server",
            Self::Creto => "creto",
            Self::Backend => "backends",
            Self::Testing => "testing",
            Self::Outside => "outside the layers",
        }
    }
}

/// The only edges inside a layer.
const SIDEWAYS: [(&str, &str); 11] = [
    ("creto-types", "creto-errors"),
    ("creto-config", "creto-errors"),
    ("creto-telemetry", "creto-errors"),
    ("creto-telemetry", "creto-types"),
    ("creto-audit", "creto-tlog"),
    ("creto-audit", "creto-crypto"),
    ("creto-nhi", "creto-crypto"),
    ("creto-consensus", "creto-crypto"),
    ("creto-http", "creto-ingress"),
    ("creto-grpc", "creto-ingress"),
    ("creto-grpc", "creto-proto"),
];

/// Checks every manifest of the workspace at `root`.
pub fn check(root: &Path) -> Result<Vec<Finding>, CheckError> {
    let packages = manifest::packages(root)?;
    let mut findings = Vec::new();
    for package in &packages {
        let file = PathBuf::from(&package.folder).join("Cargo.toml");
        let Some(layer) = Layer::of(&package.folder) else {
            findings.push(Finding::new(file, "this folder belongs to no layer"));
            continue;
        };
        check_name(package, layer, &file, &mut findings);
        for dependency in &package.dependencies {
            let Some(target) = resolve(&packages, dependency) else {
                continue;
            };
            // A crate names itself to switch its own test helpers on.
            if target.name == package.name && dependency.table.contains("dev") {
                continue;
            }
            let Some(below) = Layer::of(&target.folder) else {
                continue;
            };
            if let Some(why) = objection(root, package, layer, target, below, &dependency.table) {
                let message = format!("[{}] {}: {why}", dependency.table, target.name);
                findings.push(Finding::new(&file, message));
            }
        }
    }
    findings.extend(unlisted(root, &packages)?);
    findings.sort();
    Ok(findings)
}

fn resolve<'a>(packages: &'a [Package], dependency: &Dependency) -> Option<&'a Package> {
    let by_folder = dependency
        .folder
        .as_deref()
        .and_then(|folder| packages.iter().find(|package| package.folder == folder));
    by_folder.or_else(|| {
        manifest::by_name(packages)
            .get(dependency.package.as_str())
            .copied()
    })
}

fn objection(
    root: &Path,
    from: &Package,
    from_layer: Layer,
    to: &Package,
    to_layer: Layer,
    table: &str,
) -> Option<String> {
    let dev = table.contains("dev");
    match (from_layer, to_layer) {
        (_, Layer::Outside) => Some("nothing depends on what is outside the layers".to_owned()),
        (Layer::Outside, _) => None,
        (_, Layer::Testing) => (!dev).then(|| "test helpers are dev-dependencies only".to_owned()),
        (Layer::Testing, Layer::Backend) | (Layer::Server, Layer::Backend) => None,
        (_, Layer::Backend) => Some(
            "only the server, tests and benchmarks name a backend; depend on its port".to_owned(),
        ),
        (Layer::Backend, Layer::Foundation) => None,
        (Layer::Backend, to_layer) if to_layer >= Layer::Api => Some(format!(
            "a backend depends on the crates that own its ports and on foundation, not on {}",
            to_layer.name()
        )),
        (Layer::Backend, _) => {
            let ports = root.join(&to.folder).join("src/ports.rs");
            (!ports.is_file()).then(|| {
                "a backend depends on the crates that own its ports; this one has no src/ports.rs"
                    .to_owned()
            })
        }
        (Layer::Testing, _) => None,
        (from_layer, to_layer) if from_layer > to_layer => None,
        (from_layer, to_layer) if from_layer == to_layer => {
            let excepted = SIDEWAYS.contains(&(from.name.as_str(), to.name.as_str()));
            (!excepted).then(|| format!("an edge inside {}; see SIDEWAYS", from_layer.name()))
        }
        (from_layer, to_layer) => Some(format!(
            "an edge upwards, from {} to {}",
            from_layer.name(),
            to_layer.name()
        )),
    }
}

/// Packages are `creto-<folder>`; outside the layers they have no such rule.
fn check_name(package: &Package, layer: Layer, file: &Path, findings: &mut Vec<Finding>) {
    let last = package.folder.rsplit('/').next().unwrap_or_default();
    let expected = match layer {
        Layer::Outside => return,
        Layer::Creto => last.to_owned(),
        _ => format!("creto-{last}"),
    };
    if package.name != expected {
        let message = format!("this package is called {}, not {}", expected, package.name);
        findings.push(Finding::new(file, message));
    }
}

/// A crate that no manifest names would escape this check.
fn unlisted(root: &Path, packages: &[Package]) -> Result<Vec<Finding>, CheckError> {
    let mut findings = Vec::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in crate::source::entries(&folder)? {
            if !entry.is_dir() {
                continue;
            }
            let relative = crate::source::relative(root, &entry);
            if entry.join("Cargo.toml").is_file() {
                if !packages
                    .iter()
                    .any(|package| Path::new(&package.folder) == relative)
                {
                    let message = "this package is not a member of the workspace";
                    findings.push(Finding::new(relative.join("Cargo.toml"), message));
                }
            } else {
                folders.push(entry);
            }
        }
    }
    Ok(findings)
}
