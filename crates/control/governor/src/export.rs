//! The evidence bundle: who may have it, what lies beside the log, and how many are made at
//! once.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use creto_audit::{Attachments, BundleFile, SearchQuery};
use creto_metering::{InvoiceId, Meter, MeteringError};
use creto_nhi::IdentityError;
use creto_types::{Clock, OrgId, StoreError, Timestamp, canonical_json};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::GovernError;
use crate::caller::Caller;
use crate::governor::{Governor, searchable};
use crate::ports::PolicyStore;
use crate::roles::Call;
use crate::verify::{INVOICE_FILES, POLICY_FILES, invoice_path, policies_path, refers_to};

/// Bundles that a server makes at once. Each reads the whole log, beside whatever else reads
/// and writes it.
pub const EXPORTS_AT_ONCE: usize = 2;

/// Invoices that are looked at together for their names.
const PAGE: usize = 16;

/// A bundle that is being made, file by file. Until it is dropped it counts among those that
/// are made at once.
pub struct Export {
    caller: Caller,
    clock: Arc<dyn Clock>,
    bundle: creto_audit::Export,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("caller", &self.caller)
            .field("bundle", &self.bundle)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// When it was begun.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.bundle.at()
    }

    /// The next file; the manifest is the last one, and what was given before an error is no
    /// bundle. Who asked has to be allowed to as long as it takes.
    pub async fn next(&mut self) -> Result<Option<BundleFile>, GovernError> {
        match self.caller.live(self.clock.now()) {
            // A token is for beginning: one that ends on the way breaks nothing off.
            Ok(()) | Err(GovernError::Identity(IdentityError::Expired { link: None })) => {}
            Err(error) => return Err(error),
        }
        self.caller.allowed(Call::ExportEvidence)?;
        Ok(self.bundle.next().await?)
    }
}

impl Governor {
    /// Begins an evidence bundle; see `docs/formats/evidence-bundle.md`. With a query that
    /// asks for something, it has of the payloads only those of records that say it, and the
    /// files that these refer to.
    ///
    /// # Errors
    ///
    /// `too_many_exports` as long as [`EXPORTS_AT_ONCE`] others are made.
    pub async fn export(
        &self,
        caller: &Caller,
        only: Option<&SearchQuery>,
    ) -> Result<Export, GovernError> {
        caller.may(Call::ExportEvidence, self.now())?;
        caller.require_person("export evidence")?;
        if let Some(query) = only {
            searchable(query)?;
        }
        let permit = Arc::clone(&self.exports).try_acquire_owned();
        let permit = permit.map_err(|_| GovernError::TooManyExports)?;
        let beside = Arc::new(Beside {
            meter: Arc::clone(&self.parts.meter),
            policies: Arc::clone(&self.parts.policies),
        });
        let bundle = self.parts.audit.export(caller.org(), beside, only).await?;
        Ok(Export {
            caller: caller.clone(),
            clock: Arc::clone(&self.parts.clock),
            bundle,
            _permit: permit,
        })
    }
}

/// What a file of a bundle is, by its name.
enum Attached<'a> {
    /// This invoice.
    Invoice(InvoiceId),
    /// The policies of this digest.
    Policies(&'a str),
}

impl<'a> Attached<'a> {
    fn named(name: &'a str) -> Option<Self> {
        let id = |kind| name.strip_prefix(kind)?.strip_suffix(".json");
        if let Some(digest) = id(POLICY_FILES) {
            return Some(Self::Policies(digest));
        }
        let id = id(INVOICE_FILES)?.parse().ok()?;
        (invoice_path(id) == name).then_some(Self::Invoice(id))
    }
}

/// What the log refers to: invoices and sets of policies.
struct Beside {
    meter: Arc<Meter>,
    policies: Arc<dyn PolicyStore>,
}

#[async_trait]
impl Attachments for Beside {
    async fn names(&self, org: OrgId) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut after = None;
        loop {
            let page = self.meter.invoices(org, after, PAGE).await;
            let page = page.map_err(of_store)?;
            names.extend(page.iter().map(|invoice| invoice_path(invoice.id)));
            after = page.last().map(|invoice| invoice.id);
            if page.len() < PAGE {
                break;
            }
        }
        let mut after: Option<String> = None;
        while let Some((digest, _)) = self.policies.bundle(org, after.as_deref()).await? {
            names.push(policies_path(&digest));
            after = Some(digest);
        }
        Ok(names)
    }

    async fn read(&self, org: OrgId, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match Attached::named(name) {
            Some(Attached::Invoice(id)) => {
                let invoice = self.meter.invoice(org, id).await.map_err(of_store)?;
                invoice.map(|it| canonical("invoice", &it)).transpose()
            }
            Some(Attached::Policies(digest)) => {
                let files = self.policies.kept(org, digest).await?;
                let files = files.as_ref().map(|files| files.files());
                files.map(|it| canonical("policies", it)).transpose()
            }
            None => Ok(None),
        }
    }

    fn referred(&self, record: &Value) -> Option<String> {
        refers_to(record)
    }
}

fn canonical(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    canonical_json(value).map_err(|error| StoreError::Corrupt {
        what,
        source: Box::new(error),
    })
}

/// Reading invoices fails where they are stored, and nowhere else.
fn of_store(error: MeteringError) -> StoreError {
    match error {
        MeteringError::Store(error) => error,
        other => StoreError::Corrupt {
            what: "invoice",
            source: Box::new(other),
        },
    }
}
