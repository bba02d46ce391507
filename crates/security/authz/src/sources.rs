//! Where policy text comes from.

use std::path::Path;

use crate::error::PolicyError;

/// The text of a policy set: `(file name, text)` in the order in which unnamed
/// policies are numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySources {
    /// Cedar schema files; together they are one schema.
    pub schema: Vec<(String, String)>,
    /// Cedar policy files; together they are one policy set.
    pub policies: Vec<(String, String)>,
    /// Links of templates, as JSON in the format of Cedar's command line.
    pub links: Vec<(String, String)>,
}

impl PolicySources {
    /// The set that ships with Creto, the files of `policies/` in its repository.
    #[must_use]
    pub fn starter() -> Self {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        Self {
            schema: vec![
                file(
                    "release.cedarschema",
                    include_str!("../../../../policies/release.cedarschema"),
                ),
                file(
                    "schema.cedarschema",
                    include_str!("../../../../policies/schema.cedarschema"),
                ),
            ],
            policies: vec![
                file(
                    "egress.cedar",
                    include_str!("../../../../policies/egress.cedar"),
                ),
                file(
                    "release.cedar",
                    include_str!("../../../../policies/release.cedar"),
                ),
            ],
            links: Vec::new(),
        }
    }

    /// Reads every `*.cedarschema`, `*.cedar` and `*.links.json` file of a
    /// directory, in the order of their names. Other files and folders in it are
    /// left alone.
    pub fn from_dir(directory: &Path) -> Result<Self, PolicyError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| PolicyError::Unreadable { path, source }
        };
        let mut paths = std::fs::read_dir(directory)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(unreadable(directory))?;
        paths.sort();
        let mut sources = Self::default();
        for path in paths {
            let name = path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let files = match path.extension().and_then(|extension| extension.to_str()) {
                Some("cedarschema") => &mut sources.schema,
                Some("cedar") => &mut sources.policies,
                Some("json") if name.ends_with(".links.json") => &mut sources.links,
                _ => continue,
            };
            let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
            files.push((name, text));
        }
        Ok(sources)
    }
}
