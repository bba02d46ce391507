//! The proof that outlives the server.

use std::fs;
use std::path::{Path, PathBuf};

use creto_tlog::{Entries, parse_entries};
use serde_json::Value;

use super::Row;
use super::privacy::SAID;
use crate::demo::documents::{ensure, list, number, same, text};
use crate::demo::error::DemoError;
use crate::demo::step::Done;
use crate::demo::workspace::file_error;
use crate::demo::world::World;

pub(super) const STEPS: &[Row] = &[
    (
        "evidence is exported and verified offline",
        "verified",
        export,
    ),
    ("one flipped byte in each of its files", "detected", flip),
];

/// Where the bundle lies, also after the demo.
const BUNDLE: &str = "evidence";

fn export(world: &mut World) -> Result<Done, DemoError> {
    let bundle = world.space.path(BUNDLE).display().to_string();
    world.creto(&["audit", "export", &bundle])?;
    // Offline means without the server.
    world.stop_server()?;
    let report = world.creto(&["verify", &bundle])?;
    let digest = text(&report, "/keys_digest")?;
    let pinned = world.creto(&["verify", &bundle, "--keys-digest", digest])?;
    same("the root", text(&report, "/root")?, text(&pinned, "/root")?)?;
    let other_keys: String = digest
        .chars()
        .map(|digit| if digit == '0' { '1' } else { '0' })
        .collect();
    world.creto_refused(&["verify", &bundle, "--keys-digest", &other_keys])?;
    world.root = text(&report, "/root")?.to_owned();
    let leaves = number(&report, "/leaves")?;
    let erased = holds(world, leaves)?;
    silent(world)?;
    same("records erased", erased, number(&report, "/unread/erased")?)?;
    world.start_server()?;
    Ok(Done::new(
        "verified",
        format!("{leaves} leaves, of which {erased} are erased; `creto verify {bundle}`"),
    )
    .at(leaves.saturating_sub(1)))
}

/// Fails unless every record that an answer pointed to is in the bundle that was verified,
/// at its leaf and of its kind. Gives how many are of who was erased.
fn holds(world: &World, leaves: u64) -> Result<u64, DemoError> {
    let mut kinds = Vec::new();
    let mut erased = 0;
    for part in Entries::all(leaves) {
        let name = format!("{BUNDLE}/{part}");
        let path = world.space.path(&name);
        let bytes = fs::read(&path).map_err(file_error("read", &path))?;
        let width = usize::try_from(part.width()).unwrap_or(usize::MAX);
        let entries = parse_entries(&bytes, width)
            .map_err(|(error, _)| DemoError::Fact(format!("{name}: {error}")))?;
        for entry in entries {
            let record: Value = serde_json::from_slice(entry)
                .map_err(|error| DemoError::Fact(format!("{name}: {error}")))?;
            kinds.push(text(&record, "/kind")?.to_owned());
            erased += u64::from(text(&record, "/subject")? == world.erased);
        }
    }
    ensure(!world.recorded.is_empty(), || {
        "no step says what the evidence has to hold".to_owned()
    })?;
    for (leaf, kind) in &world.recorded {
        let place = usize::try_from(*leaf).unwrap_or(usize::MAX);
        let found = kinds.get(place).map_or("nothing", String::as_str);
        same(&format!("leaf {leaf} of the evidence"), *kind, found)?;
    }
    ensure(erased > 0, || "nothing was erased".to_owned())?;
    Ok(erased)
}

/// Fails when a file of the bundle still has what was said by somebody who was erased.
fn silent(world: &World) -> Result<(), DemoError> {
    let bundle = world.space.path(BUNDLE);
    for file in files_below(&bundle)? {
        let path = bundle.join(&file);
        let bytes = fs::read(&path).map_err(file_error("read", &path))?;
        let said = SAID.as_bytes();
        let found = bytes.windows(said.len()).any(|window| window == said);
        ensure(!found, || format!("{} has what was erased", file.display()))?;
    }
    Ok(())
}

/// Flips one bit in the middle of each file of a copy, one file at a time.
fn flip(world: &mut World) -> Result<Done, DemoError> {
    let bundle = world.space.path(BUNDLE);
    let files = files_below(&bundle)?;
    let mut named = String::new();
    for file in &files {
        let copy = world.space.path("tampered");
        copy_tree(&bundle, &copy)?;
        let path = copy.join(file);
        let mut bytes = fs::read(&path).map_err(file_error("read", &path))?;
        let middle = bytes.len() / 2;
        let Some(byte) = bytes.get_mut(middle) else {
            continue;
        };
        *byte ^= 1;
        fs::write(&path, &bytes).map_err(file_error("write", &path))?;
        let shown = file.display().to_string();
        let refused = world.creto_refused(&["verify", &copy.display().to_string()])?;
        let findings = list(&refused, "/findings")?;
        let place = findings
            .first()
            .and_then(|finding| finding.get("place"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        ensure(!place.is_empty(), || {
            format!("a flipped byte in {shown} was found, but nothing was named: {refused}")
        })?;
        if named.is_empty() || place.starts_with("leaf") {
            named = format!("{shown}: {place}");
        }
        fs::remove_dir_all(&copy).map_err(file_error("remove", &copy))?;
    }
    Ok(Done::new(
        "detected",
        format!("in all {} files, for example {named}", files.len()),
    ))
}

/// The files below a directory, as paths relative to it, sorted.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, DemoError> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).map_err(file_error("read", &directory))? {
            let path = entry.map_err(file_error("read", &directory))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if let Ok(relative) = path.strip_prefix(root) {
                files.push(relative.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), DemoError> {
    for file in files_below(from)? {
        let target = to.join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(file_error("make", parent))?;
        }
        let source = from.join(&file);
        fs::copy(&source, &target).map_err(file_error("copy", &source))?;
    }
    Ok(())
}
