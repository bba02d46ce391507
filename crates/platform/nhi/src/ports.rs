//! What this crate needs from outside: a durable store, and ways in which people prove who
//! they are.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::{VerifyingKey, WrappedKey, WrappingKey};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, SubjectId, Timestamp};

use crate::{
    AgentIdentity, EpochId, KeyPurpose, KeyVersion, LinkId, NhiError, Organization, PrekeyStore,
    Principal, Role, SecretName, SecretStore, SignedLink, StoredKey,
};

/// An organization with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrganization {
    /// The organization.
    pub organization: Organization,
    /// The human who founded it.
    pub owner: PrincipalName,
    /// One key for each purpose.
    pub keys: Vec<(KeyPurpose, StoredKey)>,
    /// The keys its private keys are wrapped under, oldest first; none where it was
    /// founded before there were any.
    pub wrapping: Vec<WrappingKey>,
    /// The issuers that were replaced and not retired, oldest first.
    pub former_issuers: Vec<FormerIssuer>,
    /// The keys that signed checkpoints of the log before, and sign them besides; both or
    /// none.
    pub former_log_keys: Vec<FormerLogKey>,
}

/// An issuer key that signs no more and whose tokens still hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerIssuer {
    /// The key.
    pub public: VerifyingKey,
    /// When another took its place.
    pub replaced_at: Timestamp,
}

/// A key that signed checkpoints alone, and signs them besides until it is retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerLogKey {
    /// Which of the two.
    pub purpose: KeyPurpose,
    /// The key.
    pub key: StoredKey,
    /// When another took its place.
    pub replaced_at: Timestamp,
}

/// New keys of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRotation {
    /// Whose.
    pub org: OrgId,
    /// The wrapping key of what is stored from now on.
    pub wrapping: WrappingKey,
    /// The key that signs tokens from now on.
    pub issuer: StoredKey,
    /// Since when.
    pub at: Timestamp,
}

/// New keys of an organization's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLogRotation {
    /// Whose.
    pub org: OrgId,
    /// The keys that sign checkpoints and evidence from now on, one for each purpose.
    pub keys: Vec<(KeyPurpose, StoredKey)>,
    /// Since when.
    pub at: Timestamp,
}

/// Whose private key is wrapped anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// The organization's, for a purpose.
    Organization(KeyPurpose),
    /// The organization's: one that signs checkpoints besides.
    FormerLog(KeyPurpose),
    /// A principal's.
    Principal(PrincipalName),
    /// Not a key: the value of this version of a secret.
    Secret(SecretName, u32),
    /// The subject of records of the log, whose payloads are sealed under its key.
    Subject(SubjectId),
}

/// The same private key in another wrapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// Whose.
    pub holder: KeyHolder,
    /// What is stored.
    pub from: WrappedKey,
    /// What takes its place.
    pub to: WrappedKey,
}

/// A principal with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPrincipal {
    /// The principal; its verifying key is the public half of `key`.
    pub principal: Principal,
    /// Its key.
    pub key: StoredKey,
}

/// A link with its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLink {
    /// The link.
    pub signed: SignedLink,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The credentials of a human that were issued before are superseded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEpoch {
    /// The human's organization.
    pub org: OrgId,
    /// Whose credentials.
    pub human: PrincipalName,
    /// The epoch that begins; credentials name it.
    pub epoch: EpochId,
    /// When it began. For people: no token is compared with it.
    pub since: Timestamp,
}

/// A principal is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSuspension {
    /// The principal's organization.
    pub org: OrgId,
    /// Who.
    pub principal: PrincipalName,
    /// Since when.
    pub since: Timestamp,
}

/// A principal was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExpulsion {
    /// The principal's organization.
    pub org: OrgId,
    /// Who.
    pub principal: PrincipalName,
    /// When.
    pub at: Timestamp,
}

/// A key that a principal signed with before, and that its links are still verified by.
/// The wrapped key that the principal has now is bound to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFormerKey {
    /// The principal's organization.
    pub org: OrgId,
    /// Whose.
    pub principal: PrincipalName,
    /// Which of its keys.
    pub version: KeyVersion,
    /// The key.
    pub public: VerifyingKey,
    /// When another took its place.
    pub replaced_at: Timestamp,
}

/// A new key of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeyChange {
    /// The key that it signs with from now on.
    pub key: StoredKey,
    /// The one that it signed with.
    pub former: StoredFormerKey,
}

