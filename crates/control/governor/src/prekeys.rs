//! Prekeys: published by agents, and taken by whoever is about to write to them.

use std::collections::BTreeMap;

use creto_nhi::{
    ChosenPrekey, KnownPrincipal, MAX_ONE_TIME_PREKEYS, NewPrekeys, NhiError, Prekey, PrekeyId,
    PrekeyKind, PrekeysLeft, PrincipalType,
};
use creto_types::{ActionId, Commit, LeafIndex, StoreError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answers::Answer;
use crate::idempotency::{Begun, Ticket};
use crate::records::{PrekeyTaken, PrekeysPublished};
use crate::{
    ActionAnswer, ActionRequest, Call, Caller, GovernError, Governor, GrantText, IdempotencyKey,
    OutcomeKind, SignatureValue,
};

/// The action that policies decide when an agent publishes prekeys.
const PUBLISH: &str = "prekey.publish";

/// When somebody takes one.
const TAKE: &str = "prekey.take";

/// How often another prekey is looked for when somebody else was first.
const TAKEN_ANEW: usize = 8;

/// The public half of a key to agree on secrets by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncapsulationKeyValue {
    /// `X-Wing`, `ML-KEM-768` or `ML-KEM-1024`, as far as this server reads them.
    pub alg: String,
    /// Its bytes as unpadded base64url.
    #[serde(rename = "pub")]
    pub public: String,
}

/// Prekeys that the caller has the private halves of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrekeysRequest {
    /// The prekey of last resort from now on. The one there is stays when absent; the
    /// first time there is none, and it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resort: Option<EncapsulationKeyValue>,
    /// Those that serve once: added to what is left, 100 in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_time: Vec<EncapsulationKeyValue>,
    /// The single-use grant of an approved oversight request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantText>,
}

/// Which prekeys were published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPrekeys {
    /// The prekey of last resort, when it was replaced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_resort: Option<String>,
    /// Those that serve once, in the order of the request.
    pub one_time: Vec<String>,
}

/// The answer to a publication: the decision, and what was published when that allows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PublishPrekeysAnswer {
    /// What was decided. What is allowed is settled already.
    pub decision: ActionAnswer,
    /// What was published.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub published: Option<PublishedPrekeys>,
    /// Where that lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// A prekey of somebody is to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakePrekeyRequest {
    /// The SPIFFE id of the agent whose it is.
    pub owner: String,
    /// The single-use grant of an approved oversight request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantText>,
}

/// A prekey with its owner's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrekeyAnswer {
    /// The SPIFFE id of the agent that has the private half.
    pub owner: String,
    /// `one_time`: nobody else gets it. `last_resort`: no other was left, and others get
    /// the same.
    pub kind: String,
    /// Its name: the thumbprint of its public half.
    pub id: String,
    /// The public half.
    pub key: EncapsulationKeyValue,
    /// When it was published.
    pub published_at: Timestamp,
    /// The thumbprint of the owner's key that signed it.
    pub kid: String,
    /// Over owner, kind, key and instant.
    pub signature: SignatureValue,
}

impl From<&Prekey> for PrekeyAnswer {
    fn from(prekey: &Prekey) -> Self {
        Self {
            owner: prekey.owner.clone(),
            kind: prekey.kind.to_string(),
            id: prekey.id.to_string(),
            key: EncapsulationKeyValue {
                alg: prekey.key.algorithm().to_string(),
                public: prekey.key.to_base64url(),
            },
            published_at: prekey.published_at,
            kid: prekey.kid.clone(),
            signature: SignatureValue {
                alg: prekey.signature.algorithm().to_string(),
                sig: prekey.signature.to_base64url(),
            },
        }
    }
}

/// The answer to a taking: the decision, and the prekey when that allows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TakePrekeyAnswer {
    /// What was decided. What is allowed is settled already.
    pub decision: ActionAnswer,
    /// The prekey.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prekey: Option<PrekeyAnswer>,
    /// Where the taking lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// What an agent has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrekeysAnswer {
    /// The SPIFFE id of the agent.
    pub owner: String,
    /// How many that serve once.
    pub one_time: usize,
    /// How many of those there may be.
    pub one_time_max: usize,
    /// The prekey of last resort.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_resort: Option<String>,
    /// By which algorithm new prekeys are to be made.
    pub algorithm: String,
    /// By which they may be.
    pub accepted: Vec<String>,
}

