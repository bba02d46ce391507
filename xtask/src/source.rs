//! The files of the tree, and the little of Rust's grammar that the checks need.

use std::path::{Path, PathBuf};

use crate::{CheckError, read};

/// One text file.
pub(crate) struct Source {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    /// Whether a folder of this name is on the way.
    pub(crate) fn is_under(&self, folder: &str) -> bool {
        self.path
            .parent()
            .is_some_and(|parent| parent.iter().any(|part| part == folder))
    }
}

/// What is written by machines, or is broken on purpose.
const SKIPPED: [&str; 6] = [
    ".git",
    "target",
    "demo-run",
    "fixtures",
    "generated",
    "__pycache__",
];

/// What is read as text.
const EXTENSIONS: [&str; 15] = [
    "rs",
    "toml",
    "md",
    "sql",
    "py",
    "sh",
    "cedar",
    "cedarschema",
    "json",
    "yml",
    "yaml",
    "css",
    "html",
    "txt",
    "service",
];

const NAMES: [&str; 5] = ["Makefile", "run", "Dockerfile", ".gitignore", "LICENSE"];

/// Every text file below `root`, in the order of the paths.
pub(crate) fn all(root: &Path) -> Result<Vec<Source>, CheckError> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            if entry.is_dir() {
                if !SKIPPED.contains(&name.as_ref()) {
                    folders.push(entry);
                }
            } else if is_text(&entry, &name) {
                sources.push(Source {
                    path: relative(root, &entry),
                    text: read(&entry)?,
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn is_text(path: &Path, name: &str) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    EXTENSIONS.contains(&extension.as_ref()) || NAMES.contains(&name)
}

/// The entries of a folder; none when there is no such folder. Symbolic links
/// are not followed.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, CheckError> {
    let unreadable = |source| CheckError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let reader = match std::fs::read_dir(folder) {
        Ok(reader) => reader,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in reader {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_type().map_err(unreadable)?.is_symlink() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// The text up to the module of unit tests, which comes last in a file.
pub(crate) fn without_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// The text from the opening bracket `open` at or after `from` to its closing
/// one, brackets inside string literals and line comments aside.
pub(crate) fn bracketed(text: &str, from: usize, open: char, close: char) -> Option<&str> {
    let rest = text.get(from..)?;
    let start = rest.find(open)?;
    let rest = rest.get(start..)?;
    let mut depth = 0_usize;
    let mut state = State::Code;
    let mut previous = ' ';
    for (offset, c) in rest.char_indices() {
        state = match state {
            State::Code if c == '"' => State::Text,
            State::Code if c == '/' && previous == '/' => State::Comment,
            State::Text if c == '\\' => State::Escape,
            State::Text if c == '"' => State::Code,
            State::Escape => State::Text,
            State::Comment if c == '\n' => State::Code,
            other => other,
        };
        if state == State::Code {
            if c == open {
                depth += 1;
            } else if c == close {
                depth -= 1;
                if depth == 0 {
                    return rest.get(..=offset);
                }
            }
        }
        previous = c;
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    Text,
    Escape,
    Comment,
}

/// Every string literal that is one `snake_case` word.
pub(crate) fn snake_case_literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .filter(|literal| is_snake_case(literal))
}

pub(crate) fn is_snake_case(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The line that an offset lies on, counted from one.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|b| *b == b'\n').count() + 1
}

/// Where `word` stands as a word of its own.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter_map(move |(offset, _)| {
        let before = text.get(..offset)?.chars().next_back();
        let after = text.get(offset + word.len()..)?.chars().next();
        let alone = !before.is_some_and(inside) && !after.is_some_and(inside);
        alone.then_some(offset)
    })
}
