//! Nothing left over, nothing unexplained, no unused dependency, a page for each
//! error code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{self, Source};
use crate::{CheckError, Finding, unused};

/// A longer file wants to be two rooms.
const LINE_LIMIT: usize = 800;

/// Written in two halves, so that this file does not find itself.
const MARKERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
const MACROS: [&str; 2] = [concat!("to", "do!"), concat!("db", "g!")];

/// Folders of one machine or one person.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
];

/// Where the pages lie.
const PAGES: &str = "docs/errors";

/// What every page says.
const SECTIONS: [&str; 2] = ["\n## What happened\n", "\n## What to do\n"];

/// Checks the tree at `root`.
pub fn check(root: &Path) -> Result<Vec<Finding>, CheckError> {
    let sources = source::all(root)?;
    let mut findings = Vec::new();
    for source in &sources {
        check_text(source, &mut findings);
        if source.is_rust() {
            check_length(source, &mut findings);
            check_attributes(source, &mut findings);
        }
    }
    check_modules(&sources, &mut findings);
    check_pages(&sources, &mut findings);
    // Whether there has to be a manifest is for the check of layers to say.
    if root.join("Cargo.toml").exists() {
        unused::check(root, &sources, &mut findings)?;
    }
    findings.sort();
    Ok(findings)
}

fn check_text(source: &Source, findings: &mut Vec<Finding>) {
    let text = &source.text;
    let mut found = |offset, message: String| {
        let line = source::line_of(text, offset);
        findings.push(Finding::new(&source.path, message).at(line));
    };
    for marker in MARKERS {
        for offset in source::words(text, marker) {
            found(
                offset,
                format!("a leftover `{marker}`: do it, or say what is so"),
            );
        }
    }
    for name in MACROS {
        for (offset, _) in text.match_indices(name) {
            found(offset, format!("a leftover `{name}`"));
        }
    }
    for path in MACHINE_PATHS {
        for (offset, _) in text.match_indices(path) {
            // A part of a longer path, such as a URL's.
            let inside = text
                .get(..offset)
                .and_then(|before| before.chars().next_back())
                .is_some_and(|c| c.is_alphanumeric() || "._-*}$".contains(c));
            if !inside {
                found(offset, format!("`{path}` names a folder of one machine"));
            }
        }
    }
    // Published test vectors are kept byte for byte.
    if source.is_under("data") {
        return;
    }
    let page = source.path.extension().is_some_and(|end| end == "md");
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim();
        if page && bare.starts_with("<!--") && bare.ends_with("-->") {
            let message = "a comment where a reader expects text: write it or remove it";
            findings.push(Finding::new(&source.path, message).at(number + 1));
        }
        if line.ends_with([' ', '\t']) {
            let finding = Finding::new(&source.path, "white space at the end of the line");
            findings.push(finding.at(number + 1));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(
            &source.path,
            "no newline at the end of the file",
        ));
    }
}

fn check_length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    if lines > LINE_LIMIT {
        let message = format!("{lines} lines; a file has at most {LINE_LIMIT}: split it");
        findings.push(Finding::new(&source.path, message));
    }
}

/// Whoever switches a lint off says why.
fn check_attributes(source: &Source, findings: &mut Vec<Finding>) {
    let text = &source.text;
    for opening in [
        concat!("#[al", "low("),
        concat!("#![al", "low("),
        concat!("#[exp", "ect("),
    ] {
        for (offset, _) in text.match_indices(opening) {
            let explained = source::bracketed(text, offset, '[', ']')
                .is_some_and(|attribute| attribute.contains("reason = \""));
            if !explained {
                let message = format!("`{opening}..` without a reason");
                let line = source::line_of(text, offset);
                findings.push(Finding::new(&source.path, message).at(line));
            }
        }
    }
}

/// A file that no `mod` names is compiled by nobody.
fn check_modules(sources: &[Source], findings: &mut Vec<Finding>) {
    let texts: BTreeMap<&Path, &str> = sources
        .iter()
        .map(|source| (source.path.as_path(), source.text.as_str()))
        .collect();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let (Some(folder), Some(stem)) = (source.path.parent(), source.path.file_stem()) else {
            continue;
        };
        let stem = stem.to_string_lossy();
        let in_crate = source.is_under("src") || folder.ends_with("tests/it");
        if !in_crate || folder.ends_with("src/bin") || ["lib", "main"].contains(&stem.as_ref()) {
            continue;
        }
        // A `mod.rs` is named by the folder above.
        let (folder, name) = if stem == "mod" {
            let above = folder.parent().unwrap_or(folder);
            let name = folder.file_name().unwrap_or_default();
            (above, name.to_string_lossy().into_owned())
        } else {
            (folder, stem.into_owned())
        };
        let parents = [
            folder.join("lib.rs"),
            folder.join("main.rs"),
            folder.join("mod.rs"),
            folder.with_extension("rs"),
        ];
        let declaration = format!("mod {name};");
        let named = parents.iter().any(|parent| {
            texts
                .get(parent.as_path())
                .is_some_and(|text| text.contains(&declaration))
        });
        if !named {
            let message = format!("no `{declaration}` above it: nobody compiles this file");
            findings.push(Finding::new(&source.path, message));
        }
    }
}

/// One page a code, one code a page.
fn check_pages(sources: &[Source], findings: &mut Vec<Finding>) {
    let codes = codes(sources);
    let mut pages = BTreeSet::new();
    for source in sources {
        if source.path.parent() != Some(Path::new(PAGES)) {
            continue;
        }
        let stem = source
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        if stem == "README" {
            continue;
        }
        if !codes.contains_key(stem.as_ref()) {
            findings.push(Finding::new(&source.path, "no error has this code"));
        }
        let titled = source.text.starts_with(&format!("# `{stem}`\n"));
        if !titled || !SECTIONS.iter().all(|section| source.text.contains(section)) {
            let message = "a page is titled with its code and says what happened and what to do";
            findings.push(Finding::new(&source.path, message));
        }
        pages.insert(stem.into_owned());
    }
    for (code, (file, line)) in codes {
        if !pages.contains(&code) {
            let message = format!("`{code}` has no page: write {PAGES}/{code}.md");
            findings.push(Finding::new(file, message).at(line));
        }
    }
}

/// Every code of the crates, and where it stands: the words in the bodies of
/// `Classify::code`, and the constants of modules of refusals.
fn codes(sources: &[Source]) -> BTreeMap<String, (PathBuf, usize)> {
    let mut codes = BTreeMap::new();
    let library = |source: &&Source| {
        source.is_rust() && source.path.starts_with("crates") && source.is_under("src")
    };
    for source in sources.iter().filter(library) {
        let text = source::without_tests(&source.text);
        for opening in ["fn code(", "pub mod deny {", "pub mod refusal {"] {
            for (offset, _) in text.match_indices(opening) {
                let Some(body) = source::bracketed(text, offset, '{', '}') else {
                    continue;
                };
                let place = (source.path.clone(), source::line_of(text, offset));
                for code in source::snake_case_literals(body) {
                    codes
                        .entry(code.to_owned())
                        .or_insert_with(|| place.clone());
                }
            }
        }
    }
    codes
}
