//! Tokens, verified for the first time and found again; what a million agents change.

mod scale;
mod verify;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use creto_crypto::{AwsLcProvider, Keystore, LocalKeystore, RootKey};
use creto_nhi::test_util::{name, rights};
use creto_nhi::{DelegationRequest, LinkId, Nhi, NhiConfig, NhiStore, PrincipalType};
use creto_types::{
    Clock, Commit, Evidence, IdSource, OrgId, PrincipalName, SystemClock, SystemIds, SystemRandom,
    Timestamp,
};

use crate::report::Report;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long what is made here holds.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const OWNER: &str = "owner";

pub(crate) fn run(report: &mut Report) -> Outcome {
    verify::run(report)?;
    scale::run(report)
}

/// Identities on a store, with the real clock and the algorithms that are the default.
struct Identities {
    nhi: Arc<Nhi>,
    store: Arc<dyn NhiStore>,
    clock: Arc<dyn Clock>,
    org: OrgId,
}

impl Identities {
    /// One organization on an empty store.
    async fn new(store: Arc<dyn NhiStore>) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let nhi = open(&store, &clock).await?;
        let draft = nhi.draft_organization("Bench", name(OWNER))?;
        let org = draft.organization().id;
        let commit = record(org, "organization.created");
        nhi.commit_organization(draft, commit).await?;
        Ok(Self {
            nhi,
            store,
            clock,
            org,
        })
    }

    /// As after a restart: nothing is verified yet.
    async fn restart(&mut self) -> Outcome {
        self.nhi = open(&self.store, &self.clock).await?;
        Ok(())
    }

    async fn agent(&self, agent: PrincipalName) -> Outcome {
        let draft = self
            .nhi
            .draft_principal(self.org, agent, PrincipalType::Agent)?;
        let commit = record(self.org, "principal.created");
        self.nhi.commit_principal(draft, commit).await?;
        Ok(())
    }

    async fn delegate(
        &self,
        delegator: PrincipalName,
        delegatee: PrincipalName,
        parent: Option<LinkId>,
    ) -> Outcome<LinkId> {
        let request = DelegationRequest {
            delegator,
            delegatee,
            parent,
            rights: rights(&[("*", "*")]),
            not_before: None,
            expires_at: match parent.and_then(|id| self.nhi.link(self.org, id)) {
                Some(parent) => parent.signed.link.expires_at,
                None => self.clock.now().checked_add(DAY)?,
            },
            max_depth: None,
            budget: None,
        };
        let signed = self.nhi.draft_delegation(self.org, request)?;
        let id = signed.link.id;
        let commit = record(self.org, "delegation.granted");
        self.nhi.commit_delegation(signed, commit).await?;
        Ok(id)
    }

    fn token(&self, link: LinkId) -> Outcome<String> {
        let identity = self.nhi.identity_for_link(self.org, link)?;
        Ok(self.nhi.issue_token(&identity, None)?.token)
    }
}

async fn open(store: &Arc<dyn NhiStore>, clock: &Arc<dyn Clock>) -> Outcome<Arc<Nhi>> {
    let provider = Arc::new(AwsLcProvider::new(Arc::new(SystemRandom)));
    let root = RootKey::from_hex(&"7".repeat(64))?;
    let keystore: Arc<dyn Keystore> = Arc::new(LocalKeystore::new(root, provider.clone()));
    let ids: Arc<dyn IdSource> =
        Arc::new(SystemIds::new(Arc::clone(clock), Arc::new(SystemRandom)));
    let config = NhiConfig::new("bench.example");
    let store = Arc::clone(store);
    Ok(Nhi::open(store, provider, keystore, ids, Arc::clone(clock), config).await?)
}

/// A record of the size that such records have.
fn record(org: OrgId, kind: &str) -> Commit {
    Commit::of(Evidence {
        org,
        kind: kind.to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: name(OWNER),
        action_id: None,
        body: serde_json::json!({ "reason": "x".repeat(256) }),
    })
}
