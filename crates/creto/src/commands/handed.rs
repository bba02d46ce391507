//! What is handed out once: a token, a credential, a key. It goes to a new file that
//! nobody but its owner reads, or to standard output.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::context::file_error;
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant};

/// Asked before anything is changed: it is shown once.
pub(crate) fn must_be_new(out: Option<&Path>) -> Result<(), CliError> {
    match out.filter(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(CliError::Exists {
            path: path.to_owned(),
        }),
    }
}

/// The answer with its token taken out to the file, or the token itself. `whose` says
/// by names and places in the answer whose it is, `what` is the word for it.
pub(crate) fn token(
    mut answer: Value,
    out: Option<&Path>,
    whose: &[(&str, &str)],
    what: &str,
) -> Result<Reply, CliError> {
    let token = at(&answer, "/token");
    if token.is_empty() {
        return Err(CliError::Answer { what: "token" });
    }
    let Some(path) = out else {
        return Ok(Reply::new(format!("{token}\n"), answer));
    };
    write_secret(path, &token)?;
    if let Value::Object(fields) = &mut answer {
        fields.remove("token");
        fields.insert("file".to_owned(), json!(path));
    }
    let mut rows: Vec<_> = whose
        .iter()
        .map(|(name, place)| (*name, at(&answer, place)))
        .collect();
    rows.extend([
        (what, path.display().to_string()),
        ("expires", instant(&answer, "/expires_at")),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(fields(&rows), answer))
}

/// A new file that nobody but its owner can ever read. On return it is there whatever
/// happens to the machine: its content and its name.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            File::open(directory_of(path))?.sync_all()
        })
        .map_err(file_error("write", path))
}

/// Where a file's name stands.
fn directory_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_working_directory_has_its_name_there() {
        for (path, directory) in [("a", "."), ("./a", "."), ("b/a", "b"), ("/a", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }
}
