//! `creto audit export`: a bundle is written as it comes, beside its place.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use creto_audit::{ArchiveError, BundleArchive};
use creto_client::{Client, ClientError};
use serde_json::json;

use crate::context::file_error;
use crate::error::CliError;
use crate::output::{Reply, fields};

/// Writes the bundle of what the parameters ask for.
pub(crate) fn export(
    client: &Client,
    dir: &Path,
    parameters: &[String],
) -> Result<Reply, CliError> {
    // Without a slash at its end, behind which there would be another name.
    let dir = &*dir.components().collect::<PathBuf>();
    // A link that leads nowhere is something, too.
    if fs::symlink_metadata(dir).is_ok() {
        return Err(CliError::Exists {
            path: dir.to_owned(),
        });
    }
    let path = match parameters {
        [] => "/v1/audit/export".to_owned(),
        given => format!("/v1/audit/export?{}", given.join("&")),
    };
    let archive = client.download(&path).map_err(|error| match error {
        ClientError::Interrupted { source, .. } => CliError::ExportInterrupted(source),
        other => other.into(),
    })?;
    let partial = Partial::beside(dir)?;
    let mut archive = BundleArchive::new(archive);
    let (mut files, mut bytes) = (0_u64, 0_u64);
    while let Some(name) = archive.next_path().map_err(|error| broken(error, dir))? {
        let path = partial.path.join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file_error("make", parent))?;
        }
        // One that came before is not written over.
        let mut file = File::create_new(&path).map_err(file_error("write", &path))?;
        bytes += archive
            .copy(&mut file)
            .map_err(|error| broken(error, &path))?;
        files += 1;
    }
    partial.become_whole(dir)?;
    let text = format!(
        "{}\nCheck it anywhere, offline: creto verify {}\n",
        fields(&[
            ("bundle", dir.display().to_string()),
            ("files", files.to_string()),
            ("bytes", bytes.to_string()),
        ]),
        dir.display()
    );
    let json = json!({"bundle": dir, "files": files, "bytes": bytes});
    Ok(Reply::new(text, json))
}

fn broken(error: ArchiveError, path: &Path) -> CliError {
    match error {
        ArchiveError::Write(source) => file_error("write", path)(source),
        ArchiveError::Name { name } => CliError::UnsafeName { name },
        ArchiveError::Malformed(_) => CliError::Answer { what: "archive" },
        cut @ (ArchiveError::Cut | ArchiveError::Read(_)) => {
            CliError::ExportInterrupted(Box::new(cut))
        }
    }
}

/// Where a bundle is written before it is whole. It goes with the command, unless that is
/// killed; then the next one takes what is left away.
struct Partial {
    path: PathBuf,
    /// Locked as long as a command writes into it.
    _lock: File,
}

impl Partial {
    fn beside(dir: &Path) -> Result<Self, CliError> {
        let mut path = dir.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        fs::create_dir_all(&path).map_err(file_error("make", &path))?;
        let lock = File::open(&path).map_err(file_error("read", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CliError::Exists { path }),
            Err(TryLockError::Error(source)) => return Err(file_error("lock", &path)(source)),
        }
        // Who had it before may have moved it away.
        let same = |at: &Path| Ok(fs::symlink_metadata(at)?.ino() == lock.metadata()?.ino());
        if !same(&path).map_err(file_error("read", &path))? {
            return Err(CliError::Exists { path });
        }
        if !is_begun(&path).map_err(file_error("read", &path))? {
            return Err(CliError::Exists { path });
        }
        empty(&path).map_err(file_error("remove", &path))?;
        Ok(Self { path, _lock: lock })
    }

