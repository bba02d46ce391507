//! A flipped byte anywhere in the exported evidence is found and named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use creto_types::{Randomness, SeededRandom};
use serde_json::Value;

use crate::harness::{Server, creto, draft, said};

/// Flips per file; small files are covered densely, and the seed fixes the rest.
const FLIPS: usize = 12;
const SEED: u64 = 0x5eed;

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A bundle with delegations, decisions, settlements, a refusal, an invoice, and the
/// policies of a directory and of a publication.
fn bundle(server: &mut Server) -> PathBuf {
    let (_, worker) = server.chain("0.05");
    let agent = server.agent(&worker);
    loop {
        let answer = draft(&agent).unwrap();
        if answer["outcome"] != "allow" {
            break;
        }
        let id = answer["action_id"].as_str().unwrap();
        let body = serde_json::json!({"units": 1});
        agent
            .post(&format!("/v1/actions/{id}/settle"), &body)
            .unwrap();
    }
    let tighter = server.path().join("tighter");
    std::fs::create_dir(&tighter).unwrap();
    for file in files_below(&server.path().join("policies")) {
        std::fs::copy(&file, tighter.join(file.file_name().unwrap())).unwrap();
    }
    let forbid = "forbid (principal, action, resource == Creto::Resource::\"repo:secret\");";
    std::fs::write(tighter.join("secret.cedar"), forbid).unwrap();
    let words = ["policy", "publish", "tighter", "--reason", "a secret"];
    let published = creto(server.path(), &words);
    assert_eq!(published.status.code(), Some(0), "{}", said(&published));
    let words = ["invoice", "issue", "--from", "2020-01-01"];
    let issued = creto(server.path(), &words);
    assert_eq!(issued.status.code(), Some(0), "{}", said(&issued));
    let exported = creto(server.path(), &["audit", "export", "evidence"]);
    assert_eq!(exported.status.code(), Some(0), "{}", said(&exported));
    server.stop();
    server.path().join("evidence")
}

/// What verification says, `PLACE: MESSAGE` each; empty when it passes.
fn findings(dir: &Path) -> Vec<String> {
    let result = creto(dir, &["--json", "verify", "evidence"]);
    let document: Value =
        serde_json::from_slice(&result.stdout).unwrap_or_else(|_| panic!("{}", said(&result)));
    let said: Vec<String> = document["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|finding| {
            let [place, message] = ["place", "message"].map(|key| finding[key].as_str().unwrap());
            assert!(!place.is_empty() && !message.is_empty(), "{finding}");
            format!("{place}: {message}")
        })
        .collect();
    assert_eq!(
        result.status.code(),
        Some(i32::from(!said.is_empty())),
        "{document}"
    );
    said
}

/// Whether a finding names the leaf or signature that a file of this kind is of.
fn names(path: &str, finding: &str) -> bool {
    let signature = |of: &str| finding.contains(&format!("{of} signature"));
    if path.starts_with("tile/entries/") || path.starts_with("payloads/") {
        finding.starts_with("leaf ")
    } else if let Some(tile) = path.strip_prefix("tile/") {
        let what = if tile.starts_with("0/") {
            "leaf "
        } else {
            "leaves "
        };
        finding.starts_with(path) && finding.contains(&format!("is not that of {what}"))
    } else if path.starts_with("attachments/") {
        finding.starts_with(path) && finding.contains("leaf ")
    } else {
        match path {
            "checkpoint" => signature("checkpoint"),
            "manifest.json" => signature("manifest"),
            "keys.json" => signature("checkpoint") || signature("manifest"),
            other => panic!("{other} is a file of an unknown kind"),
        }
    }
}

#[test]
fn any_flipped_byte_is_found_and_named() {
    let mut server = Server::fresh();
    let bundle = bundle(&mut server);
    let dir = server.path();
    assert_eq!(findings(dir), Vec::<String>::new());

    let random = SeededRandom::new(SEED);
    let files = files_below(&bundle);
    assert!(files.len() >= 4, "{files:?}");
    let mut kinds = BTreeSet::new();
    for file in files {
        let original = std::fs::read(&file).unwrap();
        for flip in 0..FLIPS.min(original.len()) {
            let mut bytes = [0_u8; 8];
            random.fill(&mut bytes);
            let drawn = usize::try_from(u64::from_le_bytes(bytes) % original.len() as u64).unwrap();
            // The ends of a file are where a parser is most easily too generous.
            let position = match flip {
                0 => 0,
                1 => original.len() - 1,
                _ => drawn,
            };
            let mut changed = original.clone();
            changed[position] ^= 1 << (bytes[7] % 8);
            std::fs::write(&file, &changed).unwrap();
            let said = findings(dir);
            let path = file.strip_prefix(&bundle).unwrap().to_str().unwrap();
            assert!(
                said.iter().any(|finding| names(path, finding)),
                "{path}, byte {position}: {said:?}"
            );
            let depth = if path.starts_with("payloads/") { 1 } else { 2 };
            kinds.insert(path.split('/').take(depth).collect::<Vec<_>>().join("/"));
        }
        std::fs::write(&file, &original).unwrap();
    }
    let expected = [
        "attachments/invoices",
        "attachments/policies",
        "checkpoint",
        "keys.json",
        "manifest.json",
        "payloads",
        "tile/0",
        "tile/entries",
    ];
    assert!(kinds.iter().eq(expected), "{kinds:?}");
    assert_eq!(
        findings(dir),
        Vec::<String>::new(),
        "the restored bundle verifies"
    );
}

/// The bytes of the file are those that its name, and the log, give the digest of.
#[test]
fn a_stranger_reads_the_policies_by_their_digest() {
    let mut server = Server::fresh();
    let bundle = bundle(&mut server);
    let mut texts = Vec::new();
    for file in files_below(&bundle.join("attachments/policies")) {
        let bytes = std::fs::read(&file).unwrap();
        let summed = std::process::Command::new("sha256sum").arg(&file).output();
        let summed = String::from_utf8(summed.unwrap().stdout).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(summed.starts_with(name), "{summed}");
        let files: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(files["release.cedar"].is_string(), "{files}");
        texts.push(files["secret.cedar"].is_string());
    }
    texts.sort_unstable();
    assert_eq!(
        texts,
        [false, true],
        "the directory's, and what was published"
    );
}

#[test]
fn a_missing_an_added_and_a_shortened_file_are_found() {
    let mut server = Server::fresh();
    let bundle = bundle(&mut server);
    let dir = server.path();
    for file in files_below(&bundle) {
        let original = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(
            !findings(dir).is_empty(),
            "{} is not missed",
            file.display()
        );
        let short = original.len().saturating_sub(1);
        std::fs::write(&file, &original[..short]).unwrap();
        assert!(
            !findings(dir).is_empty(),
            "{} was shortened",
            file.display()
        );
        std::fs::write(&file, &original).unwrap();
    }
    let added = bundle.join("extra.json");
    std::fs::write(&added, "{}").unwrap();
    assert!(!findings(dir).is_empty(), "an added file is not noticed");
    std::fs::remove_file(&added).unwrap();
    assert_eq!(findings(dir), Vec::<String>::new());
}
