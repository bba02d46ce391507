//! Secrets: where they come from, and a type that does not give them away.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use creto_errors::{Class, Classify};
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// What Debug, Display and Serialize show in place of a secret.
const REDACTED: &str = "[redacted]";

/// The longest secret that is read from a file: 64 KiB.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// More than what a buffer needs to be left free when all is read: with less, `std` reads
/// by way of the stack to see whether there is more, or lets the buffer grow. Either would
/// leave parts of the secret behind.
const SPARE_BYTES: u64 = 64;

/// A secret text. It is zeroized when dropped, and Debug, Display and Serialize
/// show `[redacted]`; only [`Secret::expose`] gives it out.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a text; it must not be empty.
    pub fn new(text: String) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self(text))
    }

    /// Reads an owner-only file (no permission for group or others), without
    /// one trailing line break.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Opening a pipe would wait for its writer, so look before opening, and
        // again at what was opened.
        check_file(path, &std::fs::metadata(path).map_err(unreadable)?)?;
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        check_file(path, &metadata)?;

        let length = metadata.len().min(MAX_SECRET_BYTES) + SPARE_BYTES;
        let room = usize::try_from(length).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(MAX_SECRET_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_SECRET_BYTES {
            return Err(SecretError::TooLarge {
                path: path.to_owned(),
                limit: MAX_SECRET_BYTES,
            });
        }
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self(text))
    }

    /// The secret itself. Never log, format or store what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(unix)]
fn check_file(path: &Path, metadata: &std::fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt;

    if !metadata.is_file() {
        return Err(SecretError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_file(path: &Path, _: &std::fs::Metadata) -> Result<(), SecretError> {
    // Without a permission check a file is no safe place for a secret.
    Err(SecretError::NotAFile {
        path: path.to_owned(),
    })
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// A secret as a configuration names it: the text itself (normally
/// `"${VARIABLE}"`) or `file:/absolute/path`. Reading the configuration opens
/// nothing; [`SecretRef::resolve`] does.
#[derive(Clone)]
pub struct SecretRef(Reference);

#[derive(Clone)]
enum Reference {
    Text(Zeroizing<String>),
    File(PathBuf),
}

impl SecretRef {
    /// The secret that is meant.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match &self.0 {
            Reference::Text(text) => Secret::new(text.as_str().to_owned()),
            Reference::File(path) if path.is_absolute() => Secret::from_file(path),
            Reference::File(_) => Err(SecretError::RelativePath),
        }
    }
}

impl From<String> for SecretRef {
    fn from(text: String) -> Self {
        match text.strip_prefix("file:") {
            Some(path) => Self(Reference::File(PathBuf::from(path))),
            None => Self(Reference::Text(Zeroizing::new(text))),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reference::Text(_) => f.write_str(REDACTED),
            Reference::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(SecretVisitor)
    }
}

/// Refuses other types without quoting the value, which serde's defaults do.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret in quotes, or \"file:/absolute/path\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretRef, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<SecretRef, E> {
        Ok(text.into())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("boolean"), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }
}

/// A secret cannot be read. No variant holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is a place for it, but nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// The file cannot be opened or is not UTF-8 text.
    #[error("cannot read the secret file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path names a directory, a pipe or a device.
    #[error("{} is not a regular file with permissions that can be checked", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than the owner have access to the file.
    #[error(
        "{} has mode {mode:04o}; a secret file gives nothing to group and others (chmod 600)",
        path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A `file:` reference that depends on the working directory. What it says may be a
    /// secret that stands there by mistake.
    #[error("a `file:` reference is not an absolute path (it is not shown)")]
    RelativePath,
    /// The file is longer than a secret may be.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
}

impl Classify for SecretError {
    fn class(&self) -> Class {
        match self {
            Self::Permissions { .. } => Class::Security,
            _ => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "secret_empty",
            Self::Unreadable { .. } => "secret_unreadable",
            Self::NotAFile { .. } => "secret_not_a_file",
            Self::Permissions { .. } => "secret_permissions",
            Self::RelativePath => "secret_relative_path",
            Self::TooLarge { .. } => "secret_too_large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(dir: &Path, text: &str, mode: u32) -> PathBuf {
        let path = dir.join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn nothing_shows_the_text() {
        let secret = Secret::new("hunter2".to_owned()).unwrap();
        let reference = SecretRef::from("hunter2".to_owned());
        for shown in [
            format!("{secret} {secret:?} {reference} {reference:?}"),
            toml::Value::try_from(&secret).unwrap().to_string(),
            toml::Value::try_from(&reference).unwrap().to_string(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_is_read_without_its_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "hunter2\r\n", 0o600);
        let reference = SecretRef::from(format!("file:{}", path.display()));
        assert_eq!(reference.resolve().unwrap().expose(), "hunter2");
    }

    #[test]
    fn a_file_is_read_into_room_it_never_fills() {
        let dir = tempfile::tempdir().unwrap();
        for length in [1, 31, 32, 64, 4_096, 64 * 1024] {
            let path = write(dir.path(), &"x".repeat(length), 0o600);
            let Secret(text) = Secret::from_file(&path).unwrap();
            assert_eq!(text.len(), length);
            assert_eq!(text.capacity(), length + 64);
        }
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o610, 0o644] {
            let path = write(dir.path(), "hunter2", mode);
            let error = Secret::from_file(&path).unwrap_err();
            assert_eq!(error.code(), "secret_permissions");
            assert_eq!(error.class(), Class::Security);
        }
    }

    #[test]
    fn other_faults_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Secret::from_file(path).unwrap_err().code();
        assert_eq!(code(dir.path()), "secret_not_a_file");
        assert_eq!(code(&dir.path().join("none")), "secret_unreadable");
        assert_eq!(code(&write(dir.path(), "\n", 0o600)), "secret_empty");
        let long = "x".repeat(64 * 1024 + 1);
        assert_eq!(code(&write(dir.path(), &long, 0o600)), "secret_too_large");
        let relative = SecretRef::from("file:hunter2".to_owned());
        let error = relative.resolve().unwrap_err();
        assert_eq!(error.code(), "secret_relative_path");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
