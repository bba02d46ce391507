//! Secrets: put there, leased down a chain, and read by whom they were leased to.

use std::collections::BTreeSet;
use std::fmt;

use creto_crypto::Secret;
use creto_errors::Classify as _;
use creto_nhi::{HandOver, LeaseId, LinkId, SecretName, StoredLease, StoredSecret};
use creto_types::{ActionId, Commit, LeafIndex, OrgId, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::answers::Answer;
use crate::delegation::link_id;
use crate::idempotency::Begun;
use crate::{
    ActionAnswer, ActionRequest, Call, Caller, GovernError, Governor, GrantText, IdempotencyKey,
    OutcomeKind,
};

/// The action that policies decide when an agent reads a secret.
const READ: &str = "secret.read";

/// When an agent puts one.
const PUT: &str = "secret.put";

/// When an agent leases one that it put.
const LEASE: &str = "secret.lease";

/// How many secrets or leases are in memory at once while they are looked through: some may
/// be as large as a value may be.
const AT_ONCE: usize = 64;

/// The value of a secret on its way in or out: wiped when dropped, not shown by
/// `Debug`.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub struct SecretValue(#[schemars(with = "String")] Secret);

impl SecretValue {
    /// The value.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Every value came in as text.
        let text = std::str::from_utf8(self.0.expose())
            .map_err(|_| serde::ser::Error::custom("a secret that is not text"))?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::hidden::text(deserializer)?;
        Ok(Self(Secret::new(text.into_bytes())))
    }
}

/// A secret, or a new version of one that is the caller's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`, the first a letter or a digit.
    pub name: String,
    /// Its value: text of 1 to 16,384 bytes.
    pub value: SecretValue,
}

/// Whose a secret is to be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOverRequest {
    /// The name of a person or of an agent.
    pub to: String,
}

/// Whose a secret is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandOverAnswer {
    /// Which secret.
    pub secret: String,
    /// Whose it was.
    pub from: PrincipalName,
    /// Whose it is.
    pub to: PrincipalName,
    /// Since when.
    pub at: Timestamp,
    /// Where that lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for HandOverAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// To whom a secret is leased.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The delegation by which it is to be read; the caller stands above it.
    pub delegation: String,
    /// Until when, exclusive; at most, and if absent, as long as the delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A secret is to be read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReadRequest {
    /// The single-use grant of an approved oversight request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantText>,
}

/// What is told of a secret: all but its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretAnswer {
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub version: u32,
    /// Who put that version there.
    pub put_by: PrincipalName,
    /// When.
    pub put_at: Timestamp,
    /// Whose the secret is: only they put further versions and lease it.
    pub owner: PrincipalName,
    /// Where that lies in the log; when it is put.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl From<&StoredSecret> for SecretAnswer {
    fn from(secret: &StoredSecret) -> Self {
        Self {
            name: secret.name.to_string(),
            version: secret.version,
            put_by: secret.put_by.clone(),
            put_at: secret.put_at,
            owner: secret.owner.clone(),
            leaf: None,
        }
    }
}

/// A lease of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseAnswer {
    /// Its id.
    pub id: String,
    /// Which secret.
    pub secret: String,
    /// By which delegation it is read.
    pub delegation: String,
    /// Who acts by that.
    pub agent: PrincipalName,
    /// Since when.
    pub given_at: Timestamp,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
    /// Where the change lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl From<&StoredLease> for LeaseAnswer {
    fn from(lease: &StoredLease) -> Self {
        Self {
            id: lease.id.to_string(),
            secret: lease.secret.to_string(),
            delegation: lease.link.to_string(),
            agent: lease.agent.clone(),
            given_at: lease.given_at,
            expires_at: lease.expires_at,
            revoked_at: lease.ended_at,
            leaf: None,
        }
    }
}

impl Answer for LeaseAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// The answer to a reading: the decision, and the value when that allows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretReading {
    /// What was decided. An allowed reading is settled already.
    pub decision: ActionAnswer,
    /// The secret's name.
    pub name: String,
    /// Which version was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretValue>,
    /// Until when the lease holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where the reading lies in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf: Option<LeafIndex>,
}

