//! A bundle on its way: a POSIX tar archive (ustar, IEEE Std 1003.1) of plain files, the
//! manifest last and two blocks of zeros behind it. Any `tar` reads it; this reads nothing
//! else. Whatever ends before is not whole, and is not taken for it.

use std::io::{self, Read, Write};

use super::{MANIFEST, is_bundle_name};

const BLOCK: usize = 512;

/// What an archive ends with.
pub const ARCHIVE_END: &[u8; 2 * BLOCK] = &[0; 2 * BLOCK];

/// Where the parts of a header are, and how long.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const OWNER: (usize, usize) = (108, 8);
const GROUP: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MODIFIED: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const KIND: (usize, usize) = (156, 1);
const MAGIC: (usize, usize) = (257, 8);
const MAJOR: (usize, usize) = (329, 8);
const MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);

/// What stands before a file: its path, its length and, in seconds, its time. None for what
/// a header has no place for.
#[must_use]
pub fn entry_header(path: &str, len: u64, modified: u64) -> Option<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let (prefix, name) = split(path)?;
    put(&mut header, NAME, name.as_bytes())?;
    put(&mut header, MODE, b"0000644")?;
    put(&mut header, OWNER, b"0000000")?;
    put(&mut header, GROUP, b"0000000")?;
    put(&mut header, SIZE, octal(len)?.as_bytes())?;
    put(&mut header, MODIFIED, octal(modified)?.as_bytes())?;
    put(&mut header, KIND, b"0")?;
    put(&mut header, MAGIC, b"ustar\x0000")?;
    put(&mut header, MAJOR, b"0000000")?;
    put(&mut header, MINOR, b"0000000")?;
    put(&mut header, PREFIX, prefix.as_bytes())?;
    // The sum is over the header with spaces in its place.
    put(&mut header, CHECKSUM, b"        ")?;
    let sum: u64 = header.iter().copied().map(u64::from).sum();
    put(&mut header, CHECKSUM, format!("{sum:06o}\0 ").as_bytes())?;
    Some(header)
}

/// What stands behind a file of this length: zeros up to the next block.
#[must_use]
pub fn entry_padding(len: u64) -> &'static [u8] {
    let over = usize::try_from(len % BLOCK as u64).unwrap_or(0);
    let zeros = ARCHIVE_END.get(..(BLOCK - over) % BLOCK);
    zeros.unwrap_or_default()
}

/// The path as a header has it: as much as possible in the second part.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME.1 {
        return Some(("", path));
    }
    let fits = |(prefix, name): &(&str, &str)| prefix.len() <= PREFIX.1 && name.len() <= NAME.1;
    path.match_indices('/')
        .map(|(at, _)| {
            (
                path.get(..at).unwrap_or(""),
                path.get(at + 1..).unwrap_or(""),
            )
        })
        .find(fits)
}

/// Eleven digits.
fn octal(value: u64) -> Option<String> {
    let digits = format!("{value:011o}");
    (digits.len() < SIZE.1).then_some(digits)
}

fn put(header: &mut [u8; BLOCK], (at, len): (usize, usize), bytes: &[u8]) -> Option<()> {
    let place = header.get_mut(at..at + len)?;
    place.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

fn text(header: &[u8; BLOCK], (at, len): (usize, usize)) -> Option<&str> {
    let field = header.get(at..at + len)?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(len);
    std::str::from_utf8(field.get(..end)?).ok()
}

/// Why an archive is not one of a whole bundle.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It ends too early.
    #[error("it ends before the bundle is whole")]
    Cut,
    /// It cannot be read on.
    #[error("it cannot be read on")]
    Read(#[source] io::Error),
    /// What was read cannot be kept.
    #[error("what was read cannot be written")]
    Write(#[source] io::Error),
    /// A file has a name that no file of a bundle has.
    #[error("no file of a bundle has the name {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// It is not in the one form that the archive of a bundle has.
    #[error("it is not the archive of a bundle: {0}")]
    Malformed(&'static str),
}

/// Reads an archive file by file, and holds none.
#[derive(Debug)]
pub struct BundleArchive<R> {
    from: R,
    /// Of the file that is being read.
    left: u64,
    len: u64,
    last: bool,
}

impl<R: Read> BundleArchive<R> {
    /// Reads from here.
    pub const fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            len: 0,
            last: false,
        }
    }

    /// The path of the next file, whose bytes [`BundleArchive::copy`] then gives. None when
    /// the archive was whole and there is nothing behind it. The caller sees to it that no
    /// path comes twice.
    pub fn next_path(&mut self) -> Result<Option<String>, ArchiveError> {
        self.copy(&mut io::sink())?;
        let mut header = [0; BLOCK];
        self.fill(&mut header)?;
        if header == [0; BLOCK] {
            self.fill(&mut header)?;
            let more = io::copy(&mut self.from.by_ref().take(1), &mut io::sink());
            return match more.map_err(read_fault)? {
                0 if header == [0; BLOCK] && self.last => Ok(None),
                0 if header == [0; BLOCK] => Err(ArchiveError::Cut),
                _ => Err(ArchiveError::Malformed("there is something behind its end")),
            };
        }
        if self.last {
            return Err(ArchiveError::Malformed("a file comes after the manifest"));
        }
        let (path, len) = parse(&header)?;
        if !is_bundle_name(&path) {
            return Err(ArchiveError::Name { name: path });
        }
        self.last = path == MANIFEST;
        (self.len, self.left) = (len, len);
        Ok(Some(path))
    }

    /// Writes what is left of the file, and gives how much that was.
    pub fn copy(&mut self, to: &mut impl Write) -> Result<u64, ArchiveError> {
        let mut buffer = [0; 64 * 1024];
        let mut copied = 0;
        while self.left > 0 {
            let want = usize::try_from(self.left).unwrap_or(usize::MAX);
            let want = want.min(buffer.len());
            let (want, _) = buffer.split_at_mut(want);
            let got = match self.from.read(want) {
                Ok(0) => return Err(ArchiveError::Cut),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_fault(error)),
            };
            let bytes = want.get(..got).unwrap_or_default();
            to.write_all(bytes).map_err(ArchiveError::Write)?;
            self.left -= bytes.len() as u64;
            copied += bytes.len() as u64;
        }
        let padding = entry_padding(std::mem::take(&mut self.len)).len();
        let mut zeros = [0; BLOCK];
        if let Some(zeros) = zeros.get_mut(..padding) {
            self.fill(zeros)?;
        }
        if zeros != [0; BLOCK] {
            return Err(ArchiveError::Malformed("there is something between files"));
        }
        Ok(copied)
    }

    fn fill(&mut self, block: &mut [u8]) -> Result<(), ArchiveError> {
        self.from.read_exact(block).map_err(read_fault)
    }
}

