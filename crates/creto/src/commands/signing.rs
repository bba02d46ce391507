//! `creto sign`, `creto verify-signature` and `creto agent keys`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_client::{Client, encode};
use creto_crypto::{Digest, HashAlgorithm, Hasher, unknown_algorithm};
use creto_nhi::{MAX_SIGNED_LEN, PublicKeys, SignedStatement, StatementError};
use serde_json::{Value, json};

use crate::cli::{KeysArgs, SignArgs, VerifySignatureArgs};
use crate::commands::handed::must_be_new;
use crate::context::{Context, file_error};
use crate::error::CliError;
use crate::output::{Reply, at, fields, instant};

/// What a file is expected to hold.
const KEYS: &str = "keys of `creto agent keys`";

pub(crate) fn sign(context: &Context, args: &SignArgs) -> Result<Reply, CliError> {
    must_be_new(args.out.as_deref())?;
    let file = args.file.as_deref();
    let (digest, message) = match args.digest {
        Some(algorithm) => (Some(digest(algorithm, file)?), None),
        None => (None, Some(URL_SAFE_NO_PAD.encode(message(file)?))),
    };
    let body = json!({
        "purpose": args.purpose,
        "message": message,
        "digest": digest,
        "grant": args.grant,
    });
    let answer = context.client()?.post("/v1/signatures", &body)?;
    let Some(signed) = answer.pointer("/signed").filter(|signed| !signed.is_null()) else {
        return Ok(refused(answer));
    };
    let document = format!("{signed:#}\n");
    let Some(path) = &args.out else {
        // The signature alone, for a pipe.
        return Ok(Reply::new(document, answer));
    };
    write_new(path, &document)?;
    let text = fields(&[
        ("signer", at(signed, "/signer")),
        ("purpose", at(signed, "/purpose")),
        ("signed", instant(signed, "/signed_at")),
        ("signature", path.display().to_string()),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

/// What was not allowed.
pub(crate) fn refused(answer: Value) -> Reply {
    let text = fields(&[
        ("outcome", at(&answer, "/decision/outcome")),
        ("reason", at(&answer, "/decision/reason/message")),
        ("request", at(&answer, "/decision/oversight/request_id")),
    ]);
    Reply {
        good: false,
        ..Reply::new(text, answer)
    }
}

pub(crate) fn keys(client: &Client, args: &KeysArgs) -> Result<Reply, CliError> {
    must_be_new(args.out.as_deref())?;
    let answer = known_keys(client, &spiffe_id_of(client, &args.who)?)?;
    let mut text = fields(&[
        ("spiffe id", at(&answer, "/spiffe_id")),
        ("kind", at(&answer, "/kind")),
        ("suspended", at(&answer, "/suspended")),
        ("revoked", at(&answer, "/revoked")),
    ]);
    for list in ["/keys", "/revoked_keys"] {
        let keys = answer.pointer(list).and_then(Value::as_array);
        for key in keys.into_iter().flatten() {
            text.push('\n');
            text.push_str(&fields(&[
                ("key", at(key, "/kid")),
                ("algorithm", at(key, "/alg")),
                ("state", at(key, "/state")),
                ("since", instant(key, "/since")),
            ]));
        }
    }
    if let Some(path) = &args.out {
        write_new(path, &format!("{answer:#}\n"))?;
        text.push_str(&fields(&[("file", path.display().to_string())]));
    }
    Ok(Reply::new(text, answer))
}

/// Of a name in the caller's organization, or as it is.
fn spiffe_id_of(client: &Client, who: &str) -> Result<String, CliError> {
    if !who.contains("://") {
        for principal in client.pages("/v1/principals") {
            let principal = principal?;
            if at(&principal, "/name") == who {
                return Ok(at(&principal, "/spiffe_id"));
            }
        }
    }
    Ok(who.to_owned())
}

pub(crate) fn known_keys(client: &Client, spiffe_id: &str) -> Result<Value, CliError> {
    let path = format!("/v1/public-keys?spiffe_id={}", encode(spiffe_id));
    Ok(client.get(&path)?)
}

pub(crate) fn verify(context: &Context, args: &VerifySignatureArgs) -> Result<Reply, CliError> {
    let signed: SignedStatement = read_json(&args.signature, "a signature of `creto sign`")?;
    let lists = args.also.lists().map_err(CliError::server)?;
    let client = || context.client();
    let (keys, found) = keys_of(args.keys.as_deref(), &args.signer, client)?;
    expected(&signed, args).map_err(CliError::server)?;
    let file = args.file.as_deref();
    let checked = match &signed.digest {
        Some(named) if lists.hash.check(named.algorithm()).is_err() => {
            // Refused for that, before anything is computed.
            keys.verify_digest(&signed, named, &lists)
        }
        Some(named) => keys.verify_digest(&signed, &digest(named.algorithm(), file)?, &lists),
        None => keys.verify(&signed, &message(file)?, &lists),
    };
    checked.map_err(CliError::verifying)?;
    let document = json!({
        "valid": true,
        "signer": signed.signer,
        "purpose": signed.purpose,
        "signed_at": signed.signed_at,
        "kid": signed.kid,
        "algorithm": signed.signature.algorithm(),
        "digest": signed.digest,
        "suspended": found.pointer("/suspended"),
        "revoked": found.pointer("/revoked"),
    });
    let text = fields(&[
        ("signature", "valid".to_owned()),
        ("signer", at(&document, "/signer")),
        ("purpose", at(&document, "/purpose")),
        ("signed", instant(&document, "/signed_at")),
        ("key", at(&document, "/kid")),
        ("algorithm", at(&document, "/algorithm")),
        ("digest", at(&document, "/digest")),
        ("suspended", at(&document, "/suspended")),
        ("revoked", at(&document, "/revoked")),
    ]);
    Ok(Reply::new(text, document))
}

/// The keys of a principal from a file, or else from the server; and as they stand there.
pub(crate) fn keys_of(
    file: Option<&Path>,
    spiffe_id: &str,
    client: impl FnOnce() -> Result<Client, CliError>,
) -> Result<(PublicKeys, Value), CliError> {
    let found: Value = match file {
        Some(path) => read_json(path, KEYS)?,
        None => known_keys(&client()?, spiffe_id)?,
    };
    let keys = serde_json::from_value(found.clone()).map_err(|source| match file {
        Some(path) => CliError::NotReadable {
            what: KEYS,
            path: path.to_owned(),
            source,
        },
        None => CliError::Answer { what: "keys" },
    })?;
    Ok((keys, found))
}

/// Of whom and for what comes first: a good signature of somebody else is none.
fn expected(signed: &SignedStatement, args: &VerifySignatureArgs) -> Result<(), StatementError> {
    let expected = &args.signer;
    let instance = signed.signer.strip_prefix(expected.as_str());
    if !instance.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(StatementError::OtherSigner {
            signer: signed.signer.clone(),
            expected: expected.clone(),
        });
    }
    if signed.purpose.as_str() != args.purpose {
        return Err(StatementError::OtherPurpose {
            purpose: signed.purpose.clone(),
            expected: args.purpose.clone(),
        });
    }
    Ok(())
}

/// What is signed in the place of a message of any length.
fn digest(algorithm: HashAlgorithm, file: Option<&Path>) -> Result<Digest, CliError> {
    let mut hasher = Hasher::new(algorithm);
    let (path, read) = match file {
        Some(path) => {
            let mut file = File::open(path).map_err(file_error("read", path))?;
            (path, std::io::copy(&mut file, &mut hasher))
        }
        None => {
            let mut input = std::io::stdin().lock();
            (
                Path::new("standard input"),
                std::io::copy(&mut input, &mut hasher),
            )
        }
    };
    read.map_err(file_error("read", path))?;
    Ok(hasher.finish())
}

/// What is signed: more than a server takes, so that it is the server that says what is
/// too long.
fn message(file: Option<&Path>) -> Result<Vec<u8>, CliError> {
    let most = u64::try_from(MAX_SIGNED_LEN).unwrap_or(u64::MAX);
    let most = most.saturating_add(1);
    let mut message = Vec::new();
    let (path, read) = match file {
        Some(path) => {
            let file = File::open(path).map_err(file_error("read", path))?;
            (path, file.take(most).read_to_end(&mut message))
        }
        None => {
            let input = std::io::stdin().lock();
            let read = input.take(most).read_to_end(&mut message);
            (Path::new("standard input"), read)
        }
    };
    read.map_err(file_error("read", path))?;
    Ok(message)
}

fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    what: &'static str,
) -> Result<T, CliError> {
    let bytes = std::fs::read(path).map_err(file_error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| {
        let document = serde_json::from_slice(&bytes);
        let unknown = document.map(|document| unknown_algorithm(&document));
        match unknown {
            Ok(Some(unknown)) => CliError::server(unknown),
            _ => CliError::NotReadable {
                what,
                path: path.to_owned(),
                source,
            },
        }
    })
}

/// What is public, in a new file.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(file_error("write", path))
}