fn secret_name(text: &str) -> Result<SecretName, GovernError> {
    text.parse::<SecretName>()
        .map_err(|error| GovernError::invalid("name", error.to_string()))
}

const NO_SECRET: GovernError = GovernError::NotFound { what: "secret" };

impl Governor {
    /// Puts a secret there, or a new version of one that is the caller's. For
    /// people, and for agents whose policies permit `secret.put` at once.
    ///
    /// It takes no idempotency key: a digest of a request that holds the value would
    /// help to guess it. Repeated, it is one more version.
    ///
    /// # Errors
    ///
    /// `forbidden` when the secret is somebody else's, or policies do not permit it;
    /// `invalid_request` for a name, `invalid_identity_request` for a value that cannot
    /// be used; `conflict` when another version came first.
    pub async fn put_secret(
        &self,
        caller: &Caller,
        request: SecretRequest,
    ) -> Result<SecretAnswer, GovernError> {
        caller.may(Call::PutSecret, self.now())?;
        self.admit(caller)?;
        let name = secret_name(&request.name)?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let before = nhi.secret(org, &name).await?;
        if let Some(row) = before.as_ref().filter(|row| !row.is_of(caller.identity())) {
            let whose = match &row.root {
                Some(root) if row.owner == *caller.name() => format!("for {root} alone"),
                _ => "somebody else's".to_owned(),
            };
            return Err(GovernError::forbidden(format!(
                "the secret `{name}` is {whose}; an owner may hand it over"
            )));
        }
        let version = before.map_or(0, |row| row.version).saturating_add(1);
        let (by, value) = (caller.identity(), request.value.secret());
        let secret = nhi.draft_secret(by, name.clone(), version, value)?;
        drop(request);
        let action = self.permitted(caller, PUT, &name).await?;
        let body = match caller.link() {
            Some(link) => json!({ "secret": name, "version": version, "delegation": link }),
            None => json!({ "secret": name, "version": version }),
        };
        let evidence = self
            .record(org, caller.name(), "secret.put", action, &body)
            .await?;
        let mut answer = SecretAnswer::from(&secret);
        let committed = nhi.commit_secret(secret, Commit::of(evidence)).await;
        self.close(caller, action, committed.is_ok()).await;
        answer.leaf = self.committed(org, &committed?);
        Ok(answer)
    }

