//! C2SP signed-note: text signed by one or more keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{CosignatureType, Hasher, NoteError};

/// A note with sixteen post-quantum signatures is far below this.
const MAX_NOTE_LEN: usize = 256 * 1024;

const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// The public half of a key as notes name it: a name, an id, and the bytes that
/// the id is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    id: u32,
    /// Signature type and public key, as verifier keys carry them.
    encoded: Vec<u8>,
}

impl NoteKey {
    /// Signature type of Ed25519.
    const ED25519: u8 = 0x01;
    /// Signature types without an assigned byte; a longer identifier follows.
    const UNASSIGNED: u8 = 0xff;

    /// An Ed25519 key (signature type 0x01).
    pub fn ed25519(hasher: Hasher, name: &str, public: &[u8; 32]) -> Result<Self, NoteError> {
        Self::new(hasher, name, [&[Self::ED25519][..], public].concat())
    }

    /// A key of a type that has no assigned byte: 0xff and an identifier that is
    /// unlikely to collide.
    pub fn unassigned(
        hasher: Hasher,
        name: &str,
        identifier: &str,
        public: &[u8],
    ) -> Result<Self, NoteError> {
        let encoded = [&[Self::UNASSIGNED][..], identifier.as_bytes(), public].concat();
        Self::new(hasher, name, encoded)
    }

    /// The key of a cosigner (C2SP tlog-cosignature). Its length is for whoever uses it.
    pub fn cosigner(
        hasher: Hasher,
        name: &str,
        kind: CosignatureType,
        public: &[u8],
    ) -> Result<Self, NoteError> {
        Self::new(hasher, name, [&[kind.byte()][..], public].concat())
    }

    /// Reads a verifier key, `name+id+base64(type || key)`. The id has to be the one
    /// that name and key lead to.
    pub fn parse(hasher: Hasher, text: &str) -> Result<Self, NoteError> {
        let malformed = || NoteError::VerifierKey {
            text: text.chars().take(80).collect(),
        };
        // Names have no plus; base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let encoded = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let key = Self::new(hasher, name, encoded)?;
        if key.encoded.len() > 1 && key.to_string() == text {
            Ok(key)
        } else {
            Err(malformed())
        }
    }

    fn new(hasher: Hasher, name: &str, encoded: Vec<u8>) -> Result<Self, NoteError> {
        check_name(name)?;
        let digest = hasher.raw(&[name.as_bytes(), b"\n", encoded.as_slice()].concat());
        let [a, b, c, d, ..] = *digest.as_bytes();
        Ok(Self {
            name: name.to_owned(),
            id: u32::from_be_bytes([a, b, c, d]),
            encoded,
        })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What the key verifies, and its bytes.
    #[must_use]
    pub fn material(&self) -> NoteKeyMaterial<'_> {
        match self.encoded.split_first() {
            Some((&Self::ED25519, rest)) => NoteKeyMaterial::Ed25519(rest),
            Some((&Self::UNASSIGNED, rest)) => NoteKeyMaterial::Unassigned(rest),
            Some((byte, rest)) => {
                let mut kinds = CosignatureType::ALL.into_iter();
                let kind = kinds.find(|kind| kind.byte() == *byte);
                kind.map_or(NoteKeyMaterial::Unknown, |kind| {
                    NoteKeyMaterial::Cosigner(kind, rest)
                })
            }
            None => NoteKeyMaterial::Unknown,
        }
    }
}

/// The public key inside a verifier key, by signature type. Lengths are for whoever
/// uses the bytes to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKeyMaterial<'a> {
    /// Type 0x01: Ed25519 over the text.
    Ed25519(&'a [u8]),
    /// Types 0x04 and 0x06: timestamped cosignatures.
    Cosigner(CosignatureType, &'a [u8]),
    /// Type 0xff: an identifier and the key.
    Unassigned(&'a [u8]),
    /// A type this crate has no name for.
    Unknown,
}

/// The verifier key text that note tools take: `name+id+base64(type || key)`.
impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode(&self.encoded);
        write!(f, "{}+{:08x}+{encoded}", self.name, self.id)
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c == '+' || c.is_ascii_control();
    if name.is_empty() || name.chars().any(bad) {
        Err(NoteError::KeyName {
            name: name.chars().take(80).collect(),
        })
    } else {
        Ok(())
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub key_id: u32,
    /// The signature over the note's text.
    pub signature: Vec<u8>,
}

/// A text and its signatures.
///
/// Whoever reads the text first verifies a signature of a key he trusts; this
/// type only carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// An unsigned note; the text ends in a newline.
    pub fn new(text: &str) -> Result<Self, NoteError> {
        if text.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::NotText);
        }
        if !text.ends_with('\n') {
            return Err(NoteError::TextEnd);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures: Vec::new(),
        })
    }

    /// Adds the key's signature over [`Note::text`].
    pub fn add_signature(&mut self, key: &NoteKey, signature: Vec<u8>) {
        self.signatures.push(NoteSignature {
            name: key.name.clone(),
            key_id: key.id,
            signature,
        });
    }

    /// The same text with signature lines of others added, as a witness returns them.
    pub fn with_lines(&self, lines: &str) -> Result<Self, NoteError> {
        Self::parse(format!("{self}{lines}").as_bytes())
    }

    /// Adds a signature line, unless the note has it already.
    pub fn add_line(&mut self, line: NoteSignature) {
        if !self.signatures.contains(&line) {
            self.signatures.push(line);
        }
    }

    /// The text, with its final newline: the bytes that are signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every signature line, in order.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Reads a note. What is read encodes back to the same bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_LEN {
            return Err(NoteError::TooLong {
                len: bytes.len(),
                limit: MAX_NOTE_LEN,
            });
        }
        let whole = str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        let (text, block) = whole.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let mut note = Self::new(&format!("{text}\n"))?;
        let lines = block.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        for (number, line) in lines.split('\n').enumerate() {
            let signature =
                parse_line(line).ok_or(NoteError::SignatureLine { line: number + 1 })?;
            note.signatures.push(signature);
        }
        Ok(note)
    }

    /// The note's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// The line, without the newline that ends it.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.signature);
        let encoded = STANDARD.encode(bytes);
        write!(f, "{SIGNATURE_PREFIX}{} {encoded}", self.name)
    }
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    check_name(name).ok()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(NoteSignature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*key_id),
        signature: signature.to_vec(),
    })
}
