//! `creto prekeys`.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_client::{Client, ClientError, encode};
use creto_crypto::{
    AwsLcProvider, CryptoError, CryptoProvider as _, DecapsulationKey, KemAlgorithm,
};
use creto_nhi::{NhiError, Prekey, PrekeyId, PrekeyKind};
use creto_types::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{GenerateArgs, PrekeysCommand, TakeArgs};
use crate::commands::handed::{must_be_new, write_secret};
use crate::commands::signing::{keys_of, refused, write_new};
use crate::context::{Context, file_error};
use crate::error::CliError;
use crate::output::{Reply, at, fields};

pub(crate) fn run(context: &Context, command: PrekeysCommand) -> Result<Reply, CliError> {
    let client = context.client()?;
    match command {
        PrekeysCommand::Generate(args) => generate(&client, &args),
        PrekeysCommand::Left { spiffe_id } => {
            let answer = left(&client, spiffe_id.as_deref())?;
            let text = fields(&[
                ("owner", at(&answer, "/owner")),
                ("one time", at(&answer, "/one_time")),
                ("at most", at(&answer, "/one_time_max")),
                ("last resort", at(&answer, "/last_resort")),
                ("algorithm", at(&answer, "/algorithm")),
            ]);
            Ok(Reply::new(text, answer))
        }
        PrekeysCommand::Take(args) => take(&client, &args),
    }
}

fn left(client: &Client, spiffe_id: Option<&str>) -> Result<Value, CliError> {
    let path = match spiffe_id {
        None => "/v1/prekeys".to_owned(),
        Some(id) => format!("/v1/prekeys?spiffe_id={}", encode(id)),
    };
    Ok(client.get(&path)?)
}

/// The private half of a prekey, as it lies in the file.
#[derive(Serialize)]
struct Private {
    id: PrekeyId,
    kind: PrekeyKind,
    alg: KemAlgorithm,
    #[serde(rename = "pub")]
    public: String,
    /// What both halves come of: `d || z` of ML-KEM (FIPS 203), the 32 bytes of X-Wing.
    #[serde(serialize_with = "shown")]
    seed: Zeroizing<String>,
}

fn shown<S: serde::Serializer>(seed: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(seed)
}

#[derive(Serialize)]
struct PrivateFile<'a> {
    owner: &'a str,
    keys: &'a [Private],
}

