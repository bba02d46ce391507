//! The checked-in code is what the generator makes of the `.proto` files.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

const SOURCES: [&str; 2] = [
    "creto/authz/v1/authz.proto",
    "creto/consensus/v1/timestamps.proto",
];

const FILES: [&str; 2] = ["creto.authz.v1.rs", "creto.consensus.v1.rs"];

#[test]
fn the_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(SOURCES, [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .codec_path("crate::BoundedCodec")
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    for file in FILES {
        let checked_in = root.join("generated").join(file);
        let made = std::fs::read_to_string(out.path().join(file)).unwrap();
        if std::env::var_os("CRETO_WRITE_GENERATED").is_some() {
            std::fs::write(&checked_in, &made).unwrap();
        }
        let current = std::fs::read_to_string(&checked_in).unwrap();
        assert!(
            made == current,
            "{} is not what the generator makes; run this test with CRETO_WRITE_GENERATED=1",
            checked_in.display()
        );
    }
}
