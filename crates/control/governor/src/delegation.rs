//! Principals, delegations and tokens.

use std::sync::Arc;
use std::time::Duration;

use creto_errors::{Class, Classify as _};
use creto_nhi::{
    Budget, BudgetPeriod, DelegationRequest, LinkId, LinkView, Pattern, PrincipalType, Right,
};
use creto_types::{Commit, PrincipalName, Quantity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::caller::Origin;
use crate::idempotency::{Begun, Ticket};
use crate::proofs::thumbprint;
use crate::records::{DelegationRefused, TOKEN_ISSUED, TokenIssued};
use crate::{
    BudgetAnswer, Call, Caller, DelegationAnswer, DelegationState, GovernError, Governor,
    IdempotencyKey, PrincipalAnswer, RevocationAnswer, RightAnswer, TokenAnswer,
};

/// A principal to add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRequest {
    /// Unique in the organization.
    pub name: PrincipalName,
    /// `agent`; people are added with a role.
    #[serde(default = "agent")]
    pub kind: String,
}

fn agent() -> String {
    "agent".to_owned()
}

/// The most a delegation may spend, or how many units it may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRequest {
    /// The limit.
    pub limit: Quantity,
    /// `total`, `month`, `day` or `hour`; `total` when absent.
    #[serde(default = "total")]
    pub period: String,
}

fn total() -> String {
    BudgetPeriod::Total.to_string()
}

/// A delegation to grant. The delegator is the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelegateRequest {
    /// To whom.
    pub delegatee: PrincipalName,
    /// The link the caller holds; an agent's own when absent.
    #[serde(default)]
    pub parent: Option<String>,
    /// What; each right within one of the parent's.
    pub rights: Vec<RightAnswer>,
    /// From when; now when absent.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Until when; not after the parent's.
    pub expires_at: Timestamp,
    /// How many further delegations may hang below; all that the parent leaves
    /// when absent.
    #[serde(default)]
    pub max_depth: Option<u8>,
    /// The most it may spend or use; at most the parent's of the same measure.
    #[serde(default)]
    pub budget: Option<BudgetRequest>,
}

/// A token to issue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The link the token acts under; absent for the caller's own credential, if
    /// the caller is a person.
    #[serde(default)]
    pub delegation: Option<String>,
    /// How long it is valid; the configured time when absent.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The instance of the agent that acts by it; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The SHA-256 thumbprint (RFC 7638) of the key that it is bound to; whoever uses it
    /// then proves to have that key (RFC 9449). Absent, it is a bearer token, but a
    /// person who renews a bound credential gets one bound to the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
}

