use std::ffi::OsString;

use creto_config::{
    Bounded, ConfigError, Endpoint, Environment, MAX_CONFIG_BYTES, Position, SecretRef, load,
    load_file,
};
use creto_errors::Classify;
use proptest::prelude::*;
use serde::Deserialize;

use crate::environment;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Server,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    name: String,
    workers: Option<Bounded<1, 8>>,
    endpoint: Endpoint,
    token: Option<SecretRef>,
    peers: Vec<Peer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Peer {
    enabled: Option<bool>,
    url: String,
}

fn read(text: &str) -> Result<File, ConfigError> {
    load(text, &environment(&[("NAME", "one"), ("TOKEN", "hunter2")]))
}

fn value_error(text: &str) -> (String, String, Position) {
    match read(text).unwrap_err() {
        ConfigError::Value { key, message, at } => (key, message, at),
        other => panic!("{other}"),
    }
}

#[test]
fn strings_are_interpolated_everywhere_but_in_keys() {
    let file = read(
        "[server]\nname = \"a ${NAME} b ${NONE:-two} $${NAME}\"\n\
         peers = [{ url = \"x://${NAME}\" }]\n",
    )
    .unwrap();
    assert_eq!(file.server.name, "a one b two ${NAME}");
    assert_eq!(file.server.peers[0].url, "x://one");

    let (key, _, _) = value_error("[server]\n\"${NAME}\" = 1\n");
    assert_eq!(key, "server.${NAME}");
}

#[test]
fn a_missing_variable_names_key_variable_and_place() {
    let error = read("[server]\npeers = [{}, { url = \"${NONE}\" }]\n").unwrap_err();
    assert_eq!(error.code(), "config_variable_missing");
    assert_eq!(
        error.to_string(),
        "line 2, column 22: `server.peers[1].url` needs the environment variable NONE, \
         which is not set"
    );
}

#[test]
fn a_disabled_table_needs_no_variables() {
    let text = "[[server.peers]]\nenabled = false\nurl = \"${NONE}\"\n";
    assert_eq!(read(text).unwrap().server.peers[0].url, "${NONE}");
    let text = text.replace("false", "true");
    assert_eq!(read(&text).unwrap_err().code(), "config_variable_missing");
}

#[test]
fn unknown_keys_and_bad_values_are_placed() {
    let (key, message, at) = value_error("[server]\nname = \"é\"\nnaem = 1\n");
    assert_eq!((key.as_str(), at.line, at.column), ("server.naem", 3, 1));
    assert!(message.contains("unknown field `naem`"), "{message}");

    let (key, message, at) = value_error("[server]\nworkers = 9\n");
    assert_eq!(
        (key.as_str(), at.line, at.column),
        ("server.workers", 2, 11)
    );
    assert_eq!(message, "9 is outside 1 to 8");

    let (key, _, at) = value_error("server = { name = \"é\", endpoint = \"tcp://x\" }\n");
    assert_eq!(
        (key.as_str(), at.line, at.column),
        ("server.endpoint", 1, 35)
    );

    let (key, _, _) = value_error("srever = 1\n");
    assert_eq!(key, "srever");
}

#[test]
fn broken_toml_is_placed() {
    let error = read("[server]\nname = \n").unwrap_err();
    assert_eq!(error.code(), "config_syntax");
    assert!(
        error.to_string().starts_with("line 2, column 8: "),
        "{error}"
    );
    assert_eq!(
        read("[server]\nname = \"a\"\nname = \"b\"\n")
            .unwrap_err()
            .code(),
        "config_syntax"
    );
}

#[test]
fn an_error_never_shows_what_a_variable_held() {
    for text in [
        "[server]\nworkers = \"${TOKEN}\"\n",
        "[server]\nendpoint = \"${TOKEN}\"\n",
        "[server]\npeers = \"a ${TOKEN}\"\n",
        "[server]\ntoken = [\"${TOKEN}\"]\n",
        "server = \"${TOKEN}\"\n",
    ] {
        let error = read(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // A number written in place of a secret is not quoted either.
    let error = read("[server]\ntoken = 8675309\n").unwrap_err();
    assert!(!format!("{error:?}").contains("8675309"), "{error}");
}

#[test]
fn depth_and_size_are_bounded() {
    let dotted = format!("a{} = 1\n", ".a".repeat(50_000));
    assert_eq!(read(&dotted).unwrap_err().code(), "config_syntax");
    let header = format!("[a{}]\n", ".a".repeat(50_000));
    assert_eq!(read(&header).unwrap_err().code(), "config_syntax");
    let nested = format!("a = {}\n", "[".repeat(50_000));
    assert_eq!(read(&nested).unwrap_err().code(), "config_syntax");
    let long = "#".repeat(usize::try_from(MAX_CONFIG_BYTES).unwrap() + 1);
    assert_eq!(read(&long).unwrap_err().code(), "config_too_large");
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    struct Binary;
    impl Environment for Binary {
        fn variable(&self, _: &str) -> Option<OsString> {
            use std::os::unix::ffi::OsStringExt;
            Some(OsString::from_vec(vec![0xFF]))
        }
    }
    let error = load::<File>("[server]\nname = \"${X}\"\n", &Binary).unwrap_err();
    assert_eq!(error.code(), "config_variable_not_text");
}

#[test]
fn files_are_read_and_their_absence_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("creto.toml");
    let none = environment(&[]);
    let error = load_file::<File>(&path, &none).unwrap_err();
    assert_eq!(error.code(), "config_unreadable");
    assert!(error.to_string().contains("creto.toml"));
    std::fs::write(&path, "[server]\nname = \"n\"\n").unwrap();
    assert_eq!(load_file::<File>(&path, &none).unwrap().server.name, "n");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn text_that_looks_like_toml_never_panics(
        text in r#"([\[\]{}."'=, \n$]|\$\{|server|name|token|peers|TOKEN|NONE|:-|[0-9a-zé])*"#
    ) {
        if let Err(error) = read(&text) {
            let shown = format!("{error:?}");
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
        }
    }

    #[test]
    fn a_value_is_taken_as_it_is(value in any::<String>()) {
        prop_assume!(!value.contains('\0'));
        let file: File =
            load("[server]\nname = \"${V}\"\n", &environment(&[("V", &value)])).unwrap();
        prop_assert_eq!(file.server.name, value);
    }
}
