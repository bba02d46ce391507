//! The one secret that is not in the database: it wraps every private key that
//! is.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::aead::{self, KEY_LEN, NONCE_LEN};
use crate::algorithm::named;
use crate::wrapped::Derived;
use crate::{
    AeadAlgorithm, CryptoError, CryptoProvider, KdfAlgorithm, RootKeyError, Secret, WrappedKey,
    encoding,
};

pub(crate) const ROOT_LEN: usize = 32;
const SALT_LEN: usize = 16;
/// Names the construction inside the derivation, so that one cannot be confused
/// with another.
const DOMAIN_V1: &str = "creto/wrapped-key/v1\0";
/// As the first, with the algorithm's name before the purpose: no key is derived
/// for two ciphers. Of every algorithm but the one that the first version is of.
const DOMAIN_V2: &str = "creto/wrapped-key/v2\0";

/// One line for each: its standards' names, and what they stand for.
macro_rules! wrap_algorithms {
    ($($variant:ident = $name:literal: $kdf:ident, $aead:ident;)+) => {
        /// How a [`WrappedKey`] was made: a key derivation (RFC 5869) gives each wrap a key
        /// and a nonce of its own, a cipher encrypts with them. Named `<kdf>+<cipher>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum WrapAlgorithm {
            $(
                #[doc = concat!("`", $name, "`.")]
                $variant,
            )+
        }

        named!(WrapAlgorithm, "key wrapping", [$($variant),+]);

        impl WrapAlgorithm {
            /// The names of what it is made of.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            const fn parts(self) -> (KdfAlgorithm, AeadAlgorithm) {
                match self {
                    $(Self::$variant => (KdfAlgorithm::$kdf, AeadAlgorithm::$aead),)+
                }
            }
        }
    };
}

wrap_algorithms! {
    HkdfSha256Aes256Gcm = "HKDF-SHA256+A256GCM": HkdfSha256, Aes256Gcm;
    HkdfSha384Aes256Gcm = "HKDF-SHA384+A256GCM": HkdfSha384, Aes256Gcm;
    HkdfSha512Aes256Gcm = "HKDF-SHA512+A256GCM": HkdfSha512, Aes256Gcm;
    HkdfSha256ChaCha20Poly1305 = "HKDF-SHA256+ChaCha20-Poly1305": HkdfSha256, ChaCha20Poly1305;
    HkdfSha384ChaCha20Poly1305 = "HKDF-SHA384+ChaCha20-Poly1305": HkdfSha384, ChaCha20Poly1305;
    HkdfSha512ChaCha20Poly1305 = "HKDF-SHA512+ChaCha20-Poly1305": HkdfSha512, ChaCha20Poly1305;
}

impl WrapAlgorithm {
    /// By what the key and the nonce of a wrap are derived.
    #[must_use]
    pub const fn kdf(self) -> KdfAlgorithm {
        self.parts().0
    }

    /// By what a wrap is encrypted.
    #[must_use]
    pub const fn aead(self) -> AeadAlgorithm {
        self.parts().1
    }

    /// What a wrap is bound to: the info of the derivation and the associated data.
    fn binding(self, purpose: &str) -> String {
        match self {
            Self::HkdfSha256Aes256Gcm => [DOMAIN_V1, purpose].concat(),
            other => [DOMAIN_V2, other.as_str(), "\0", purpose].concat(),
        }
    }
}

/// 32 secret bytes from a file that only its owner can read, or from the
/// environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKey(Secret);