/// A key of a principal was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeyRevocation {
    /// The principal's organization.
    pub org: OrgId,
    /// Whose key.
    pub principal: PrincipalName,
    /// Which of its keys.
    pub version: KeyVersion,
    /// The thumbprint of that key, by which what else it signed is found.
    pub kid: String,
    /// When.
    pub at: Timestamp,
}

/// A human has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRole {
    /// The human's organization.
    pub org: OrgId,
    /// Who.
    pub human: PrincipalName,
    /// Which.
    pub role: Role,
    /// Since when.
    pub since: Timestamp,
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All organizations.
    pub organizations: Vec<StoredOrganization>,
    /// All principals of all organizations.
    pub principals: Vec<StoredPrincipal>,
    /// All links of all organizations, each after its parent.
    pub links: Vec<StoredLink>,
    /// All epochs of credentials, in the order in which they began: the last one
    /// of a human counts.
    pub epochs: Vec<StoredEpoch>,
    /// Who is suspended, by organization and name.
    pub suspensions: Vec<StoredSuspension>,
    /// The roles of humans, by organization and name; none for the one who founded
    /// the organization, who is its owner.
    pub roles: Vec<StoredRole>,
    /// Who was revoked, by organization and name.
    pub expulsions: Vec<StoredExpulsion>,
    /// The keys that principals signed with before, by organization, name and version.
    pub former_keys: Vec<StoredFormerKey>,
    /// Keys of principals that were revoked, in the same order.
    pub key_revocations: Vec<StoredKeyRevocation>,
}

/// What some of all that is stored is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The organization and its keys: nobody in it.
    Organization(OrgId),
    /// One principal, with its keys, epochs, role, suspension and revocations: no link.
    Principal(OrgId, PrincipalName),
    /// One link.
    Link(OrgId, LinkId),
}