impl Governor {
    /// Adds an agent to the organization.
    pub async fn create_principal(
        &self,
        caller: &Caller,
        request: PrincipalRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<PrincipalAnswer, GovernError> {
        caller.may(Call::CreatePrincipal, self.now())?;
        caller.require_person("add principals")?;
        if request.kind != agent() {
            return Err(GovernError::invalid(
                "kind",
                "only agents are added so; people are added with a role",
            ));
        }
        let ticket = match self
            .begin(caller, key, "principal.create", &request)
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let nhi = &self.parts.nhi;
        let draft = nhi.draft_principal(caller.org(), request.name, PrincipalType::Agent)?;
        let answer = principal_answer(draft.principal(), None);
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "principal.created",
                None,
                draft.principal(),
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.commit_principal(draft, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// The organization's principals after `after`, by name.
    pub fn principals(
        &self,
        caller: &Caller,
        after: Option<&PrincipalName>,
        limit: usize,
    ) -> Result<Vec<PrincipalAnswer>, GovernError> {
        caller.may(Call::ListPrincipals, self.now())?;
        caller.require_person("list principals")?;
        let principals = self.parts.nhi.principals(caller.org(), after, limit);
        Ok(principals
            .iter()
            .map(|principal| {
                let standing = self.parts.nhi.standing(principal.org, &principal.name);
                principal_answer(principal, standing.as_deref())
            })
            .collect())
    }

    /// Delegates from the caller, signed with the caller's key. What the caller
    /// does not have it cannot give; that it tried is on record.
    pub async fn delegate(
        &self,
        caller: &Caller,
        request: DelegateRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<DelegationAnswer, GovernError> {
        caller.may(Call::Delegate, self.now())?;
        self.admit(caller)?;
        let ticket = match self
            .begin(caller, key, "delegation.grant", &request)
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let parent = match &request.parent {
            Some(text) => Some(link_id("parent", text)?),
            None => caller.link(),
        };
        let delegatee = request.delegatee.clone();
        match self.grant(caller, request, parent, &ticket).await {
            Err(error) if error.class() == Class::Security => {
                let refused = DelegationRefused::of(delegatee, parent, &error);
                self.record_refused(caller, &refused).await?;
                Err(error)
            }
            granted => granted,
        }
    }

    async fn grant(
        &self,
        caller: &Caller,
        request: DelegateRequest,
        parent: Option<LinkId>,
        ticket: &Ticket,
    ) -> Result<DelegationAnswer, GovernError> {
        if !caller.is_human() && parent != caller.link() {
            return Err(GovernError::forbidden(
                "an agent delegates from the delegation it acts under only",
            ));
        }
        let budget = request.budget.map(budget).transpose()?;
        if let Some(budget) = budget {
            self.can_count(&budget)?;
        }
        let nhi = &self.parts.nhi;
        nhi.settle_keys(caller.org(), caller.name()).await?;
        let link = nhi.draft_delegation(
            caller.org(),
            DelegationRequest {
                delegator: caller.name().clone(),
                delegatee: request.delegatee,
                parent,
                rights: rights(&request.rights)?,
                not_before: request.not_before,
                expires_at: request.expires_at,
                max_depth: request.max_depth,
                budget,
            },
        )?;
        let answer = delegation_answer(&link.link, DelegationState::Active);
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "delegation.granted",
                None,
                &link,
            )
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.commit_delegation(link, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Who reaches for more than it holds leaves a record, as often as it may ask: an
    /// agent was heard before, a person's asking has no other bound.
    async fn record_refused(
        &self,
        caller: &Caller,
        refused: &DelegationRefused,
    ) -> Result<(), GovernError> {
        let (org, name) = (caller.org(), caller.name());
        if caller.is_human() && self.parts.meter.admit(org, name).is_err() {
            return Ok(());
        }
        let evidence = self
            .record(org, name, "delegation.refused", None, refused)
            .await?;
        let receipt = self.commit(Commit::of(evidence)).await?;
        self.committed(org, &receipt);
        Ok(())
    }

    /// Refuses a budget under which nothing could ever be done, or that a counter
    /// would take for a smaller one.
    fn can_count(&self, budget: &Budget) -> Result<(), GovernError> {
        if !budget.is_exact() {
            return Err(GovernError::invalid(
                "budget.limit",
                format!("at most {} decimal places are expected", Budget::MAX_PLACES),
            ));
        }
        let currency = self.parts.meter.prices().currency();
        match budget.limit {
            Quantity::Money(limit) if limit.currency() != currency => Err(GovernError::invalid(
                "budget.limit",
                format!("the ledger counts in {currency}, so nothing could be spent of it"),
            )),
            Quantity::Money(_) | Quantity::Units(_) => Ok(()),
        }
    }

    /// One delegation. An agent sees those of its own chain and below it.
    pub fn delegation(&self, caller: &Caller, id: &str) -> Result<DelegationAnswer, GovernError> {
        caller.may(Call::GetDelegation, self.now())?;
        let view = self.visible_link(caller, link_id("id", id)?)?;
        Ok(self.view_answer(&view))
    }

    /// The organization's delegations after `after`, oldest first.
    pub fn delegations(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DelegationAnswer>, GovernError> {
        caller.may(Call::ListDelegations, self.now())?;
        caller.require_person("list delegations")?;
        let after = after.map(|text| link_id("after", text)).transpose()?;
        let views = self.parts.nhi.links(caller.org(), after, limit);
        Ok(views.iter().map(|view| self.view_answer(view)).collect())
    }

    /// Revokes a delegation and with it everything below. Once this returns, no
    /// call that starts later is allowed through it.
    pub async fn revoke(
        &self,
        caller: &Caller,
        id: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<RevocationAnswer, GovernError> {
        caller.may(Call::RevokeDelegation, self.now())?;
        self.admit(caller)?;
        let ticket = match self.begin(caller, key, "delegation.revoke", &id).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let link = link_id("id", id)?;
        let view = self.visible_link(caller, link)?;
        let above = caller.is_human() || self.is_below(caller, link)?;
        if !above {
            return Err(GovernError::forbidden(
                "a delegation is revoked by the owner or by an agent above it",
            ));
        }
        let evidence = self
            .record(
                caller.org(),
                caller.name(),
                "delegation.revoked",
                None,
                &json!({ "id": link, "delegatee": view.signed.link.delegatee }),
            )
            .await?;
        let at = evidence.at;
        let answer = RevocationAnswer {
            id: link.to_string(),
            revoked_at: at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = self.parts.nhi.revoke(caller.org(), link, at, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Issues a token for a delegation that the caller gave, or, to the owner,
    /// for any; without a delegation it renews a person's own credential.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        request: TokenRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<TokenAnswer, GovernError> {
        caller.may(Call::IssueToken, self.now())?;
        self.admit(caller)?;
        if let Origin::Sandbox(_) = caller.origin() {
            return Err(GovernError::forbidden(
                "tokens are not issued into sandboxes: a program there needs none, and one \
                 that left it would outlive it",
            ));
        }
        let ticket = match self.begin(caller, key, "token.issue", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let nhi = &self.parts.nhi;
        let key = thumbprint("jkt", request.jkt.as_deref())?;
        let identity = match &request.delegation {
            Some(text) => {
                caller.allowed(Call::IssueAgentToken)?;
                let link = link_id("delegation", text)?;
                let view = self.visible_link(caller, link)?;
                if !caller.is_human() && view.signed.link.delegator != *caller.name() {
                    return Err(GovernError::forbidden(
                        "a token is issued by the owner or by the agent that delegated",
                    ));
                }
                nhi.identity_for_link(caller.org(), link)?
            }
            None => {
                caller.require_person("renew a person's credential")?;
                // The caller's own, with its token: what was superseded makes nothing new.
                Arc::clone(caller.bound().identity())
            }
        };
        identity.live(self.now())?;
        let identity = match &request.instance {
            Some(text) => identity.of_instance(text.parse()?)?.into(),
            None => identity,
        };
        let identity = identity.confirmed_by(key);
        let ttl = request.ttl_seconds.map(Duration::from_secs);
        let issued = nhi.issue_token(&identity, ttl)?;
        let answer = TokenAnswer::of(&identity, &issued);
        let record = TokenIssued::of(&identity, &issued, None);
        let evidence = self
            .record(caller.org(), caller.name(), TOKEN_ISSUED, None, &record)
            .await?;
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        match self.commit(commit).await {
            Ok(receipt) => {
                let leaf = self.committed(caller.org(), &receipt);
                // What ended while this was written is not outrun.
                caller.live(self.now())?;
                Ok(TokenAnswer {
                    token: Some(issued.token),
                    leaf,
                    ..answer
                })
            }
            // The key's first answer; its token was shown then and never stored.
            Err(error) => ticket.finish(answer, Err(error)),
        }
    }

    /// A link that the caller may know of: any for a person; for an agent those of
    /// its chain and those below its own.
    fn visible_link(&self, caller: &Caller, id: LinkId) -> Result<LinkView, GovernError> {
        let missing = GovernError::NotFound { what: "delegation" };
        let Some(view) = self.parts.nhi.link(caller.org(), id) else {
            return Err(missing);
        };
        let in_chain = caller.identity().hops.iter().any(|hop| hop.link.id == id);
        if caller.is_human() || in_chain || self.is_below(caller, id)? {
            Ok(view)
        } else {
            Err(missing)
        }
    }

    /// Whether the link hangs below the caller's own.
    fn is_below(&self, caller: &Caller, id: LinkId) -> Result<bool, GovernError> {
        let Some(own) = caller.link().filter(|own| *own != id) else {
            return Ok(false);
        };
        let chain = self.parts.nhi.chain(caller.org(), id)?;
        Ok(chain.iter().any(|hop| hop.link.id == own))
    }

    fn view_answer(&self, view: &LinkView) -> DelegationAnswer {
        use creto_nhi::IdentityError;
        let link = &view.signed.link;
        let live = self
            .parts
            .nhi
            .identity_for_link(link.org, link.id)
            .map(|identity| identity.live(self.now()));
        let state = match live {
            Ok(Ok(())) => DelegationState::Active,
            Ok(Err(IdentityError::Suspended { .. })) => DelegationState::Suspended,
            Ok(Err(IdentityError::Expired { .. })) => DelegationState::Expired,
            Ok(Err(IdentityError::NotYetValid { .. })) => DelegationState::NotYetValid,
            Ok(Err(_)) | Err(_) => DelegationState::Revoked,
        };
        delegation_answer(link, state)
    }
}

pub(crate) fn link_id(field: &'static str, text: &str) -> Result<LinkId, GovernError> {
    text.parse()
        .map_err(|error: creto_types::IdError| GovernError::invalid(field, error.to_string()))
}

fn rights(given: &[RightAnswer]) -> Result<Vec<Right>, GovernError> {
    let pattern = |text: &str| {
        text.parse::<Pattern>()
            .map_err(|error| GovernError::invalid("rights", error.to_string()))
    };
    given
        .iter()
        .map(|right| {
            Ok(Right {
                action: pattern(&right.action)?,
                resource: pattern(&right.resource)?,
            })
        })
        .collect()
}

fn budget(given: BudgetRequest) -> Result<Budget, GovernError> {
    let period = BudgetPeriod::ALL
        .into_iter()
        .find(|period| period.as_str() == given.period)
        .ok_or_else(|| {
            GovernError::invalid("budget.period", "`total`, `month`, `day` or `hour`")
        })?;
    Ok(Budget {
        limit: given.limit,
        period,
    })
}

fn principal_answer(
    principal: &creto_nhi::Principal,
    standing: Option<&creto_nhi::Standing>,
) -> PrincipalAnswer {
    PrincipalAnswer {
        org: principal.org,
        name: principal.name.clone(),
        kind: principal.kind.to_string(),
        spiffe_id: principal.spiffe_id.clone(),
        created_at: principal.created_at,
        role: standing
            .and_then(creto_nhi::Standing::role)
            .map(|role| role.to_string()),
        revoked: standing.is_some_and(creto_nhi::Standing::is_revoked),
        revoked_at: standing.and_then(creto_nhi::Standing::revoked_at),
        suspended: standing.is_some_and(creto_nhi::Standing::is_suspended),
        suspended_at: standing.and_then(creto_nhi::Standing::suspended_at),
        leaf: None,
    }
}

fn delegation_answer(link: &creto_nhi::DelegationLink, state: DelegationState) -> DelegationAnswer {
    DelegationAnswer {
        id: link.id.to_string(),
        parent: link.parent.map(|parent| parent.to_string()),
        delegator: link.delegator.clone(),
        delegatee: link.delegatee.clone(),
        rights: link
            .rights
            .iter()
            .map(|right| RightAnswer {
                action: right.action.to_string(),
                resource: right.resource.to_string(),
            })
            .collect(),
        not_before: link.not_before,
        expires_at: link.expires_at,
        max_depth: link.max_depth,
        budget: link.budget.as_ref().map(|budget| BudgetAnswer {
            limit: budget.limit,
            period: budget.period.to_string(),
        }),
        state,
        leaf: None,
    }
}
