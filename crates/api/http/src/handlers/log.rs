//! The log: leaves, proofs, files.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use creto_audit::{Content, SearchField, SearchQuery, SearchTerm, Withheld};
use creto_governor::LogVerifierKeys;
use creto_types::{LeafIndex, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Authenticated, Name, Params, limit, parse_after};
use crate::handlers::Reply;

/// One leaf and its proof.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LeafAnswer {
    /// Its place.
    index: LeafIndex,
    /// The record: what the leaf says, and what it commits to.
    record: Value,
    /// Why the record has the fields of its leaf alone: `erased` or `expired`. Absent
    /// when it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<&'static str>,
    /// The leaf's bytes, in base64: what was hashed.
    leaf: String,
    /// What the leaf commits to. Absent when it is withheld, or when the leaf is older
    /// than commitments and says all itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    opening: Option<OpeningAnswer>,
    /// C2SP tlog-proof.
    proof: String,
    /// The signed checkpoint that the proof leads to.
    checkpoint: String,
}

/// What a leaf commits to: with it anybody can check that the record is the leaf's.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OpeningAnswer {
    /// The salt, in base64.
    salt: String,
    /// The payload's bytes, in base64.
    payload: String,
}

/// The keys that sign the log's checkpoints, as note tools read them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogKeysAnswer {
    /// The log's name.
    origin: String,
    /// Of the first signature line; C2SP signature type 0x01.
    ed25519: String,
    /// Of the second line, which holds against quantum computers: composite, or ML-DSA-65
    /// alone where that was the algorithm for new keys; the text names it.
    composite: String,
    /// Those that a rotation replaced: they sign besides until they are retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    former: Option<FormerKeysAnswer>,
}

/// Keys that sign checkpoints besides.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FormerKeysAnswer {
    /// Of the third line.
    ed25519: String,
    /// Of the fourth, as the second is.
    composite: String,
}

/// Two sizes of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyQuery {
    /// The earlier size.
    from: u64,
    /// The later size; the newest one when absent.
    to: Option<u64>,
}

/// That the log of one size continues the one of another.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConsistencyAnswer {
    /// The earlier size.
    from: u64,
    /// The root at it, in base64.
    from_root: String,
    /// The later size.
    to: u64,
    /// The root at it, in base64.
    to_root: String,
    /// RFC 6962, section 2.1.2; each in base64.
    hashes: Vec<String>,
    /// A signed checkpoint that covers both.
    checkpoint: String,
}

/// What to find in the log. Records say all of what is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordsQuery {
    /// Who did it, or the agent that the record is about.
    agent: Option<String>,
    /// Somebody in the chain of delegations behind it, or the id of one of them.
    member: Option<String>,
    /// The name of an action.
    action: Option<String>,
    /// The id of a resource; one with a type also as `TYPE::ID`.
    resource: Option<String>,
    /// What was decided, for example `allow` or `deny`.
    outcome: Option<String>,
    /// The kind of the record, for example `action.decided`.
    kind: Option<String>,
    /// Only what has its place in the log since then.
    #[schemars(with = "Option<String>")]
    since: Option<Timestamp>,
    /// Only what had its place in the log before then.
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
    /// The `next` of the page before; the newest records when absent.
    after: Option<String>,
    /// 1 to 100; 50 when absent.
    limit: Option<usize>,
}

/// A record and its place.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FoundRecord {
    /// Its place, for `/v1/audit/leaves/{index}`.
    leaf: LeafIndex,
    /// The record.
    record: Value,
    /// Why the record has the fields of its leaf alone: `erased` or `expired`. Absent
    /// when it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<&'static str>,
}

/// Records that were found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RecordsAnswer {
    /// The newest first.
    items: Vec<FoundRecord>,
    /// `after` of the next page; `null` at the end. There may be one although this page
    /// is not full: each does a bounded amount of work.
    next: Option<String>,
    /// How many leaves of the log, from its beginning, could be found.
    searched: u64,
    /// How many there were. More than `searched` when the index is behind.
    size: u64,
}

pub(crate) async fn checkpoint(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Result<Response, ApiError> {
    let note = app.governor.checkpoint(&caller).await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

pub(crate) async fn leaf(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Name(index): Name<u64>,
) -> Reply<LeafAnswer> {
    let proof = app.governor.leaf(&caller, LeafIndex(index)).await?;
    let (record, withheld) = proof.record.into_parts();
    let opening = match &proof.content {
        Content::Opened(opening) => Some(OpeningAnswer {
            salt: STANDARD.encode(opening.salt()),
            payload: STANDARD.encode(opening.payload()),
        }),
        Content::Clear | Content::Withheld(_) => None,
    };
    Ok(Json(LeafAnswer {
        index: proof.index,
        record,
        withheld: withheld.map(Withheld::as_str),
        leaf: STANDARD.encode(&proof.bytes),
        opening,
        proof: proof.proof,
        checkpoint: String::from_utf8_lossy(&proof.checkpoint).into_owned(),
    }))
}

pub(crate) async fn keys(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
) -> Reply<LogKeysAnswer> {
    let LogVerifierKeys { in_force, former } = app.governor.log_keys(&caller)?;
    let [ed25519, composite] = in_force;
    let origin = ed25519.split('+').next().unwrap_or_default().to_owned();
    Ok(Json(LogKeysAnswer {
        origin,
        ed25519,
        composite,
        former: former.map(|[ed25519, composite]| FormerKeysAnswer { ed25519, composite }),
    }))
}

pub(crate) async fn consistency(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ConsistencyQuery>,
) -> Reply<ConsistencyAnswer> {
    let ConsistencyQuery { from, to } = query;
    let proof = app.governor.log_consistency(&caller, from, to).await?;
    Ok(Json(ConsistencyAnswer {
        from: proof.from,
        from_root: proof.from_root.to_string(),
        to: proof.to,
        to_root: proof.to_root.to_string(),
        hashes: proof.hashes.iter().map(ToString::to_string).collect(),
        checkpoint: String::from_utf8_lossy(&proof.checkpoint).into_owned(),
    }))
}

pub(crate) async fn tile(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Path(path): Path<String>,
) -> Result<Response, ApiError> {
    let path = format!("tile/{path}");
    let bytes = app.governor.log_resource(&caller, &path).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

pub(crate) async fn records(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<RecordsQuery>,
) -> Reply<RecordsAnswer> {
    let limit = limit(query.limit, 100)?;
    let before = parse_after(query.after.as_deref())?.map(LeafIndex);
    let query = SearchQuery {
        terms: terms([
            (SearchField::Agent, query.agent),
            (SearchField::Member, query.member),
            (SearchField::Action, query.action),
            (SearchField::Resource, query.resource),
            (SearchField::Outcome, query.outcome),
            (SearchField::Kind, query.kind),
        ]),
        since: query.since,
        until: query.until,
        before,
        limit,
    };
    let page = app.governor.search_log(&caller, query).await?;
    let mut items = Vec::with_capacity(page.records.len());
    for (leaf, record) in page.records {
        let (record, withheld) = record.into_parts();
        items.push(FoundRecord {
            leaf,
            record,
            withheld: withheld.map(Withheld::as_str),
        });
    }
    Ok(Json(RecordsAnswer {
        items,
        next: page.next.map(|leaf| leaf.to_string()),
        searched: page.searched,
        size: page.size,
    }))
}

/// What is asked for, out of what may be.
pub(crate) fn terms<const N: usize>(given: [(SearchField, Option<String>); N]) -> Vec<SearchTerm> {
    let given = given.into_iter();
    given
        .filter_map(|(field, value)| Some(SearchTerm::new(field, value?)))
        .collect()
}
