//! The bundle to take away: an archive that is made while it is read.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use creto_audit::{ARCHIVE_END, BundleFile, SearchField, SearchQuery, entry_header, entry_padding};
use creto_errors::Classify as _;
use creto_governor::{Export, GovernError};
use creto_types::Timestamp;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Authenticated, Params};
use crate::handlers::log::terms;

/// The media type of a POSIX archive, as browsers and servers name it.
pub(crate) const ARCHIVE: &str = "application/x-tar";

/// How long who reads may take none of what is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is handed over at a time, in bytes: taken within [`PATIENCE`] also over a slow line.
const PART: usize = 64 * 1024;

/// Of which records an export is to have the payloads: those that say all of what is
/// given. Of all when nothing is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
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
}

pub(crate) async fn export(
    State(app): State<Shared>,
    Authenticated(caller): Authenticated,
    Params(query): Params<ExportQuery>,
) -> Result<Response, ApiError> {
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
        ..SearchQuery::default()
    };
    let mut export = app.governor.export(&caller, Some(&query)).await?;
    let (to, from) = mpsc::channel(1);
    let work = async move {
        let mut writer = Writer {
            to,
            modified: u64::try_from(export.at().as_second()).unwrap_or_default(),
            patience: PATIENCE,
        };
        // Dropped before it is ended, it is broken off.
        if let Err(broken) = send(&mut export, &mut writer).await {
            report(&app, broken);
        }
    };
    tokio::spawn(work.in_current_span());
    Ok(([(CONTENT_TYPE, ARCHIVE)], body(from)).into_response())
}

/// What becomes of the body.
enum Part {
    Bytes(Bytes),
    /// It was whole.
    End,
}

/// Why an archive has no end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// Nobody reads any more.
    #[error("whoever exported went away")]
    Gone,
    #[error("whoever exported read nothing for {PATIENCE:?}")]
    Slow,
    #[error(transparent)]
    Failed(#[from] GovernError),
    #[error("{path} has no place in an archive")]
    Unfit { path: String },
}

fn report(app: &Shared, broken: Broken) {
    match broken {
        Broken::Gone => tracing::debug!("{}", Broken::Gone),
        Broken::Failed(error) => {
            let error = ApiError::from(error);
            app.governor.metrics().error(&error);
            tracing::error!(
                code = error.code(),
                error = creto_errors::chain(&error),
                "an export was broken off"
            );
        }
        other => tracing::warn!(error = %other, "an export was broken off"),
    }
}

/// A body that ends well only when that was said: a client cannot take what was broken off
/// for whole, because the connection ends with it.
fn body(from: mpsc::Receiver<Part>) -> Body {
    Body::from_stream(unfold(Some(from), async |from| {
        let mut from = from?;
        match from.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(from))),
            Some(Part::End) => None,
            None => Some((Err("the export was broken off"), None)),
        }
    }))
}

/// Where files come from, one at a time.
trait Files {
    async fn next(&mut self) -> Result<Option<BundleFile>, GovernError>;
}

impl Files for Export {
    async fn next(&mut self) -> Result<Option<BundleFile>, GovernError> {
        Self::next(self).await
    }
}

async fn send(files: &mut impl Files, writer: &mut Writer) -> Result<(), Broken> {
    while let Some(file) = files.next().await? {
        writer.file(file).await?;
    }
    writer.bytes(Bytes::from_static(ARCHIVE_END)).await?;
    writer.part(Part::End).await
}

/// Hands over no more than is read.
struct Writer {
    to: mpsc::Sender<Part>,
    /// In seconds.
    modified: u64,
    patience: Duration,
}

impl Writer {
    async fn file(&mut self, file: BundleFile) -> Result<(), Broken> {
        let BundleFile { path, bytes } = file;
        let len = bytes.len() as u64;
        let Some(header) = entry_header(&path, len, self.modified) else {
            return Err(Broken::Unfit { path });
        };
        self.bytes(Bytes::copy_from_slice(&header)).await?;
        self.bytes(Bytes::from(bytes)).await?;
        self.bytes(Bytes::from_static(entry_padding(len))).await
    }

    async fn bytes(&mut self, mut bytes: Bytes) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let part = bytes.split_to(PART.min(bytes.len()));
            self.part(Part::Bytes(part)).await?;
        }
        Ok(())
    }

    async fn part(&mut self, part: Part) -> Result<(), Broken> {
        match timeout(self.patience, self.to.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Gone),
            Err(_) => Err(Broken::Slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use creto_audit::{ArchiveError, BundleArchive};
    use creto_types::StoreError;
    use http_body_util::BodyExt as _;

    use super::*;

    /// Files, and whether they end well.
    struct Made {
        files: Vec<BundleFile>,
        fails: bool,
        asked: usize,
    }

    impl Made {
        fn new(count: usize, fails: bool) -> Self {
            let file = |n: usize| BundleFile {
                path: match n + 1 == count {
                    true => "manifest.json".to_owned(),
                    false => format!("attachments/{n}"),
                },
                bytes: vec![b'x'; 3 * PART],
            };
            Self {
                files: (0..count).rev().map(file).collect(),
                fails,
                asked: 0,
            }
        }
    }

    impl Files for Made {
        async fn next(&mut self) -> Result<Option<BundleFile>, GovernError> {
            self.asked += 1;
            match self.files.pop() {
                None if self.fails => Err(StoreError::Conflict { what: "test" }.into()),
                file => Ok(file),
            }
        }
    }

    fn writer(patience: Duration) -> (Writer, mpsc::Receiver<Part>) {
        let (to, from) = mpsc::channel(1);
        let writer = Writer {
            to,
            modified: 0,
            patience,
        };
        (writer, from)
    }

    fn read(archive: &[u8]) -> Result<usize, ArchiveError> {
        let mut archive = BundleArchive::new(archive);
        let mut count = 0;
        while archive.next_path()?.is_some() {
            archive.copy(&mut io::sink())?;
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test]
    async fn what_is_whole_ends_well_and_nothing_else() {
        for fails in [false, true] {
            let (mut writer, from) = writer(PATIENCE);
            let sent =
                tokio::spawn(async move { send(&mut Made::new(3, fails), &mut writer).await });
            let mut body = body(from);
            let mut archive = Vec::new();
            let ended = loop {
                match body.frame().await {
                    Some(Ok(frame)) => archive.extend(frame.into_data().unwrap()),
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            assert_eq!((ended, sent.await.unwrap().is_ok()), (!fails, !fails));
            match read(&archive) {
                Ok(count) => assert!(!fails && count == 3),
                Err(error) => assert!(fails, "{error}"),
            }
        }
    }

    /// Whoever reads nothing is not waited for, and gets no end.
    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut writer, from) = writer(Duration::from_millis(20));
        let mut made = Made::new(3, false);
        let broken = send(&mut made, &mut writer).await.unwrap_err();
        assert!(matches!(broken, Broken::Slow), "{broken}");
        assert_eq!(made.asked, 1, "one file is made at a time");
        drop(writer);
        assert!(body(from).collect().await.is_err());
    }

    #[tokio::test]
    async fn who_went_away_ends_it() {
        let (mut writer, from) = writer(PATIENCE);
        drop(from);
        let broken = send(&mut Made::new(3, false), &mut writer).await;
        assert!(matches!(broken, Err(Broken::Gone)));
    }
}