    /// Makes a secret somebody else's, whoever's it is: so that whoever leaves takes none
    /// along. Once this returns, who had it puts no version and gives no lease; leases that
    /// were given are good where whose it is now stands in the reader's chain, and give nothing
    /// elsewhere. Nobody learns the value by it. For the owner.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents and other roles, `not_found` for a secret or a principal that is
    /// not there, `invalid_request` for one whose it is already, `conflict` when it was handed
    /// over meanwhile or who is to get it was revoked.
    pub async fn hand_over_secret(
        &self,
        caller: &Caller,
        name: &str,
        request: HandOverRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<HandOverAnswer, GovernError> {
        caller.may(Call::HandOverSecret, self.now())?;
        caller.require_person("hand a secret over")?;
        let name = secret_name(name)?;
        let to: PrincipalName = request
            .to
            .parse()
            .map_err(|_| GovernError::invalid("to", "the name of a principal is expected"))?;
        let operation = "secret.hand_over";
        let ticket = match self.begin(caller, key, operation, &(&name, &to)).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let secret = nhi.secret(org, &name).await?.ok_or(NO_SECRET)?;
        let Some(standing) = nhi.standing(org, &to) else {
            return Err(GovernError::NotFound { what: "principal" });
        };
        let has_a_use = standing
            .role()
            .is_none_or(|role| Call::PutSecret.allows(role));
        if standing.is_suspended() || !has_a_use {
            let why = format!("{to} could neither put a new version nor lease it");
            return Err(GovernError::invalid("to", why));
        }
        let from = secret.owner;
        if from == to {
            let why = format!("the secret `{name}` is {to}'s already");
            return Err(GovernError::invalid("to", why));
        }
        let body = json!({ "secret": name, "from": from, "to": to });
        let evidence = self
            .record(org, caller.name(), "secret.handed_over", None, &body)
            .await?;
        let answer = HandOverAnswer {
            secret: name.to_string(),
            from: from.clone(),
            to: to.clone(),
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let change = HandOver {
            org,
            secret: name,
            from,
            to,
        };
        let committed = nhi.hand_over_secret(change, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Secrets with a name greater than `after`, without their values: people see all,
    /// an agent its own and those that are leased to it now.
    pub async fn secrets(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SecretAnswer>, GovernError> {
        let now = self.now();
        caller.may(Call::ListSecrets, now)?;
        let org = caller.org();
        let mut leased = BTreeSet::new();
        if let Some(link) = caller.link() {
            self.each_lease(org, Some(link), None, |lease| {
                if lease.holds(now) {
                    leased.insert(lease.secret);
                }
                true
            })
            .await?;
        }
        let visible = |secret: &StoredSecret| {
            let leased = || leased.contains(&secret.name) && secret.reaches(caller.identity());
            caller.is_human() || secret.is_of(caller.identity()) || leased()
        };
        let after = after.map(secret_name).transpose()?;
        let mut found = Vec::new();
        self.each_secret(org, after, |secret| {
            if visible(&secret) && found.len() < limit {
                found.push(SecretAnswer::from(&secret));
            }
            found.len() < limit
        })
        .await?;
        Ok(found)
    }

    /// Shows the newest version of each secret, by name, as [`Self::each_lease`] does.
    async fn each_secret(
        &self,
        org: OrgId,
        mut after: Option<SecretName>,
        mut see: impl FnMut(StoredSecret) -> bool,
    ) -> Result<(), GovernError> {
        loop {
            let page = self.parts.nhi.newest_secrets(org, after, AT_ONCE).await?;
            let last = page.len() < AT_ONCE;
            after = page.last().map(|secret| secret.name.clone());
            for secret in page {
                if !see(secret) {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Shows leases one after the other, a page of them in memory, until there are no more or
    /// it was enough.
    async fn each_lease(
        &self,
        org: OrgId,
        link: Option<LinkId>,
        mut after: Option<LeaseId>,
        mut see: impl FnMut(StoredLease) -> bool,
    ) -> Result<(), GovernError> {
        loop {
            let page = self.parts.nhi.leases(org, link, after, AT_ONCE).await?;
            let last = page.len() < AT_ONCE;
            for lease in page {
                after = Some(lease.id);
                if !see(lease) {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Leases a secret of the caller's to an agent below it. For people, and for
    /// agents whose policies permit `secret.lease` at once.
    ///
    /// # Errors
    ///
    /// `not_found` for a secret that is not the caller's; `forbidden` for a
    /// delegation that is not below the caller; what makes its chain dead.
    pub async fn lease_secret(
        &self,
        caller: &Caller,
        name: &str,
        request: LeaseRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<LeaseAnswer, GovernError> {
        caller.may(Call::LeaseSecret, self.now())?;
        self.admit(caller)?;
        let name = secret_name(name)?;
        let operation = "secret.lease";
        let ticket = match self
            .begin(caller, key, operation, &(&name, &request))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let secret = nhi.secret(org, &name).await?;
        if secret.is_none_or(|secret| !secret.is_of(caller.identity())) {
            return Err(NO_SECRET);
        }
        let link = link_id("delegation", &request.delegation)?;
        let reader = nhi.identity_for_link(org, link)?;
        let now = self.now();
        reader.live(now)?;
        // A person stands above what it delegated, an agent above what is below the
        // link it acts by.
        let below = reader.hops.iter().any(|hop| match caller.link() {
            None => hop.link.delegator == *caller.name(),
            Some(own) => hop.link.parent == Some(own),
        });
        if !below {
            return Err(GovernError::forbidden(format!(
                "the delegation {link} is not below {}",
                caller.name()
            )));
        }
        let latest = reader.hops.iter().map(|hop| hop.link.expires_at).min();
        let latest = latest.unwrap_or(now);
        let expires_at = request.expires_at.unwrap_or(latest);
        if expires_at <= now || expires_at > latest {
            return Err(GovernError::invalid(
                "expires_at",
                format!("must be later than now and no later than {latest}"),
            ));
        }
        let action = self.permitted(caller, LEASE, &name).await?;
        let id: LeaseId = self.parts.ids.next();
        let body = json!({
            "lease": id,
            "secret": name,
            "delegation": link,
            "agent": reader.name,
            "expires_at": expires_at,
        });
        let evidence = self
            .record(org, caller.name(), "secret.leased", action, &body)
            .await?;
        let lease = StoredLease {
            id,
            org,
            secret: name,
            link,
            agent: reader.name.clone(),
            given_at: evidence.at,
            expires_at,
            ended_at: None,
        };
        let answer = LeaseAnswer::from(&lease);
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.commit_lease(lease, caller.name().clone(), commit).await;
        self.close(caller, action, committed.is_ok()).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Leases with an id greater than `after`: people see all, an agent those that are
    /// its own and those of secrets that are its own.
    pub async fn leases(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LeaseAnswer>, GovernError> {
        caller.may(Call::ListLeases, self.now())?;
        let org = caller.org();
        let mut own = BTreeSet::new();
        if !caller.is_human() {
            self.each_secret(org, None, |secret| {
                if secret.is_of(caller.identity()) {
                    own.insert(secret.name);
                }
                true
            })
            .await?;
        }
        let after = after.map(lease_id).transpose()?;
        let mut found = Vec::new();
        self.each_lease(org, None, after, |lease| {
            let visible = caller.is_human()
                || Some(lease.link) == caller.link()
                || own.contains(&lease.secret);
            if visible && found.len() < limit {
                found.push(LeaseAnswer::from(&lease));
            }
            found.len() < limit
        })
        .await?;
        Ok(found)
    }

    /// Takes a lease back: once this returns, nothing is read by it. For people, and
    /// for the agent whose the secret is.
    ///
    /// # Errors
    ///
    /// `not_found` for a lease that the caller did not give, `conflict` when it was
    /// taken back before.
    pub async fn revoke_lease(
        &self,
        caller: &Caller,
        id: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<LeaseAnswer, GovernError> {
        caller.may(Call::RevokeLease, self.now())?;
        self.admit(caller)?;
        let id = lease_id(id)?;
        let ticket = match self.begin(caller, key, "secret.lease.revoke", &id).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let missing = || GovernError::NotFound { what: "lease" };
        let lease = nhi.lease(org, id).await?.ok_or_else(missing)?;
        if !caller.is_human() {
            let secret = nhi.secret(org, &lease.secret).await?;
            if secret.is_none_or(|secret| !secret.is_of(caller.identity())) {
                return Err(missing());
            }
        }
        let body = json!({
            "lease": id,
            "secret": lease.secret,
            "delegation": lease.link,
        });
        let evidence = self
            .record(org, caller.name(), "secret.lease_revoked", None, &body)
            .await?;
        let at = evidence.at;
        let mut answer = LeaseAnswer::from(&lease);
        answer.revoked_at = Some(at);
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.end_lease(org, id, at, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Reads a secret by a lease to the very delegation the caller acts under, when whose it
    /// is stands in the caller's chain, and policies permit `secret.read` of
    /// `secret:<name>`. The evidence is durable before the value is returned. A decision that
    /// does not allow it is an answer.
    ///
    /// # Errors
    ///
    /// `forbidden` to people, `not_found` without a lease that holds, of which a
    /// `secret.refused` tells.
    pub async fn read_secret(
        &self,
        caller: &Caller,
        name: &str,
        request: SecretReadRequest,
    ) -> Result<SecretReading, GovernError> {
        let now = self.now();
        caller.may(Call::ReadSecret, now)?;
        let name = secret_name(name)?;
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let Some(link) = caller.link() else {
            return Err(GovernError::forbidden(
                "a secret is read by the agent that it is leased to",
            ));
        };
        let mut lease: Option<StoredLease> = None;
        self.each_lease(org, Some(link), None, |given| {
            let longer = |than: &StoredLease| given.expires_at >= than.expires_at;
            if given.secret == name && given.holds(now) && lease.as_ref().is_none_or(longer) {
                lease = Some(given);
            }
            true
        })
        .await?;
        let secret = nhi.secret(org, &name).await?;
        let secret = secret.filter(|secret| secret.reaches(caller.identity()));
        let (Some(lease), Some(secret)) = (lease, secret) else {
            // What costs a record is bounded by how often its actor may ask.
            self.admit(caller)?;
            let body = json!({ "secret": name, "delegation": link, "code": NO_SECRET.code() });
            let evidence = self
                .record(org, caller.name(), "secret.refused", None, &body)
                .await?;
            let receipt = self.commit(Commit::of(evidence)).await?;
            self.committed(org, &receipt);
            return Err(NO_SECRET);
        };
        let decision = self
            .submit(caller, asked(READ, &name, request.grant), None)
            .await?;
        let mut reading = SecretReading {
            name: name.to_string(),
            version: None,
            value: None,
            expires_at: None,
            leaf: None,
            decision,
        };
        if reading.decision.outcome != OutcomeKind::Allow {
            return Ok(reading);
        }
        let action = reading.decision.action_id;
        let body = json!({
            "lease": lease.id,
            "secret": name,
            "version": secret.version,
            "delegation": link,
        });
        let evidence = self
            .record(org, caller.name(), "secret.read", Some(action), &body)
            .await?;
        let at = evidence.at;
        let used = nhi
            .use_lease(&secret, lease.id, at, Commit::of(evidence))
            .await;
        self.close(caller, Some(action), used.is_ok()).await;
        let (receipt, value) = used?;
        // What ended while this was written is not outrun.
        caller.may(Call::ReadSecret, self.now())?;
        reading.leaf = self.committed(org, &receipt);
        reading.version = Some(secret.version);
        reading.expires_at = Some(lease.expires_at);
        reading.value = Some(SecretValue(value));
        Ok(reading)
    }

    /// What policies say of an agent's change; people act in person.
    async fn permitted(
        &self,
        caller: &Caller,
        action: &str,
        name: &SecretName,
    ) -> Result<Option<ActionId>, GovernError> {
        if caller.is_human() {
            return Ok(None);
        }
        let answer = self.submit(caller, asked(action, name, None), None).await?;
        match answer.outcome {
            OutcomeKind::Allow => Ok(Some(answer.action_id)),
            _ => Err(GovernError::forbidden(format!(
                "{action} of secret:{name} was not allowed: {} ({})",
                answer.reason.message, answer.reason.code
            ))),
        }
    }

    /// Settles what was done, or gives the reservation back.
    ///
    /// What was done is durable, and what was not is refused for its own reason: neither is
    /// answered otherwise because this fails. The reservation is then closed when it is due.
    pub(crate) async fn close(&self, caller: &Caller, action: Option<ActionId>, done: bool) {
        let Some(action) = action else { return };
        let closed = match done {
            true => self.settle_admitted(caller, action, 1, None).await,
            false => self.release_admitted(caller, action, None).await,
        };
        if let Err(error) = closed {
            tracing::warn!(
                action_id = %action,
                code = error.code(),
                error = creto_errors::chain(&error),
                "a reservation stays open until it is due"
            );
        }
    }
}

fn asked(action: &str, name: &SecretName, grant: Option<GrantText>) -> ActionRequest {
    ActionRequest {
        action: action.to_owned(),
        resource: format!("secret:{name}").as_str().into(),
        context: std::collections::BTreeMap::new(),
        args: Value::Null,
        units: 1,
        grant,
    }
}

fn lease_id(text: &str) -> Result<LeaseId, GovernError> {
    text.parse()
        .map_err(|_| GovernError::invalid("id", "the id of a lease is expected"))
}