impl Answer for PublishPrekeysAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Answer for TakePrekeyAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

const NO_PREKEY: GovernError = GovernError::NotFound { what: "prekey" };

impl Governor {
    /// Publishes prekeys of the caller, signed with its key, when its policies permit
    /// `prekey.publish` of `prekey:<its name>`: all of them or none. A decision that does
    /// not allow it is an answer.
    ///
    /// # Errors
    ///
    /// `forbidden` to people; `invalid_request` for too many, or none of last resort the
    /// first time; what is wrong with a key; `conflict` for one that was published before.
    pub async fn publish_prekeys(
        &self,
        caller: &Caller,
        request: PrekeysRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<PublishPrekeysAnswer, GovernError> {
        caller.may(Call::PublishPrekeys, self.now())?;
        if caller.link().is_none() {
            return Err(GovernError::forbidden(
                "agents publish prekeys of their own",
            ));
        }
        self.admit(caller)?;
        let ticket = match self.begin(caller, key, PUBLISH, &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let new = self.new_prekeys(caller, &request).await?;
        // By their names, so that a grant is for these keys alone.
        let named = |key| Ok(PrekeyId::of(key)?.to_string());
        let one_time = new.one_time.iter().map(named);
        let args = json!({
            "last_resort": new.last_resort.as_ref().map(named).transpose()?,
            "one_time": one_time.collect::<Result<Vec<_>, NhiError>>()?,
        });
        let asked = asked(PUBLISH, caller.name().as_str(), args, request.grant);
        let decision = self.submit(caller, asked, None).await?;
        if decision.outcome != OutcomeKind::Allow {
            return Ok(PublishPrekeysAnswer {
                decision,
                published: None,
                leaf: None,
            });
        }
        let action = decision.action_id;
        let made = self.publish_drafted(caller, decision, new, &ticket).await;
        self.close(caller, Some(action), made.is_ok()).await;
        made
    }

    /// The keys of a request, each of them a key that is new, and no more than fit. All of it
    /// is looked at before the decision: that uses up the grant it came with.
    async fn new_prekeys(
        &self,
        caller: &Caller,
        request: &PrekeysRequest,
    ) -> Result<NewPrekeys, GovernError> {
        let nhi = &self.parts.nhi;
        let left = nhi.prekeys_left(caller.org(), caller.name()).await?;
        let added = request.one_time.len();
        if left.one_time.saturating_add(added) > MAX_ONE_TIME_PREKEYS {
            return Err(GovernError::invalid(
                "one_time",
                format!(
                    "at most {MAX_ONE_TIME_PREKEYS} may wait; {} are left, {added} are given",
                    left.one_time
                ),
            ));
        }
        if request.last_resort.is_none() && left.last_resort.is_none() {
            return Err(GovernError::invalid(
                "last_resort",
                "is needed: there is none yet that is given out",
            ));
        }
        if request.last_resort.is_none() && added == 0 {
            return Err(GovernError::invalid(
                "one_time",
                "there is nothing to publish",
            ));
        }
        let read = |field, given: &EncapsulationKeyValue| {
            nhi.encapsulation_key(field, &given.alg, &given.public)
        };
        let last_resort = request.last_resort.as_ref();
        let one_time = request.one_time.iter();
        let new = NewPrekeys {
            last_resort: last_resort
                .map(|given| read("last_resort", given))
                .transpose()?,
            one_time: one_time
                .map(|given| read("one_time", given))
                .collect::<Result<Vec<_>, NhiError>>()?,
        };
        if nhi.any_prekey_published(caller.org(), new.ids()?).await? {
            return Err(StoreError::Conflict { what: "prekey" }.into());
        }
        Ok(new)
    }

    async fn publish_drafted(
        &self,
        caller: &Caller,
        decision: ActionAnswer,
        new: NewPrekeys,
        ticket: &Ticket,
    ) -> Result<PublishPrekeysAnswer, GovernError> {
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let action: Option<ActionId> = Some(decision.action_id);
        let mut evidence = self
            .record(org, caller.name(), "prekeys.published", action, &())
            .await?;
        nhi.settle_keys(org, caller.name()).await?;
        let draft = nhi
            .draft_prekeys(org, caller.name(), new, evidence.at)
            .await?;
        let of_kind = |kind| {
            let prekeys = draft
                .prekeys()
                .iter()
                .filter(move |prekey| prekey.kind == kind);
            prekeys.map(|prekey| prekey.id.clone())
        };
        let record = PrekeysPublished {
            owner: caller.name().clone(),
            last_resort: of_kind(PrekeyKind::LastResort).next(),
            one_time: of_kind(PrekeyKind::OneTime).collect(),
            withdrawn: draft.withdrawn().to_vec(),
            kid: draft.prekeys().first().map(|prekey| prekey.kid.clone()),
            delegation: caller.link(),
        };
        evidence.body = serde_json::to_value(&record).map_err(GovernError::Encoding)?;
        let answer = PublishPrekeysAnswer {
            decision,
            published: Some(PublishedPrekeys {
                last_resort: record.last_resort.map(String::from),
                one_time: record.one_time.into_iter().map(String::from).collect(),
            }),
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi.commit_prekeys(draft, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// What an agent has left: the caller itself, or, to a person, the one named.
    pub async fn prekeys(
        &self,
        caller: &Caller,
        owner: Option<&str>,
    ) -> Result<PrekeysAnswer, GovernError> {
        caller.may(Call::GetPrekeys, self.now())?;
        self.admit(caller)?;
        let own = &caller.identity().spiffe_id();
        if !caller.is_human() && owner.is_some_and(|owner| owner != own) {
            return Err(GovernError::forbidden(
                "an agent sees what it has left itself",
            ));
        }
        let owner = self.agent(caller, owner.unwrap_or(own))?;
        let nhi = &self.parts.nhi;
        let left = nhi.prekeys_left(caller.org(), &owner.name).await?;
        let algorithms = nhi.prekey_algorithms();
        let accepted = algorithms.accepted().iter();
        Ok(PrekeysAnswer {
            owner: owner.public.spiffe_id,
            one_time: left.one_time,
            one_time_max: MAX_ONE_TIME_PREKEYS,
            last_resort: left.last_resort.map(String::from),
            algorithm: algorithms.for_new().to_string(),
            accepted: accepted.map(ToString::to_string).collect(),
        })
    }

    /// Takes a prekey of an agent, when policies permit the caller `prekey.take` of
    /// `prekey:<the agent's name>`: one that serves once, which nobody else gets, or the
    /// one of last resort when none is left. The evidence, and that it is taken, are
    /// durable before it is returned. A decision that does not allow it is an answer.
    ///
    /// # Errors
    ///
    /// `not_found` for an agent that is not there or has published none,
    /// `prekey_owner_suspended` or `prekey_owner_revoked` for one that is, `forbidden` to
    /// itself.
    pub async fn take_prekey(
        &self,
        caller: &Caller,
        request: TakePrekeyRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<TakePrekeyAnswer, GovernError> {
        caller.may(Call::TakePrekey, self.now())?;
        self.admit(caller)?;
        let ticket = match self.begin(caller, key, TAKE, &request).await? {
            Begun::Replay(answer) => return self.prekey_in_force(caller, &request, answer),
            Begun::Fresh(ticket) => ticket,
        };
        let owner = self.agent(caller, &request.owner)?;
        if owner.name == *caller.name() {
            return Err(GovernError::forbidden("a prekey is taken by somebody else"));
        }
        in_good_standing(&owner)?;
        let nhi = &self.parts.nhi;
        // A grant is not used up for nothing.
        if nhi.prekeys_left(caller.org(), &owner.name).await? == PrekeysLeft::default() {
            return Err(NO_PREKEY);
        }
        let asked = asked(TAKE, owner.name.as_str(), json!({}), request.grant.clone());
        let decision = self.submit(caller, asked, None).await?;
        if decision.outcome != OutcomeKind::Allow {
            return Ok(TakePrekeyAnswer {
                decision,
                prekey: None,
                leaf: None,
            });
        }
        let action = decision.action_id;
        let taken = self.taken(caller, decision, &owner, &ticket).await;
        self.close(caller, Some(action), taken.is_ok()).await;
        let answer = taken?;
        // What ended while this was written is not outrun.
        caller.may(Call::TakePrekey, self.now())?;
        self.prekey_in_force(caller, &request, answer)
    }

    /// What a revoked key signed is not given out, nor repeated.
    fn prekey_in_force(
        &self,
        caller: &Caller,
        request: &TakePrekeyRequest,
        answer: TakePrekeyAnswer,
    ) -> Result<TakePrekeyAnswer, GovernError> {
        if let Some(prekey) = &answer.prekey {
            let owner = self.agent(caller, &request.owner)?;
            let nhi = &self.parts.nhi;
            nhi.signed_in_force(caller.org(), &owner.name, &prekey.kid)?;
        }
        Ok(answer)
    }

    async fn taken(
        &self,
        caller: &Caller,
        decision: ActionAnswer,
        owner: &KnownPrincipal,
        ticket: &Ticket,
    ) -> Result<TakePrekeyAnswer, GovernError> {
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let mut again = 0..TAKEN_ANEW;
        loop {
            let chosen = nhi.choose_prekey(org, &owner.name).await?;
            let chosen = chosen.ok_or(NO_PREKEY)?;
            let taken = self
                .take_chosen(caller, decision.clone(), owner, chosen, ticket)
                .await;
            match taken {
                Err(GovernError::Nhi(NhiError::Store(StoreError::Conflict { what: "prekey" })))
                    if again.next().is_some() => {}
                // Its standing changed since it was looked at.
                Err(GovernError::Nhi(NhiError::Store(StoreError::Conflict {
                    what: "principal",
                }))) if again.next().is_some() => {
                    in_good_standing(&self.agent(caller, &owner.public.spiffe_id)?)?;
                }
                taken => return taken,
            }
        }
    }

    async fn take_chosen(
        &self,
        caller: &Caller,
        decision: ActionAnswer,
        owner: &KnownPrincipal,
        chosen: ChosenPrekey,
        ticket: &Ticket,
    ) -> Result<TakePrekeyAnswer, GovernError> {
        let org = caller.org();
        let prekey = chosen.prekey();
        let record = PrekeyTaken {
            owner: owner.name.clone(),
            id: prekey.id.clone(),
            kind: prekey.kind,
            delegation: caller.link(),
        };
        let action = Some(decision.action_id);
        let evidence = self
            .record(org, caller.name(), "prekey.taken", action, &record)
            .await?;
        let at = evidence.at;
        let answer = TakePrekeyAnswer {
            decision,
            prekey: Some(PrekeyAnswer::from(prekey)),
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let nhi = &self.parts.nhi;
        let taken = nhi.take_prekey(chosen, caller.name(), at, commit).await;
        ticket.finish(
            answer,
            taken
                .map(|(receipt, _)| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// An agent of the caller's organization by its SPIFFE id.
    fn agent(&self, caller: &Caller, spiffe_id: &str) -> Result<KnownPrincipal, GovernError> {
        let known = self.parts.nhi.known_principal(caller.org(), spiffe_id)?;
        let agent = known.filter(|known| known.kind == PrincipalType::Agent);
        agent.ok_or(GovernError::NotFound { what: "agent" })
    }
}

fn in_good_standing(owner: &KnownPrincipal) -> Result<(), GovernError> {
    let name = || owner.name.clone();
    if owner.revoked {
        return Err(GovernError::PrekeyOwnerRevoked { owner: name() });
    }
    if owner.suspended {
        return Err(GovernError::PrekeyOwnerSuspended { owner: name() });
    }
    Ok(())
}

fn asked(action: &str, owner: &str, args: Value, grant: Option<GrantText>) -> ActionRequest {
    ActionRequest {
        action: action.to_owned(),
        resource: format!("prekey:{owner}").as_str().into(),
        context: BTreeMap::new(),
        args,
        units: 1,
        grant,
    }
}
