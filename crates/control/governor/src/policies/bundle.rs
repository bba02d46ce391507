//! What is published as one: schema, policies, and the tests beside them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use creto_authz::{CompiledPolicies, Finding, PolicyError, PolicySources, read_file};
use creto_crypto::sha256;
use creto_errors::{Class, Classify};
use creto_types::{CanonicalError, canonical_json};

use super::cases::{TestReport, read_tests, run_tests};

/// The most files of one bundle.
pub const MAX_POLICY_FILES: usize = 256;

/// The most bytes of all files of one bundle: 4 MiB, some 20,000 policies.
pub const MAX_POLICY_BYTES: usize = 4 * 1024 * 1024;

/// The longest name of a file, in bytes: what file systems take.
const MAX_FILE_NAME: usize = 255;

/// The ending of a file of tests.
const TESTS: &str = ".test.json";

/// The ending of a file of links of templates.
const LINKS: &str = ".links.json";

/// The files of a bundle by name. Every name is one that a directory of policies
/// could have, and every file is of a kind that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFiles(BTreeMap<String, String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Schema,
    Policies,
    Links,
    Tests,
}

fn kind(name: &str) -> Option<Kind> {
    // Editors keep their own files beside ours, under names that start with a dot.
    if name.starts_with('.') {
        None
    } else if name.ends_with(TESTS) {
        Some(Kind::Tests)
    } else if name.ends_with(LINKS) {
        Some(Kind::Links)
    } else if name.ends_with(".cedarschema") {
        Some(Kind::Schema)
    } else if name.ends_with(".cedar") {
        Some(Kind::Policies)
    } else {
        None
    }
}

impl PolicyFiles {
    /// Checks names and sizes; what the files say is for [`CheckedBundle::check`].
    pub fn new(files: BTreeMap<String, String>) -> Result<Self, BundleError> {
        let mut findings = Vec::new();
        for name in files.keys() {
            let plain = !name.contains('/') && name.chars().all(|c| !c.is_control());
            if name.len() > MAX_FILE_NAME || !plain || kind(name).is_none() {
                findings.push(finding(
                    name,
                    "a file is called NAME.cedarschema, NAME.cedar, NAME.links.json or \
                     NAME.test.json, without a folder and without a dot in front",
                ));
            }
        }
        if files.len() > MAX_POLICY_FILES {
            let message = format!("{} files; at most {MAX_POLICY_FILES}", files.len());
            findings.push(finding("", &message));
        }
        let bytes: usize = files.values().map(String::len).sum();
        if bytes > MAX_POLICY_BYTES {
            let message = format!("{bytes} bytes in all; at most {MAX_POLICY_BYTES}");
            findings.push(finding("", &message));
        }
        if findings.is_empty() {
            Ok(Self(files))
        } else {
            Err(BundleError::Files(findings))
        }
    }

    /// The bundle that ships with Creto: `policies/` in its repository.
    #[must_use]
    pub fn starter() -> Self {
        let PolicySources {
            schema, policies, ..
        } = PolicySources::starter();
        let tests = [
            (
                "egress.test.json",
                include_str!("../../../../../policies/egress.test.json"),
            ),
            (
                "release.test.json",
                include_str!("../../../../../policies/release.test.json"),
            ),
        ];
        let tests = tests.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self(schema.into_iter().chain(policies).chain(tests).collect())
    }

    /// Reads every file of these kinds in a directory. Others are left alone, and
    /// so are those whose name starts with a dot.
    pub fn from_dir(directory: &Path) -> Result<Self, BundleError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::Policies(PolicyError::Unreadable { path, source })
        };
        let mut files = BTreeMap::new();
        let mut bytes = 0_usize;
        for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
            let entry = entry.map_err(unreadable(directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind(&name).is_none() {
                continue;
            }
            let path = entry.path();
            // A directory that something fills without end must not fill memory too.
            let text = match read_file(&path, MAX_POLICY_BYTES - bytes) {
                Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                    let message = format!("the directory holds more than {MAX_POLICY_BYTES} bytes");
                    return Err(BundleError::Files(vec![finding(&name, &message)]));
                }
                text => text.map_err(unreadable(&path))?,
            };
            bytes += text.len();
            files.insert(name, text);
        }
        Self::new(files)
    }

    /// The files by name.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// SHA-256, in hexadecimal, over the RFC 8785 form of the object that leads
    /// from each file's name to its text.
    pub fn digest(&self) -> Result<String, CanonicalError> {
        Ok(hex::encode(sha256(&canonical_json(&self.0)?)))
    }

    /// Schema, policies and links, in the order in which unnamed policies are numbered.
    #[must_use]
    pub fn sources(&self) -> PolicySources {
        let of = |wanted| {
            self.of_kind(wanted)
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect()
        };
        PolicySources {
            schema: of(Kind::Schema),
            policies: of(Kind::Policies),
            links: of(Kind::Links),
        }
    }

    /// The files of tests.
    pub fn tests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.of_kind(Kind::Tests)
    }

    fn of_kind(&self, wanted: Kind) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(move |(name, _)| kind(name) == Some(wanted))
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