/// Keeps identities.
///
/// Every change becomes durable together with its [`Commit`] or not at all, and
/// is durable when the call returns. What a commit can refuse (a replayed
/// idempotency key, a used claim) changes nothing either. Rows are added, links
/// revoked, suspensions end, roles change, and keys are replaced and wrapped anew; nothing else is
/// ever deleted or altered.
#[async_trait]
pub trait NhiStore: Send + Sync + 'static {
    /// Everything that is stored.
    async fn load(&self) -> Result<Snapshot, StoreError>;

    /// What is stored of one part, of one moment, and nothing else; what is not there is no
    /// error. Of other principals and links nothing is read, however many there are.
    async fn load_part(&self, part: Part) -> Result<Snapshot, StoreError>;

    /// Secrets and leases, which are not part of the snapshot.
    fn secrets(&self) -> &dyn SecretStore;

    /// Prekeys, which are not part of the snapshot.
    fn prekeys(&self) -> &dyn PrekeyStore;

    /// Adds an organization and the human who owns it, the one that it names.
    /// `Conflict` when the id is taken.
    async fn insert_organization(
        &self,
        organization: StoredOrganization,
        owner: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Adds a principal. `Conflict` when the name is taken, or when its key is under a
    /// wrapping key that was retired meanwhile (`what` is then `wrapping key`);
    /// `NotFound` when there is no such organization.
    async fn insert_principal(
        &self,
        principal: StoredPrincipal,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Adds a human together with a role, which is the human's. Refuses what
    /// [`NhiStore::insert_principal`] refuses.
    async fn insert_human(
        &self,
        human: StoredPrincipal,
        role: StoredRole,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Puts a role in the place of the one a human has, if any. `NotFound` when the
    /// organization has no such human.
    async fn set_role(&self, role: StoredRole, commit: Commit) -> Result<Receipt, StoreError>;

    /// Adds a link. `Conflict` when its id is taken, or when a link above it was
    /// revoked, its key or that of a link above it, or a principal of its chain suspended or revoked meanwhile; `NotFound` when the
    /// organization, a principal or the parent is not there.
    async fn insert_link(&self, link: SignedLink, commit: Commit) -> Result<Receipt, StoreError>;

    /// Revokes a link, for ever. `Conflict` when it is revoked already,
    /// `NotFound` when the organization has no such link.
    async fn revoke_link(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Suspends a principal. `Conflict` when it is suspended already (`what` is then
    /// `suspension`) or was revoked (`principal`), `NotFound` when the organization has no
    /// such principal.
    async fn insert_suspension(
        &self,
        suspension: StoredSuspension,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Ends the suspension of a principal. `Conflict` when it is not suspended (`what` is
    /// then `suspension`), was revoked (`principal`), or was erased and something that was
    /// kept of it still is (`erasure`), `NotFound` when the organization
    /// has no such principal.
    async fn end_suspension(
        &self,
        org: OrgId,
        principal: PrincipalName,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Revokes a principal, for ever. `Conflict` when it is revoked already, `NotFound`
    /// when the organization has no such principal.
    async fn insert_expulsion(
        &self,
        expulsion: StoredExpulsion,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Puts a new key in the place of the one a principal has, which is kept as a former
    /// one. `Conflict` with `what` `principal key` when the one that it has is of another
    /// version, `principal` when it was revoked, `wrapping key` when the new one is under a
    /// wrapping key that was retired meanwhile; `NotFound` when the organization has no such
    /// principal.
    async fn replace_key(
        &self,
        change: StoredKeyChange,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Revokes a key of a principal, for ever. `Conflict` when it is revoked already,
    /// `NotFound` when the organization has no such principal, or it no such key.
    async fn revoke_key(
        &self,
        revocation: StoredKeyRevocation,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Adds the evidence of a statement, which this principal signed with the key of this
    /// thumbprint. `Conflict` with `what` `key` when that was revoked, `NotFound` when the
    /// organization has no such principal.
    async fn add_statement(
        &self,
        org: OrgId,
        signer: PrincipalName,
        kid: String,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Begins an epoch of a human's credentials. `Conflict` when its id is taken,
    /// `NotFound` when the organization has no such human.
    async fn insert_epoch(&self, epoch: StoredEpoch, commit: Commit)
    -> Result<Receipt, StoreError>;

    /// Adds a wrapping key and puts the new issuer in the place of the one there is,
    /// which is kept as a former one. `Conflict` when the organization has a wrapping
    /// key of this version or a later one, `NotFound` when there is no such
    /// organization.
    async fn rotate_keys(
        &self,
        rotation: StoredRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Puts keys of the log in the place of those there are, of which those that sign
    /// checkpoints are kept as former ones. `Conflict` when there are former ones,
    /// `NotFound` when there is no such organization.
    async fn rotate_log_keys(
        &self,
        rotation: StoredLogRotation,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Forgets the former keys of the log. `NotFound` when there are none.
    async fn retire_log_keys(&self, org: OrgId, commit: Commit) -> Result<Receipt, StoreError>;

    /// The keys that payloads of the log are sealed under; they are stored with the log,
    /// and wrapped like the others. None where payloads lie elsewhere.
    async fn subject_keys(&self, _org: OrgId) -> Result<Vec<(SubjectId, WrappedKey)>, StoreError> {
        Ok(Vec::new())
    }

    /// Puts keys in another wrapping, all or none. `Conflict` when one is not stored
    /// as told. Changes no authority, so that it needs no evidence.
    async fn rewrap_keys(&self, org: OrgId, keys: Vec<Rewrapped>) -> Result<(), StoreError>;

    /// Forgets the wrapping keys before this version, and the former issuers.
    /// `Conflict` when a key is stored under one of those, or under none although
    /// there is one; `NotFound` when there is no such organization.
    async fn retire_keys(
        &self,
        org: OrgId,
        before_version: u32,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Puts the wrapping keys of every organization under another root key, all or
    /// none. `Conflict` when the organizations have others than these, or when a key
    /// is stored under the root key itself.
    async fn replace_wrapping(
        &self,
        keys: Vec<(OrgId, WrappingKey)>,
        commits: Vec<Commit>,
    ) -> Result<(), StoreError>;
}

/// What a person presents to prove who it is.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The credential, or the answer that only its holder can give.
    pub credential: &'a str,
    /// What an answer has to be to: the text that the login form and a cookie of the browser
    /// repeat. No other site can set or read it, but the browser itself could: a kind whose
    /// answers must not be given twice has to know by itself which texts it was shown.
    pub challenge: &'a str,
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}

/// A kind of credentials of people.
///
/// They are verified once, where a person begins a session. What goes on is the identity,
/// which has to tell by itself when it ends: with the credential, with the next supersession
/// of the person's credentials ([`crate::Nhi::supersede_credentials`]) and with the person's
/// authority. [`crate::Nhi::human_in_person`] makes such ones. The suite that every kind passes
/// is `conformance::human_credentials`.
#[async_trait]
pub trait HumanCredentials: fmt::Debug + Send + Sync {
    /// The name of the kind, which whoever presents one says: `token`.
    fn kind(&self) -> &'static str;

    /// Whose it is: a human, as of now.
    ///
    /// # Errors
    ///
    /// Of class `Security` when it is nobody's or holds no more, and [`NhiError::NotHuman`]
    /// for an agent's. Nothing is found out by asking again.
    async fn verify(&self, presented: Presented<'_>) -> Result<Arc<AgentIdentity>, NhiError>;
}
