//! Nothing left over.

use std::fs;
use std::path::Path;

use xtask::tidy;

use crate::{report, repository};

/// Words that this file must not contain itself.
const MARKER: &str = concat!("TO", "DO");
const ALLOW: &str = concat!("#[al", "low(dead_code");

fn tree(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    report(&tidy::check(dir.path()).unwrap())
}

fn page(code: &str) -> String {
    format!("# `{code}`\n\n## What happened\n\nThis.\n\n## What to do\n\nThat.\n")
}

#[test]
fn this_tree_is_tidy() {
    let findings = tidy::check(&repository()).unwrap();
    assert_eq!(report(&findings), [""; 0]);
}

#[test]
fn leftovers_are_found_and_lookalikes_are_not() {
    let marker = format!("# ok\n{MARKER} later\n{MARKER}S and _{MARKER}\n");
    assert_eq!(
        tree(&[("a.md", &marker)]),
        [format!(
            "a.md:2: a leftover `{MARKER}`: do it, or say what is so"
        )]
    );
    let call = concat!("fn f() { to", "do!() }\n");
    assert_eq!(
        tree(&[("a.rs", call)]),
        [concat!("a.rs:1: a leftover `to", "do!`")]
    );
    let path = concat!(
        "run /ho",
        "me/someone/x and https://example.com/ho",
        "me/x\n"
    );
    assert_eq!(
        tree(&[("a.sh", path)]),
        [concat!(
            "a.sh:1: `/ho",
            "me/` names a folder of one machine"
        )]
    );
    assert_eq!(
        tree(&[("a.md", "one \ntwo")]),
        [
            "a.md: no newline at the end of the file",
            "a.md:1: white space at the end of the line",
        ]
    );
    assert_eq!(
        tree(&[("a.md", "one\n<!-- figures -->\ntwo <!-- aside -->\n")]),
        ["a.md:2: a comment where a reader expects text: write it or remove it"]
    );
    let generated = format!("target/{MARKER}.md");
    assert_eq!(tree(&[(&generated, MARKER)]), [""; 0]);
}

#[test]
fn a_lint_is_switched_off_with_a_reason() {
    let bare = format!("{ALLOW})]\nfn f() {{}}\n");
    let explained = format!("{ALLOW},\n    reason = \"brackets [1] and text\"\n)]\nfn f() {{}}\n");
    assert_eq!(tree(&[("a.rs", &bare)]).len(), 1);
    assert_eq!(tree(&[("a.rs", &explained)]), [""; 0]);
    // The reason of the next attribute does not count.
    assert_eq!(tree(&[("a.rs", &format!("{bare}{explained}"))]).len(), 1);
}

#[test]
fn long_and_orphaned_files_are_found() {
    let long = "//\n".repeat(801);
    assert_eq!(
        tree(&[("build.rs", &long)]),
        ["build.rs: 801 lines; a file has at most 800: split it"]
    );
    let lib = "mod a;\nmod b;\n";
    let good = [
        ("src/lib.rs", lib),
        ("src/a.rs", "mod c;\n"),
        ("src/a/c.rs", "//\n"),
    ];
    let b = [("src/b/mod.rs", "//\n")];
    assert_eq!(tree(&[good.as_slice(), &b].concat()), [""; 0]);
    let orphan = [("src/a/d.rs", "//\n")];
    assert_eq!(
        tree(&[good.as_slice(), &orphan].concat()),
        ["src/a/d.rs: no `mod d;` above it: nobody compiles this file"]
    );
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let source = r#"
        impl Classify for E {
            fn code(&self) -> &'static str {
                // Braces in text and comments { do not count.
                match self { Self::A { .. } => "one_thing", Self::B => "{" , Self::C(e) => e.code() }
            }
        }
        pub mod deny { pub const X: &str = "other_thing"; }
        fn unrelated() -> &'static str { "no_code" }
        #[cfg(test)]
        mod tests { fn code(&self) -> &'static str { "test_thing" } }
    "#
    .replace("        #[cfg(test)]\n        mod", "#[cfg(test)]\nmod");
    let lib = format!("{}\n", source.trim_end());
    let file = "crates/x/src/lib.rs";
    let (one, other) = (page("one_thing"), page("other_thing"));
    let good = [
        (file, lib.as_str()),
        ("docs/errors/README.md", "# Errors\n"),
        ("docs/errors/one_thing.md", &one),
        ("docs/errors/other_thing.md", &other),
    ];
    assert_eq!(tree(&good), [""; 0]);
    assert_eq!(
        tree(&good[..3]),
        ["crates/x/src/lib.rs:8: `other_thing` has no page: write docs/errors/other_thing.md"]
    );
    let stale = page("no_code");
    let extra = [("docs/errors/no_code.md", stale.as_str())];
    assert_eq!(
        tree(&[good.as_slice(), &extra].concat()),
        ["docs/errors/no_code.md: no error has this code"]
    );
    let empty = [("docs/errors/one_thing.md", "# `one_thing`\n")];
    assert_eq!(tree(&[good.as_slice(), &empty].concat()).len(), 1);
}

#[test]
fn a_dependency_is_named_in_the_code() {
    let root = "[workspace]\nmembers = [\"x\"]\n[workspace.dependencies]\n\
                a-b = \"1\"\nspare = \"1\"\n";
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b.workspace = true\n\
                    late = \"1\"\nold = { package = \"new\", version = \"1\" }\n\
                    [dev-dependencies]\nx = { path = \".\" }\nprobe = \"1\"\n";
    let lib = "use a_b::A;\nuse old::B;\n#[cfg(test)]\nmod tests { use late::C; }\n";
    let findings = tree(&[
        ("Cargo.toml", root),
        ("x/Cargo.toml", manifest),
        ("x/src/lib.rs", lib),
        ("x/tests/it/main.rs", "// probes\n"),
    ]);
    assert_eq!(
        findings,
        [
            "Cargo.toml: no member takes `spare`: remove it",
            "x/Cargo.toml: no source file of x names `probe` of [dev-dependencies]: remove it",
            "x/Cargo.toml: only tests name `late`: it belongs into [dev-dependencies]",
        ]
    );
    let findings = tree(&[
        ("Cargo.toml", &root.replace("spare = \"1\"\n", "")),
        (
            "x/Cargo.toml",
            &manifest
                .replace("late = \"1\"\n", "")
                .replace("probe", "late"),
        ),
        ("x/src/lib.rs", lib),
    ]);
    assert_eq!(findings, [""; 0]);
}

#[test]
fn a_tree_without_a_manifest_is_an_error_and_not_a_pass() {
    let dir = tempfile::tempdir().unwrap();
    assert!(xtask::layers::check(dir.path()).is_err());
    assert!(xtask::layers::check(Path::new("/nonexistent")).is_err());
}