fn finding(file: &str, message: &str) -> Finding {
    Finding {
        file: file.to_owned(),
        line: None,
        policy: None,
        message: message.to_owned(),
    }
}

/// A bundle that compiled, whatever its tests said: what may be looked at. A candidate
/// changes decisions on purpose, and the tests of the set it came from say what was.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The files.
    pub files: PolicyFiles,
    /// See [`PolicyFiles::digest`].
    pub digest: String,
    /// What is asked.
    pub compiled: Arc<CompiledPolicies>,
    /// The tests that ran; some may have failed.
    pub tests: TestReport,
}

impl Candidate {
    /// Compiles and validates the policies and runs the tests beside them.
    ///
    /// Takes as long as there are policies: callers that must not wait run it on a
    /// thread of its own.
    pub fn check(files: PolicyFiles) -> Result<Self, BundleError> {
        let compiled = Arc::new(CompiledPolicies::compile(&files.sources())?);
        let tests = run_tests(&compiled, &read_tests(files.tests())?);
        Ok(Self {
            digest: files.digest()?,
            files,
            compiled,
            tests,
        })
    }

    /// What may be put in force, when every test passed.
    pub fn passed(self) -> Result<CheckedBundle, BundleError> {
        if self.tests.failed() > 0 {
            return Err(BundleError::TestsFailed(self.tests));
        }
        Ok(CheckedBundle {
            files: self.files,
            digest: self.digest,
            compiled: self.compiled,
            tests: self.tests,
        })
    }
}

/// A bundle that compiled and whose tests passed: what may be put in force.
#[derive(Clone, Debug)]
pub struct CheckedBundle {
    /// The files.
    pub files: PolicyFiles,
    /// See [`PolicyFiles::digest`].
    pub digest: String,
    /// What is asked.
    pub compiled: Arc<CompiledPolicies>,
    /// The tests that ran.
    pub tests: TestReport,
}

impl CheckedBundle {
    /// As [`Candidate::check`], and refuses tests that fail.
    pub fn check(files: PolicyFiles) -> Result<Self, BundleError> {
        Candidate::check(files)?.passed()
    }
}

/// A bundle was not accepted; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Files that no bundle has, or too many of them.
    #[error("these files are not a bundle of policies: {}", list(.0))]
    Files(Vec<Finding>),
    /// Schema or policies.
    #[error(transparent)]
    Policies(#[from] PolicyError),
    /// A file of tests cannot be read as one.
    #[error("a file of tests cannot be read: {}", list(.0))]
    TestsUnreadable(Vec<Finding>),
    /// Tests beside the policies failed.
    #[error("{} of {} tests beside the policies failed: {}", .0.failed(), .0.cases.len(), list(&.0.findings()))]
    TestsFailed(TestReport),
    /// The files have no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

impl BundleError {
    /// Everything that was found.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Files(findings) | Self::TestsUnreadable(findings) => findings.clone(),
            Self::Policies(error) => error.findings().to_vec(),
            Self::TestsFailed(report) => report.findings(),
            Self::Canonical(_) => Vec::new(),
        }
    }
}

impl Classify for BundleError {
    fn class(&self) -> Class {
        match self {
            Self::Policies(error) => error.class(),
            Self::Canonical(error) => error.class(),
            Self::Files(_) | Self::TestsUnreadable(_) | Self::TestsFailed(_) => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Policies(error) => error.code(),
            Self::Canonical(error) => error.code(),
            Self::Files(_) => "policy_bundle_invalid",
            Self::TestsUnreadable(_) => "policy_test_unreadable",
            Self::TestsFailed(_) => "policy_tests_failed",
        }
    }
}