fn generate(client: &Client, args: &GenerateArgs) -> Result<Reply, CliError> {
    must_be_new(Some(&args.out))?;
    let left = left(client, None)?;
    let count = |place| left.pointer(place).and_then(Value::as_u64);
    let (Some(most), Some(waiting)) = (count("/one_time_max"), count("/one_time")) else {
        return Err(CliError::Answer { what: "one_time" });
    };
    let room = usize::try_from(most.saturating_sub(waiting)).unwrap_or(0);
    let one_time = args.one_time.unwrap_or(room);
    let algorithm = match &args.algorithm {
        Some(name) => name.clone(),
        None => at(&left, "/algorithm"),
    };
    let algorithm: KemAlgorithm = algorithm.parse().map_err(CliError::server::<CryptoError>)?;
    let last_resort = usize::from(!args.keep_last_resort);
    let kinds = std::iter::repeat_n(PrekeyKind::OneTime, one_time)
        .chain(std::iter::repeat_n(PrekeyKind::LastResort, last_resort));
    let keys = kinds
        .map(|kind| private(algorithm, kind))
        .collect::<Result<Vec<Private>, CliError>>()?;
    let owner = at(&left, "/owner");
    write_private(&args.out, &owner, &keys)?;
    let public = |key: &Private| json!({ "alg": key.alg, "pub": key.public });
    let of_kind = |kind| keys.iter().filter(move |key| key.kind == kind).map(public);
    let mut body = json!({ "one_time": of_kind(PrekeyKind::OneTime).collect::<Vec<_>>() });
    if let Value::Object(fields) = &mut body {
        let last_resort = of_kind(PrekeyKind::LastResort).next();
        fields.extend(last_resort.map(|key| ("last_resort".to_owned(), key)));
        let grant = args.grant.as_ref();
        fields.extend(grant.map(|grant| ("grant".to_owned(), json!(grant))));
    }
    let answer = match client.post("/v1/prekeys", &body) {
        // Nothing was published, so there is nothing to keep.
        Err(error @ ClientError::Refused(_)) => {
            remove(&args.out)?;
            return Err(error.into());
        }
        answer => answer?,
    };
    let Some(published) = answer
        .pointer("/published")
        .filter(|found| !found.is_null())
    else {
        remove(&args.out)?;
        return Ok(refused(answer));
    };
    let number = published.pointer("/one_time").and_then(Value::as_array);
    let text = fields(&[
        ("owner", owner),
        ("one time", number.map_or(0, Vec::len).to_string()),
        ("last resort", at(published, "/last_resort")),
        ("algorithm", algorithm.to_string()),
        ("private halves", args.out.display().to_string()),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}

fn private(algorithm: KemAlgorithm, kind: PrekeyKind) -> Result<Private, CliError> {
    let provider = AwsLcProvider::new(Arc::new(SystemRandom));
    let mut seed = Zeroizing::new(vec![0_u8; algorithm.seed_len()]);
    provider.random(&mut seed);
    let key = DecapsulationKey::from_seed(algorithm, &seed);
    let key = key.map_err(CliError::server::<CryptoError>)?;
    let public = key.encapsulation_key();
    Ok(Private {
        id: PrekeyId::of(public).map_err(CliError::server::<NhiError>)?,
        kind,
        alg: algorithm,
        public: public.to_base64url(),
        seed: Zeroizing::new(URL_SAFE_NO_PAD.encode(&*seed)),
    })
}

fn write_private(path: &Path, owner: &str, keys: &[Private]) -> Result<(), CliError> {
    // Enough for all of it, so that no piece of it is left where it grew.
    const EACH: usize = 4 * 1024;
    let mut text = Zeroizing::new(Vec::with_capacity(EACH * (keys.len() + 1)));
    let written = serde_json::to_writer_pretty(&mut *text, &PrivateFile { owner, keys });
    let text = written
        .map_err(std::io::Error::from)
        .and_then(|()| std::str::from_utf8(&text).map_err(std::io::Error::other));
    write_secret(path, text.map_err(file_error("write", path))?)
}

fn remove(path: &Path) -> Result<(), CliError> {
    std::fs::remove_file(path).map_err(file_error("remove", path))
}

fn take(client: &Client, args: &TakeArgs) -> Result<Reply, CliError> {
    must_be_new(args.out.as_deref())?;
    // First: what cannot be checked is not taken.
    let keys = keys_of(args.keys.as_deref(), &args.spiffe_id, || Ok(client.clone()))?.0;
    keys.of(&args.spiffe_id).map_err(CliError::server)?;
    let body = json!({ "owner": args.spiffe_id, "grant": args.grant });
    let answer = client.post("/v1/prekeys/take", &body)?;
    let Some(found) = answer.pointer("/prekey").filter(|found| !found.is_null()) else {
        return Ok(refused(answer));
    };
    let prekey: Prekey =
        serde_json::from_value(found.clone()).map_err(|_| CliError::Answer { what: "prekey" })?;
    prekey.verify(&keys).map_err(CliError::server)?;
    let document = format!("{found:#}\n");
    let Some(path) = &args.out else {
        return Ok(Reply::new(document, answer));
    };
    write_new(path, &document)?;
    let text = fields(&[
        ("owner", at(found, "/owner")),
        ("kind", at(found, "/kind")),
        ("id", at(found, "/id")),
        ("algorithm", at(found, "/key/alg")),
        ("signature", "valid".to_owned()),
        ("prekey", path.display().to_string()),
        ("leaf", at(&answer, "/leaf")),
    ]);
    Ok(Reply::new(text, answer))
}