impl RootKey {
    /// A key from 64 hexadecimal digits; white space around them is ignored.
    pub fn from_hex(text: &str) -> Result<Self, RootKeyError> {
        let digits = text.trim_ascii().as_bytes();
        if digits.len() != ROOT_LEN * 2 {
            return Err(RootKeyError::Malformed);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOT_LEN));
        for pair in digits.chunks_exact(2) {
            let byte = pair
                .iter()
                .try_fold(0_u8, |value, digit| Some((value << 4) | nibble(*digit)?))
                .ok_or(RootKeyError::Malformed)?;
            bytes.push(byte);
        }
        Ok(Self(Secret::copy_of(&bytes)))
    }

    /// A wrapping key.
    pub(crate) fn from_secret(secret: Secret) -> Result<Self, CryptoError> {
        encoding::expect_len("wrapping key", "HKDF", ROOT_LEN, secret.expose())?;
        Ok(Self(secret))
    }

    /// Reads the key from a file of 64 hexadecimal digits. The file must be a
    /// regular one without any permission for group or others.
    pub fn load(path: &Path) -> Result<Self, RootKeyError> {
        let io = |operation| RootKeyError::io(operation, path);
        let file = File::open(path).map_err(io("open"))?;
        // Of the open file, not of the path: what is checked is what is read.
        let metadata = file.metadata().map_err(io("examine"))?;
        if !metadata.is_file() {
            return Err(RootKeyError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(RootKeyError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        file.take(128)
            .read_to_string(&mut text)
            .map_err(io("read"))?;
        Self::from_hex(&text)
    }

    /// Makes a new key and writes it to `path`, readable by its owner alone. The
    /// file appears whole or not at all, and an existing one is never replaced.
    pub fn create_new(path: &Path, provider: &dyn CryptoProvider) -> Result<Self, RootKeyError> {
        let mut bytes = Zeroizing::new([0_u8; ROOT_LEN]);
        provider.random(bytes.as_mut());
        let mut suffix = [0_u8; 8];
        provider.random(&mut suffix);
        let temporary = temporary_path(path, u64::from_le_bytes(suffix));
        let written = write_new(path, &temporary, bytes.as_ref());
        if written.is_err() {
            // The error that matters is the one being returned.
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        Ok(Self(Secret::copy_of(bytes.as_ref())))
    }

    /// Encrypts a private key for storage. Only the same `purpose` opens it
    /// again, so that two stored keys cannot be swapped.
    pub fn wrap(
        &self,
        provider: &dyn CryptoProvider,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        self.wrap_under(None, provider, algorithm, purpose, secret)
    }

    /// The same, as the wrapping key of this version.
    pub(crate) fn wrap_under(
        &self,
        version: Option<u32>,
        provider: &dyn CryptoProvider,
        algorithm: WrapAlgorithm,
        purpose: &str,
        secret: &Secret,
    ) -> Result<WrappedKey, CryptoError> {
        let mut salt = [0_u8; SALT_LEN];
        provider.random(&mut salt);
        let binding = algorithm.binding(purpose);
        let (key, nonce) = self.derive(algorithm, &salt, &binding)?;
        let key = aead::expand(algorithm.aead(), key.as_ref())?;
        let ciphertext = aead::seal(&key, nonce, binding.as_bytes(), secret.expose())?;
        Ok(Derived {
            algorithm,
            version,
            salt: encoding::encode(&salt),
            ciphertext: encoding::encode(&ciphertext),
        }
        .into())
    }

    /// Decrypts what [`RootKey::wrap`] made for the same purpose.
    pub fn unwrap(&self, purpose: &str, wrapped: &WrappedKey) -> Result<Secret, CryptoError> {
        let wrapped = wrapped.derived()?;
        let algorithm = wrapped.algorithm;
        let salt = encoding::decode("salt", &wrapped.salt)?;
        let salt: [u8; SALT_LEN] = encoding::fixed("salt", algorithm.as_str(), &salt)?;
        let ciphertext = encoding::decode("wrapped key", &wrapped.ciphertext)?;
        let binding = algorithm.binding(purpose);
        let (key, nonce) = self.derive(algorithm, &salt, &binding)?;
        let key = aead::expand(algorithm.aead(), key.as_ref())?;
        aead::open(&key, nonce, binding.as_bytes(), &ciphertext)
    }

    /// A key and a nonce for one wrap. The salt makes them unique, so no number
    /// of wraps wears the root key out.
    fn derive(
        &self,
        algorithm: WrapAlgorithm,
        salt: &[u8],
        binding: &str,
    ) -> Result<(Zeroizing<[u8; KEY_LEN]>, [u8; NONCE_LEN]), CryptoError> {
        let mut okm = Zeroizing::new([0_u8; KEY_LEN + NONCE_LEN]);
        let info = [binding.as_bytes()];
        let kdf = algorithm.kdf();
        kdf.derive(salt, self.0.expose(), &info, okm.as_mut())?;
        let (key_part, nonce_part) = okm.split_at(KEY_LEN);
        let name = algorithm.as_str();
        Ok((
            Zeroizing::new(encoding::fixed("key", name, key_part)?),
            encoding::fixed("nonce", name, nonce_part)?,
        ))
    }
}

/// The value of one hexadecimal digit, by arithmetic on the digit alone: no
/// table is indexed with secret data.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + (nibble - 10)
    }
}

fn temporary_path(path: &Path, suffix: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix:016x}.tmp"));
    path.with_file_name(name)
}

fn write_new(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), RootKeyError> {
    let io = |operation| RootKeyError::io(operation, path);
    let mut text = Zeroizing::new(Vec::with_capacity(ROOT_LEN * 2 + 1));
    for byte in bytes {
        text.push(hex_digit(byte >> 4));
        text.push(hex_digit(byte & 0x0F));
    }
    text.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(io("create"))?;
    file.write_all(&text).map_err(io("write"))?;
    file.sync_all().map_err(io("flush"))?;
    // A hard link, unlike a rename, fails when the name is taken.
    std::fs::hard_link(temporary, path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            RootKeyError::Exists {
                path: path.to_owned(),
            }
        } else {
            io("create")(source)
        }
    })?;
    std::fs::remove_file(temporary).map_err(io("tidy up beside"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io("flush the directory of"))
}