fn list(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Result<PolicyFiles, BundleError> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        PolicyFiles::new(pairs.iter().map(pair).collect())
    }

    #[test]
    fn only_files_that_a_directory_could_have_are_a_bundle() {
        for bad in [
            "",
            "a",
            "a.txt",
            "../a.cedar",
            "a/b.cedar",
            ".a.cedar",
            "a\n.cedar",
            "a.json",
        ] {
            let refused = files(&[(bad, "")]).expect_err(bad);
            assert_eq!(refused.code(), "policy_bundle_invalid", "{bad:?}");
        }
        let good = files(&[
            ("a.cedar", "p"),
            ("b.cedarschema", "s"),
            ("a.test.json", "t"),
        ]);
        let good = good.expect("a bundle");
        let sources = good.sources();
        assert_eq!(sources.policies, [("a.cedar".to_owned(), "p".to_owned())]);
        assert_eq!(
            sources.schema,
            [("b.cedarschema".to_owned(), "s".to_owned())]
        );
        assert_eq!(good.tests().collect::<Vec<_>>(), [("a.test.json", "t")]);
    }

    #[test]
    fn too_much_is_refused() {
        let large = "x".repeat(MAX_POLICY_BYTES);
        assert!(files(&[("a.cedar", &large)]).is_ok());
        assert!(files(&[("a.cedar", &large), ("b.cedar", "x")]).is_err());
        let many = (0..=MAX_POLICY_FILES).map(|n| (format!("{n}.cedar"), String::new()));
        assert!(PolicyFiles::new(many.collect()).is_err());
    }

    #[test]
    fn the_digest_covers_names_and_texts() {
        let digest = |pairs| files(pairs).unwrap().digest().unwrap();
        // printf '{"a.cedar":"1","b.cedar":"2"}' | sha256sum
        assert_eq!(
            digest(&[("a.cedar", "1"), ("b.cedar", "2")]),
            "1af349206103d8736477d9d5e5748ffacac31b30d7185ff17ac3454dcbecf07e"
        );
        assert_ne!(digest(&[("a.cedar", "1")]), digest(&[("b.cedar", "1")]));
        assert_ne!(digest(&[("a.cedar", "1")]), digest(&[("a.cedar", "2")]));
    }

    #[test]
    fn the_starter_bundle_is_the_folder_that_ships_and_its_tests_pass() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies");
        let starter = PolicyFiles::starter();
        assert_eq!(PolicyFiles::from_dir(&shipped).unwrap(), starter);
        let checked = CheckedBundle::check(starter).unwrap_or_else(|error| panic!("{error}"));
        assert!(checked.tests.cases.len() >= 11);
    }

    #[test]
    fn a_failing_test_refuses_the_bundle() {
        let mut files = PolicyFiles::starter().files().clone();
        let permit = "permit (principal, action, resource);".to_owned();
        files.insert("open.cedar".to_owned(), permit);
        let candidate = Candidate::check(PolicyFiles::new(files).unwrap()).unwrap();
        assert!(candidate.tests.failed() > 0, "it may be looked at");
        let refused = candidate.passed().unwrap_err();
        assert_eq!(refused.code(), "policy_tests_failed");
        let text = refused.to_string();
        assert!(
            text.contains("release.test.json: another repository"),
            "{text}"
        );
    }

    #[test]
    fn a_directory_is_read_without_what_editors_leave() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.cedar", "p"),
            (".#a.cedar", "x"),
            ("notes.md", "n"),
            ("a.cedar~", "o"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let read = PolicyFiles::from_dir(dir.path()).unwrap();
        assert_eq!(read.files().keys().collect::<Vec<_>>(), ["a.cedar"]);
        let missing = PolicyFiles::from_dir(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.code(), "policies_unreadable");
    }

    /// What is no file is refused by its name, and nobody waits for it.
    #[test]
    fn a_pipe_among_the_files_stops_nobody_who_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("x.cedar");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let path = dir.path().to_owned();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let refused = PolicyFiles::from_dir(&path).unwrap_err();
            tell.send(creto_errors::chain(&refused)).unwrap();
        });
        let refused = told.recv_timeout(std::time::Duration::from_secs(20));
        let refused = refused.unwrap();
        assert!(
            refused.contains("x.cedar") && refused.contains("not a file"),
            "{refused}"
        );
        std::fs::remove_file(&pipe).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("z.cedar")).unwrap();
        let endless = PolicyFiles::from_dir(dir.path()).unwrap_err();
        assert_eq!(endless.code(), "policies_unreadable");
    }
}
