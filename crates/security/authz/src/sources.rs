//! Where policy text comes from.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::error::PolicyError;

/// The most bytes of one file that are read.
const MOST_OF_A_FILE: usize = 64 * 1024 * 1024;

/// Reads the text of a regular file that holds at most so many bytes. Anything else is
/// refused and not waited for: a pipe would keep its reader for ever, and a device fill
/// memory.
pub fn read_file(path: &Path, most: usize) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        let why = format!("it holds more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

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
            let text = read_file(&path, MOST_OF_A_FILE).map_err(unreadable(&path))?;
            files.push((name, text));
        }
        Ok(sources)
    }
}