    fn become_whole(mut self, dir: &Path) -> Result<(), CliError> {
        fs::rename(&self.path, dir).map_err(file_error("write", dir))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // What cannot be removed is without a manifest, and no bundle.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What a bundle has at its top.
const TOP: [&str; 6] = [
    "attachments",
    "checkpoint",
    "keys.json",
    "manifest.json",
    "payloads",
    "tile",
];

/// Whether all that is there may be of a bundle that was not finished. What is somebody's own
/// is left alone.
fn is_begun(dir: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !TOP.iter().any(|known| name == **known) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use creto_audit::{ARCHIVE_END, entry_header, entry_padding};
    use creto_client::ServerAddress;
    use creto_errors::Classify as _;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (path, bytes) in files {
            let len = bytes.len() as u64;
            archive.extend(entry_header(path, len, 0).unwrap());
            archive.extend(*bytes);
            archive.extend(entry_padding(len));
        }
        archive.extend(ARCHIVE_END);
        archive
    }

    /// Exports from a server that sends these bytes of a body, and its end or not.
    fn exported(dir: &Path, body: &[u8], ended: bool) -> Result<Reply, CliError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ServerAddress::new(listener.local_addr().unwrap()).unwrap();
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for part in body.chunks(1_000) {
            answer.extend(format!("{:x}\r\n", part.len()).into_bytes());
            answer.extend(part);
            answer.extend(b"\r\n");
        }
        if ended {
            answer.extend(b"0\r\n\r\n");
        }
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            // Who has seen enough does not read the rest.
            let _ = stream.write_all(&answer);
        });
        let exported = export(&Client::new(address), dir, &[]);
        server.join().unwrap();
        exported
    }

    fn left(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    const FILES: [(&str, &[u8]); 3] = [
        ("tile/entries/000.p/1", &[1; 700]),
        ("checkpoint", b"note"),
        ("manifest.json", b"{}"),
    ];

    #[test]
    fn what_is_somebodys_own_is_left_alone() {
        let at = tempfile::tempdir().unwrap();
        let own = at.path().join("bundle.partial");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("notes"), "mine").unwrap();
        let dir = at.path().join("bundle");
        let refused = exported(&dir, &archive(&FILES), true).err().unwrap();
        assert_eq!(refused.code(), "file_exists");
        assert_eq!(fs::read(own.join("notes")).unwrap(), b"mine");
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_whole_is_there() {
        let at = tempfile::tempdir().unwrap();
        let dir = at.path().join("bundle");
        // Left by one that was killed.
        let old = at.path().join("bundle.partial/tile");
        fs::create_dir_all(old).unwrap();
        exported(&dir, &archive(&FILES), true).unwrap();
        for (path, bytes) in FILES {
            assert_eq!(fs::read(dir.join(path)).unwrap(), bytes);
        }
        assert_eq!((left(at.path()), left(&dir)), (1, 3));
        let again = exported_nothing(&dir);
        assert_eq!(again.code(), "file_exists");
        let other = at.path().join("other");
        exported(&other.join(""), &archive(&FILES), true).unwrap();
        assert_eq!(fs::read(other.join("checkpoint")).unwrap(), b"note");
        assert!(!at.path().join("other.partial").exists());
    }

    fn exported_nothing(dir: &Path) -> CliError {
        let nobody = "127.0.0.1:1".parse().unwrap();
        export(&Client::new(nobody), dir, &[]).err().unwrap()
    }

    /// Wherever it is cut, and whether the connection ends with it or the answer does.
    #[test]
    fn what_was_cut_leaves_nothing() {
        let at = tempfile::tempdir().unwrap();
        let dir = at.path().join("bundle");
        let whole = archive(&FILES);
        let cuts = (0..whole.len()).step_by(256);
        for (end, ended) in cuts.flat_map(|end| [(end, false), (end, true)]) {
            let cut = whole.get(..end).unwrap();
            let error = exported(&dir, cut, ended).err().unwrap();
            assert_eq!(error.code(), "export_interrupted", "{end} {ended}");
            assert_eq!(left(at.path()), 0, "{end} {ended}");
        }
        // All of the archive is there, and the answer has no end.
        let error = exported(&dir, &whole, false).err().unwrap();
        assert_eq!(error.code(), "export_interrupted");
        assert_eq!(left(at.path()), 0);
    }

    #[test]
    fn what_no_bundle_has_is_not_written() {
        let at = tempfile::tempdir().unwrap();
        let dir = at.path().join("in/bundle");
        for (name, code) in [
            ("../../out", "bundle_name_unsafe"),
            ("attachments/../../../out", "bundle_name_unsafe"),
            ("README", "bundle_name_unsafe"),
            // A second time.
            ("checkpoint", "file_unusable"),
        ] {
            let files = [
                ("checkpoint", &b"x"[..]),
                (name, b"y"),
                ("manifest.json", b"{}"),
            ];
            let error = exported(&dir, &archive(&files), true).err().unwrap();
            assert_eq!(error.code(), code, "{name}");
            assert_eq!(left(&at.path().join("in")), 0, "{name}");
            assert_eq!(left(at.path()), 1, "{name}");
        }
        let error = exported(&dir, b"{\"files\":{}}", true).err().unwrap();
        assert_eq!(error.code(), "export_interrupted");
        let error = exported(&dir, &[b'x'; 2_000], true).err().unwrap();
        assert_eq!(error.code(), "answer_incomplete");
    }

    #[test]
    fn two_do_not_write_into_one_place() {
        let at = tempfile::tempdir().unwrap();
        let dir = at.path().join("bundle");
        let first = Partial::beside(&dir).unwrap();
        fs::write(first.path.join("checkpoint"), "x").unwrap();
        let second = Partial::beside(&dir).err().unwrap();
        assert_eq!(second.code(), "file_exists");
        first.become_whole(&dir).unwrap();
        assert_eq!(left(&dir), 1);
    }
}
