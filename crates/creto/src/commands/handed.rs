//! What is handed out once: a token, a credential, a key. It goes to a new file that
//! nobody but its owner reads, or to standard output.

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

/// A new file that nobody but its owner can ever read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .map_err(file_error("write", path))
}
