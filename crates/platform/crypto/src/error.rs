//! What can go wrong, without ever saying more about a secret than that it did
//! not fit.

use std::path::{Path, PathBuf};

use creto_errors::{Class, Classify};

/// An operation on keys, signatures or ciphertexts was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The signature does not belong to this message, context and key.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// The bytes are not of the length or form the algorithm gives.
    #[error("malformed {what} for {algorithm}: expected {expected} bytes, got {got}")]
    Malformed {
        /// The kind of object.
        what: &'static str,
        /// The algorithm it claims.
        algorithm: &'static str,
        /// How many bytes that algorithm has.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// The text is not strict, unpadded base64url.
    #[error("{what} is not unpadded base64url")]
    Encoding {
        /// The kind of object.
        what: &'static str,
    },
    /// A text is no digest that names its function.
    #[error(
        "a digest is the name of its function, `:` and as many lower-case hexadecimal digits as \
         it gives"
    )]
    DigestForm,
    /// Key and object are of two algorithms.
    #[error("algorithm mismatch: expected {expected}, got {got}")]
    AlgorithmMismatch {
        /// What the key is for.
        expected: &'static str,
        /// What the object claims.
        got: &'static str,
    },
    /// No such algorithm here.
    #[error("unknown algorithm `{name}`")]
    UnknownAlgorithm {
        /// The name, cut to a loggable length.
        name: String,
    },
    /// A known algorithm that this deployment does not read ([`crate::Allowed`]).
    #[error("the {kind} algorithm `{name}` is not allowed here")]
    AlgorithmNotAllowed {
        /// What kind of algorithm.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// Bytes of the right length that are no key of the algorithm.
    #[error("these bytes are no {what} of {algorithm}")]
    KeyRejected {
        /// The kind of key.
        what: &'static str,
        /// The algorithm it claims.
        algorithm: &'static str,
    },
    /// A key derivation gives only so many bytes (RFC 5869, section 2.3).
    #[error("{algorithm} gives at most {longest} bytes, {got} were asked")]
    DerivedKeyTooLong {
        /// The function.
        algorithm: &'static str,
        /// The most it gives.
        longest: usize,
        /// How many were asked.
        got: usize,
    },
    /// Contexts have at most 255 bytes (FIPS 204, section 5.2).
    #[error("a signature context has at most 255 bytes, got {got}")]
    ContextTooLong {
        /// How many were given.
        got: usize,
    },
    /// Plain Ed25519 (RFC 8032) has no context; ignoring one would lose the
    /// separation it asks for.
    #[error("{algorithm} takes no context")]
    ContextUnsupported {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The wrapping key was retired, or is not of this organization.
    #[error("there is no wrapping key of version {version}")]
    WrappingKeyMissing {
        /// Which one the object names.
        version: u32,
    },
    /// A wrapped key is in neither of its forms.
    #[error(
        "a wrapped key has a salt and a ciphertext, or a name of its keystore's own and a blob"
    )]
    WrappedForm,
    /// The keystore cannot be reached, or does not answer now.
    #[error("the keystore does not answer: {why}")]
    KeystoreUnavailable {
        /// In its words.
        why: String,
    },
    /// The keystore does not let this process use the root key.
    #[error("the keystore refuses: {why}")]
    KeystoreRefused {
        /// In its words.
        why: String,
    },
    /// What is under the root key was wrapped by a keystore of another kind.
    #[error("what is wrapped by `{name}` is not of this keystore")]
    KeystoreForeign {
        /// By what it was wrapped.
        name: String,
    },
    /// Wrong key, wrong associated data, or changed bytes: which one is not
    /// knowable.
    #[error("the sealed bytes do not open")]
    OpenFailed,
    /// The engine below failed at something that cannot fail for valid input.
    #[error("the cryptographic engine failed at {operation}")]
    Engine {
        /// What it was doing.
        operation: &'static str,
    },
}