fn read_fault(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Cut,
        _ => ArchiveError::Read(error),
    }
}

/// Path and length of a header in its one form: it is written again and compared.
fn parse(header: &[u8; BLOCK]) -> Result<(String, u64), ArchiveError> {
    let number = |field| u64::from_str_radix(text(header, field)?, 8).ok();
    let read = || {
        let (prefix, name) = (text(header, PREFIX)?, text(header, NAME)?);
        let path = match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let (len, modified) = (number(SIZE)?, number(MODIFIED)?);
        let same = entry_header(&path, len, modified)? == *header;
        same.then_some((path, len))
    };
    read().ok_or(ArchiveError::Malformed("a header has another form"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn archive(files: &[(&str, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, len) in files {
            let size = u64::try_from(*len).unwrap();
            bytes.extend(entry_header(path, size, 1_700_000_000).unwrap());
            bytes.extend(std::iter::repeat_n(b'x', *len));
            bytes.extend(entry_padding(size));
        }
        bytes.extend(ARCHIVE_END);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, u64)>, ArchiveError> {
        let mut reader = BundleArchive::new(bytes);
        let mut files = Vec::new();
        while let Some(path) = reader.next_path()? {
            files.push((path, reader.copy(&mut io::sink())?));
        }
        Ok(files)
    }

    const WHOLE: [(&str, usize); 5] = [
        ("tile/entries/000.p/3", 513),
        ("payloads/x001/000", 512),
        ("attachments/empty", 0),
        ("checkpoint", 1),
        ("manifest.json", 700),
    ];

    #[test]
    fn what_is_written_is_read() {
        let files = read(&archive(&WHOLE)).unwrap();
        let expected: Vec<_> = WHOLE
            .iter()
            .map(|(path, len)| ((*path).to_owned(), *len as u64))
            .collect();
        assert_eq!(files, expected);
        // Nobody has to take the bytes of a file.
        let whole = archive(&WHOLE);
        let mut reader = BundleArchive::new(whole.as_slice());
        let mut count = 0;
        while reader.next_path().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, WHOLE.len());
    }

    /// Wherever it is cut, and whatever is left out at its end.
    #[test]
    fn what_was_cut_is_not_whole() {
        let whole = archive(&WHOLE);
        for end in 0..whole.len() {
            let cut = read(&whole[..end]).unwrap_err();
            assert!(matches!(cut, ArchiveError::Cut), "{end}: {cut}");
        }
        for files in 0..WHOLE.len() {
            let ended = read(&archive(&WHOLE[..files])).unwrap_err();
            assert!(matches!(ended, ArchiveError::Cut), "{files}: {ended}");
        }
    }

    #[test]
    fn nothing_but_its_one_form_is_read() {
        let whole = archive(&WHOLE);
        for at in (0..BLOCK).chain(BLOCK + 513..3 * BLOCK) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(ArchiveError::Malformed(_))));
        let mut order = WHOLE;
        order.rotate_right(1);
        let after = read(&archive(&order)).unwrap_err();
        assert!(matches!(after, ArchiveError::Malformed(_)), "{after}");
    }

    #[test]
    fn only_names_of_a_bundle_are_read() {
        for name in [
            "/etc/passwd",
            "../checkpoint",
            "tile/../../x",
            "tile/0/../000",
            "attachments/../x",
            "attachments/.ssh",
            "attachments//x",
            "attachments",
            "payloads/checkpoint",
            "payloads/0/000",
            "payloads/000/../000",
            "payloads/tile/entries/000",
            "README",
            "./checkpoint",
            "checkpoint/",
            "",
        ] {
            let refused = read(&archive(&[(name, 1), ("manifest.json", 1)])).unwrap_err();
            assert!(
                matches!(refused, ArchiveError::Name { .. }),
                "{name}: {refused}"
            );
        }
    }

    #[test]
    fn long_paths_have_a_place_where_a_header_has_one() {
        let part = "a".repeat(90);
        let long = format!("attachments/{part}/{part}");
        let files = [(long.as_str(), 3), ("manifest.json", 1)];
        assert_eq!(read(&archive(&files)).unwrap()[0].0, long);
        let longer = format!("attachments/{}", "a".repeat(101));
        assert_eq!(entry_header(&longer, 0, 0), None);
        assert_eq!(entry_header("checkpoint", 8 << 30, 0), None);
        assert!(entry_header("checkpoint", (8 << 30) - 1, 0).is_some());
    }
}