impl CryptoError {
    /// No algorithm is called so.
    pub(crate) fn unknown(name: &str) -> Self {
        Self::UnknownAlgorithm {
            name: name.chars().take(64).collect(),
        }
    }
}

impl Classify for CryptoError {
    fn class(&self) -> Class {
        match self {
            Self::SignatureInvalid
            | Self::AlgorithmMismatch { .. }
            | Self::AlgorithmNotAllowed { .. }
            | Self::KeyRejected { .. }
            | Self::KeystoreRefused { .. }
            | Self::OpenFailed => Class::Security,
            Self::KeystoreUnavailable { .. } => Class::Transient,
            Self::Malformed { .. }
            | Self::Encoding { .. }
            | Self::DigestForm
            | Self::UnknownAlgorithm { .. }
            | Self::WrappingKeyMissing { .. }
            | Self::WrappedForm
            | Self::KeystoreForeign { .. }
            | Self::DerivedKeyTooLong { .. }
            | Self::ContextTooLong { .. }
            | Self::ContextUnsupported { .. }
            | Self::Engine { .. } => Class::Permanent,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::SignatureInvalid => "signature_invalid",
            Self::Malformed { .. } | Self::WrappedForm => "malformed_crypto_object",
            Self::Encoding { .. } => "invalid_base64url",
            Self::DigestForm => "digest_malformed",
            Self::AlgorithmMismatch { .. } => "algorithm_mismatch",
            Self::UnknownAlgorithm { .. } => "unknown_algorithm",
            Self::AlgorithmNotAllowed { .. } => "algorithm_not_allowed",
            Self::KeyRejected { .. } => "key_rejected",
            Self::DerivedKeyTooLong { .. } => "derived_key_too_long",
            Self::ContextTooLong { .. } => "context_too_long",
            Self::ContextUnsupported { .. } => "context_unsupported",
            Self::WrappingKeyMissing { .. } => "wrapping_key_missing",
            Self::KeystoreUnavailable { .. } => "keystore_unavailable",
            Self::KeystoreRefused { .. } => "keystore_refused",
            Self::KeystoreForeign { .. } => "keystore_foreign",
            Self::OpenFailed => "open_failed",
            Self::Engine { .. } => "crypto_engine_failed",
        }
    }
}

/// The root key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be read or written.
    #[error("cannot {operation} the root key file {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written, for there is no room.
    #[error("the disk is full: cannot {operation} the root key file {}", path.display())]
    DiskFull {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// In the system's words.
        #[source]
        source: std::io::Error,
    },
    /// Others than its owner can read or write the file.
    #[error(
        "the root key file {} has mode {mode:04o}; it must be accessible to its owner alone (chmod 600)",
        path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The path is a directory, a device or something else.
    #[error("the root key file {} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The text is not 64 hexadecimal digits.
    #[error("a root key is 64 hexadecimal digits")]
    Malformed,
    /// There is a key already; replacing it would lose everything it wraps.
    #[error("the root key file {} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl RootKeyError {
    /// The error of a file operation.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            if creto_types::is_disk_full(&source) {
                Self::DiskFull {
                    operation,
                    path,
                    source,
                }
            } else {
                Self::Io {
                    operation,
                    path,
                    source,
                }
            }
        }
    }
}

impl Classify for RootKeyError {
    fn class(&self) -> Class {
        match self {
            Self::Permissions { .. } => Class::Security,
            Self::DiskFull { .. } => Class::Transient,
            Self::Io { .. } | Self::NotAFile { .. } | Self::Malformed | Self::Exists { .. } => {
                Class::Permanent
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "root_key_io",
            Self::DiskFull { .. } => "storage_full",
            Self::Permissions { .. } => "root_key_permissions",
            Self::NotAFile { .. } => "root_key_not_a_file",
            Self::Malformed => "root_key_malformed",
            Self::Exists { .. } => "root_key_exists",
        }
    }
}
