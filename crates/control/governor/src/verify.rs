//! What the records of a log say about each other, checked offline: signatures
//! of delegations, authority that only shrinks, limits and policies that follow from
//! those before them, money that adds up.

mod faults;
mod keyring;
mod keys;
mod limits;
mod policies;
mod prekeys;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use creto_audit::{PAYLOADS_EXPIRED, SUBJECT_ERASED};
use creto_crypto::AllowedAlgorithms;
use creto_errors::Classify as _;
use creto_metering::{EventId, Invoice, InvoiceId, InvoiceLine};
use creto_nhi::{LinkId, Principal, PrincipalType, Role, SignedLink, verify_chain, verify_link};
use creto_types::{ActionId, LeafIndex, Money, OrgId, PrincipalName, canonical_json};
use serde::Deserialize;
use serde_json::Value;

use self::faults::{
    Fault, INVOICES, KEYS, PEOPLE, RESUMPTIONS, ROLES, SETTLEMENTS, STRANGERS, STRANGERS_KEYS,
    SUSPENSIONS, Unread, absent,
};
use self::keyring::KeyringRecords;
use self::keys::KeyRecords;
use self::limits::LimitRecords;
use self::policies::PolicyRecords;
use self::prekeys::PrekeyRecords;
use crate::algorithms::ALGORITHMS_CHANGED;
use crate::records::{
    DelegationRefused, EVENT_ORDERED, EventOrdered, InvoiceIssued, OrganizationCreated,
    PrekeyTaken, PrekeysPublished, PrincipalKeyRevoked, PrincipalKeyRotated, RoleSet, UsageSettled,
};

/// Reads the leaves of one log in order and says what does not hold. Trusts
/// nothing but the log itself, so whoever verifies the log has verified this.
#[derive(Default)]
pub struct RecordChecker {
    lists: AllowedAlgorithms,
    /// The roles that each human ever had. One that was taken away counts on: a call
    /// that was under way meanwhile may lie behind the record of that.
    roles: HashMap<PrincipalName, BTreeSet<Role>>,
    owner: Option<PrincipalName>,
    keys: KeyRecords,
    links: HashMap<LinkId, SignedLink>,
    revoked: HashSet<LinkId>,
    suspended: HashSet<PrincipalName>,
    /// Who was revoked, for ever.
    expelled: HashSet<PrincipalName>,
    settled: HashMap<LeafIndex, (ActionId, UsageSettled)>,
    billed: HashSet<EventId>,
    /// Issued invoices whose file was not read yet.
    issued: BTreeMap<InvoiceId, (LeafIndex, InvoiceIssued)>,
    limits: LimitRecords,
    policies: PolicyRecords,
    prekeys: PrekeyRecords,
    keyring: KeyringRecords,
    /// Records that are not there, or could not be judged.
    unread: Unread,
    unchecked: u64,
}

/// What the leaves so far say of whoever caused the next one, and of what it is about.
struct Known<'a> {
    actor: &'a PrincipalName,
    org: Option<OrgId>,
    roles: Option<&'a BTreeSet<Role>>,
    keys: &'a KeyRecords,
    links: &'a HashMap<LinkId, SignedLink>,
}

impl Known<'_> {
    /// Whether the actor is, or was, an owner or operator.
    fn by_operator(&self) -> bool {
        self.roles.is_some_and(|roles| {
            [Role::Owner, Role::Operator]
                .iter()
                .any(|role| roles.contains(role))
        })
    }

    fn operator_only(&self, what: &str) -> Result<(), Fault> {
        if self.by_operator() {
            return Ok(());
        }
        let message = format!(
            "only an owner or operator may {what}; {} is neither",
            self.actor
        );
        Err(self.lacks_role(message))
    }

    /// Only of people whose roles may not all have been read nobody can tell.
    fn lacks_role(&self, message: String) -> Fault {
        if self.roles.is_some() {
            return absent(ROLES, message);
        }
        if self.keys.has(self.actor) {
            // An agent, which never has one.
            return Fault::Wrong(message);
        }
        absent(STRANGERS, message)
    }

    fn exists(&self, name: &PrincipalName) -> Result<(), Fault> {
        if self.keys.has(name) {
            return Ok(());
        }
        Err(absent(
            PEOPLE,
            format!("is about {name}, who was never created"),
        ))
    }
}

/// What a leaf holds, as far as it is checked here.
#[derive(Deserialize)]
struct Leaf {
    kind: String,
    actor: PrincipalName,
    #[serde(default)]
    org: Option<OrgId>,
    #[serde(default)]
    action_id: Option<ActionId>,
    body: Value,
}

#[derive(Deserialize)]
struct Suspension {
    principal: PrincipalName,
}

impl RecordChecker {
    /// Nothing was read yet. Delegations are signed by algorithms of the default lists.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with delegations that are signed by algorithms of these lists.
    #[must_use]
    pub fn reading(lists: AllowedAlgorithms) -> Self {
        Self {
            lists,
            ..Self::default()
        }
    }

    /// Takes the next record, as JSON. Of one that is not there it is the leaf alone, which
    /// commits to the rest: what leans on it is counted, not judged.
    ///
    /// # Errors
    ///
    /// Says in one sentence what does not hold.
    pub fn leaf(&mut self, index: LeafIndex, record: &Value) -> Result<(), String> {
        if record.get("commitment").is_some() {
            let kind = record.get("kind").and_then(Value::as_str);
            self.unread.add(kind.unwrap_or_default());
            return Ok(());
        }
        let leaf = Leaf::deserialize(record).map_err(|error| error.to_string())?;
        let kind = leaf.kind.clone();
        let judged = self.judge(index, leaf);
        self.unless_unread(&kind, judged)
    }

    /// How many records and files could not be judged, because something they lean on is
    /// not there.
    #[must_use]
    pub const fn unchecked(&self) -> u64 {
        self.unchecked
    }

    /// What is missing may stand in a record that is not there.
    fn unless_unread(&mut self, kind: &str, judged: Result<(), Fault>) -> Result<(), String> {
        let Err(fault) = judged else { return Ok(()) };
        if self.unread.may_explain(&fault) {
            self.unchecked = self.unchecked.saturating_add(1);
            // What leans on it finds as little of it as if it had not been read.
            self.unread.add(kind);
            return Ok(());
        }
        let (Fault::Wrong(message) | Fault::Absent(_, message) | Fault::Ungranted(_, message)) =
            fault;
        Err(message)
    }

    fn judge(&mut self, index: LeafIndex, leaf: Leaf) -> Result<(), Fault> {
        match leaf.kind.as_str() {
            "organization.created" => {
                let body: OrganizationCreated = body(leaf.body)?;
                let owner = body.owner.name.clone();
                self.principal(body.owner)?;
                let roles = self.roles.entry(owner.clone()).or_default();
                roles.insert(Role::Owner);
                self.owner = Some(owner);
                Ok(())
            }
            "principal.created" => self.principal(body(leaf.body)?),
            "delegation.granted" => self.delegation(body(leaf.body)?),
            "delegation.refused" => {
                let refused: DelegationRefused = body(leaf.body)?;
                match refused.parent {
                    Some(parent) if refused.held.is_some() && !self.links.contains_key(&parent) => {
                        let message = format!("is about {parent}, which was never granted");
                        Err(Fault::Ungranted(parent, message))
                    }
                    _ => Ok(()),
                }
            }
            "delegation.revoked" => {
                #[derive(Deserialize)]
                struct Revoked {
                    id: LinkId,
                }
                let revoked: Revoked = body(leaf.body)?;
                if !self.links.contains_key(&revoked.id) {
                    let message = format!("revokes {}, which was never granted", revoked.id);
                    return Err(Fault::Ungranted(revoked.id, message));
                }
                self.revoked.insert(revoked.id);
                Ok(())
            }
            "role.set" => self.role(&leaf.actor, body(leaf.body)?),
            SUBJECT_ERASED => self.owner_only(&leaf.actor, "erase a person's data"),
            PAYLOADS_EXPIRED => {
                #[derive(Deserialize)]
                struct Expired {
                    through: LeafIndex,
                }
                let expired: Expired = body(leaf.body)?;
                if expired.through >= index {
                    return Err(Fault::Wrong(
                        "ends payloads of what comes after it".to_owned(),
                    ));
                }
                self.owner_only(&leaf.actor, "end the keeping of payloads")
            }
            "secret.handed_over" => {
                #[derive(Deserialize)]
                struct HandedOver {
                    to: PrincipalName,
                }
                let handed: HandedOver = body(leaf.body)?;
                self.owner_only(&leaf.actor, "hand a secret over")?;
                self.known(&leaf.actor).exists(&handed.to)
            }
            "principal.revoked" => self.expulsion(&leaf.actor, body(leaf.body)?),
            "principal.suspended" => self.suspension(&leaf.actor, body(leaf.body)?, true),
            "principal.resumed" => self.suspension(&leaf.actor, body(leaf.body)?, false),
            "limit.set" | "limit.removed" | "limit.threshold" | "rate.set" | "rate.removed"
            | "policy.published" | "policy.rolled_back" | "policy.reloaded" => {
                self.rules(index, leaf)
            }
            "prekeys.published" => {
                let record: PrekeysPublished = body(leaf.body)?;
                self.agent_in_good_standing(&record.owner)?;
                self.prekeys.published(&leaf.actor, record, &self.keys)
            }
            "prekey.taken" => {
                let record: PrekeyTaken = body(leaf.body)?;
                self.agent_in_good_standing(&record.owner)?;
                self.prekeys.taken(&leaf.actor, &record, &self.keys)
            }
            EVENT_ORDERED => {
                body::<EventOrdered>(leaf.body)?.check()?;
                self.owner_only(&leaf.actor, "order events")
            }
            "principal.key_rotated" => self.key_rotated(&leaf.actor, body(leaf.body)?),
            "principal.key_revoked" => {
                let revoked: PrincipalKeyRevoked = body(leaf.body)?;
                self.may_change_keys(&leaf.actor, &revoked.principal)?;
                self.keys.revoked(&revoked)
            }
            "identity.signed" => {
                #[derive(Deserialize)]
                struct Signed {
                    kid: String,
                }
                let signed: Signed = body(leaf.body)?;
                self.keys.in_force(&leaf.actor, &signed.kid)
            }
            "keys.rotated" | "keys.retired" | "log_keys.rotated" | "log_keys.retired" => {
                self.owner_only(&leaf.actor, "change the organization's keys")?;
                match leaf.kind.as_str() {
                    "keys.rotated" => self.keyring.rotated(body(leaf.body)?),
                    "keys.retired" => self.keyring.retired(&body(leaf.body)?),
                    "log_keys.rotated" => self.keyring.log_rotated(body(leaf.body)?),
                    _ => self.keyring.log_retired(&body(leaf.body)?),
                }
            }
            ALGORITHMS_CHANGED => {
                self.owner_only(&leaf.actor, "be named for other lists of algorithms")?;
                self.keyring.algorithms_changed(body(leaf.body)?)
            }
            "usage.settled" => self.settlement(index, leaf.action_id, body(leaf.body)?),
            "invoice.issued" => {
                let issued: InvoiceIssued = body(leaf.body)?;
                match self.issued.insert(issued.id, (index, issued)) {
                    None => Ok(()),
                    Some((first, _)) => Err(Fault::Wrong(format!(
                        "leaf {first} issues the same invoice"
                    ))),
                }
            }
            _ => Ok(()),
        }
    }

    /// What decisions are bound by, besides authority.
    fn rules(&mut self, index: LeafIndex, leaf: Leaf) -> Result<(), Fault> {
        let known = Known {
            actor: &leaf.actor,
            org: leaf.org,
            roles: self.roles.get(&leaf.actor),
            keys: &self.keys,
            links: &self.links,
        };
        let (limits, policies) = (&mut self.limits, &mut self.policies);
        match leaf.kind.as_str() {
            "limit.set" => limits.set(&known, body(leaf.body)?),
            "limit.removed" => limits.removed(&known, &body(leaf.body)?),
            "limit.threshold" => limits.reached(&known, body(leaf.body)?),
            "rate.set" => limits.rate_set(&known, body(leaf.body)?),
            "rate.removed" => limits.rate_removed(&known, &body(leaf.body)?),
            "policy.published" => policies.published(&known, index, body(leaf.body)?),
            "policy.rolled_back" => policies.rolled_back(&known, index, body(leaf.body)?),
            _ => policies.reloaded(&known, index, body(leaf.body)?),
        }
    }

    /// Takes a file that the bundle carries beside the log.
    ///
    /// # Errors
    ///
    /// Says in one sentence what does not hold.
    pub fn attachment(&mut self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let judged = self.judge_attachment(path, bytes);
        self.unless_unread(path, judged)
    }

    fn judge_attachment(&mut self, path: &str, bytes: &[u8]) -> Result<(), Fault> {
        let named = |kind: &str| path.strip_prefix(kind)?.strip_suffix(".json");
        if let Some(digest) = named(POLICY_FILES) {
            return self.policies.files(digest, bytes);
        }
        let Some(id) = named(INVOICE_FILES) else {
            let message = "no file of this kind belongs into a bundle";
            return Err(Fault::Wrong(message.to_owned()));
        };
        let invoice: Invoice = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let canonical = canonical_json(&invoice).map_err(|error| error.to_string())?;
        if canonical != bytes || invoice.id.to_string() != id {
            let message = "is not the canonical JSON (RFC 8785) of that invoice";
            return Err(Fault::Wrong(message.to_owned()));
        }
        let (leaf, issued) = self
            .issued
            .remove(&invoice.id)
            .ok_or_else(|| absent(INVOICES, "the log knows no such invoice".to_owned()))?;
        let found = InvoiceIssued::of(&invoice).map_err(|error| error.to_string())?;
        if invoice.leaf != Some(leaf) || found != issued {
            let message = format!("differs from the invoice that leaf {leaf} issues");
            return Err(Fault::Wrong(message));
        }
        self.invoice(leaf, &invoice)
    }

    /// What the log mentions and the bundle does not carry: file and reason. Asked
    /// once everything was read.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, String)> {
        let invoices = self.issued.values().map(|(leaf, issued)| {
            (
                format!("attachments/{}", invoice_path(issued.id)),
                format!("the invoice that leaf {leaf} issues is not here"),
            )
        });
        let policies = self.policies.missing().map(|(digest, leaf)| {
            (
                format!("attachments/{}", policies_path(digest)),
                format!("the policies that leaf {leaf} puts in force are not here"),
            )
        });
        invoices.chain(policies).collect()
    }

    fn principal(&mut self, principal: Principal) -> Result<(), Fault> {
        let name = principal.name.clone();
        if principal.kind == PrincipalType::Human {
            self.roles.entry(name.clone()).or_default();
        }
        self.keys.created(name, principal.verifying_key)
    }

    fn key_rotated(
        &mut self,
        actor: &PrincipalName,
        rotated: PrincipalKeyRotated,
    ) -> Result<(), Fault> {
        self.may_change_keys(actor, &rotated.principal)?;
        if self.expelled.contains(&rotated.principal) {
            let message = format!("is about {}, who was revoked", rotated.principal);
            return Err(Fault::Wrong(message));
        }
        self.keys.rotated(rotated)
    }

    /// The keys of agents are for operators too, those of people for owners alone.
    fn may_change_keys(&self, actor: &PrincipalName, of: &PrincipalName) -> Result<(), Fault> {
        if self.roles.contains_key(of) {
            return self.owner_only(actor, "change the keys of people");
        }
        self.by_operator(actor, "change keys")
    }

    fn by_operator(&self, actor: &PrincipalName, what: &str) -> Result<(), Fault> {
        self.known(actor).operator_only(what)
    }

    fn known<'a>(&'a self, actor: &'a PrincipalName) -> Known<'a> {
        Known {
            actor,
            org: None,
            roles: self.roles.get(actor),
            keys: &self.keys,
            links: &self.links,
        }
    }

    /// Refuses who is and was no owner.
    fn owner_only(&self, actor: &PrincipalName, what: &str) -> Result<(), Fault> {
        let held = self.roles.get(actor);
        if held.is_some_and(|roles| roles.contains(&Role::Owner)) {
            return Ok(());
        }
        let message = format!("only an owner may {what}; {actor} is not");
        Err(self.known(actor).lacks_role(message))
    }

    fn role(&mut self, actor: &PrincipalName, set: RoleSet) -> Result<(), Fault> {
        self.owner_only(actor, "set roles")?;
        let name = set.principal;
        if self.owner.as_ref() == Some(&name) {
            return Err(Fault::Wrong(format!(
                "{name} founded the organization and stays its owner"
            )));
        }
        let Some(roles) = self.roles.get_mut(&name) else {
            let message = format!("is about {name}, who is no human of it");
            return Err(match self.keys.has(&name) {
                true => Fault::Wrong(message),
                false => absent(PEOPLE, message),
            });
        };
        roles.insert(set.role);
        Ok(())
    }

    /// Prekeys are of agents, and of nobody who was suspended or revoked before.
    fn agent_in_good_standing(&self, name: &PrincipalName) -> Result<(), Fault> {
        if !self.keys.has(name) {
            return Err(absent(
                PEOPLE,
                format!("is about {name}, who was never created"),
            ));
        }
        if self.roles.contains_key(name) {
            return Err(Fault::Wrong(format!("is about {name}, who is no agent")));
        }
        if self.expelled.contains(name) {
            return Err(Fault::Wrong(format!("is about {name}, who was revoked")));
        }
        if self.suspended.contains(name) {
            return Err(absent(
                RESUMPTIONS,
                format!("is about {name}, who was suspended"),
            ));
        }
        Ok(())
    }

    fn expulsion(&mut self, actor: &PrincipalName, of: Suspension) -> Result<(), Fault> {
        let name = of.principal;
        self.by_operator(actor, "revoke principals")?;
        let of_owner = |roles: &BTreeSet<Role>| roles.contains(&Role::Owner);
        if self.roles.contains_key(&name) && !self.roles.get(actor).is_some_and(of_owner) {
            let message = format!("only an owner may revoke people; {actor} is none");
            return Err(self.known(actor).lacks_role(message));
        }
        if !self.keys.has(&name) {
            return Err(absent(
                PEOPLE,
                format!("is about {name}, who was never created"),
            ));
        }
        if self.owner.as_ref() == Some(&name) {
            return Err(Fault::Wrong(format!(
                "revokes {name}, who founded the organization"
            )));
        }
        if !self.expelled.insert(name.clone()) {
            return Err(Fault::Wrong(format!(
                "revokes {name}, who was revoked already"
            )));
        }
        Ok(())
    }

    fn suspension(
        &mut self,
        actor: &PrincipalName,
        of: Suspension,
        begins: bool,
    ) -> Result<(), Fault> {
        let name = of.principal;
        self.by_operator(actor, "suspend and resume principals")?;
        if !self.keys.has(&name) {
            return Err(absent(
                PEOPLE,
                format!("is about {name}, who was never created"),
            ));
        }
        if self.expelled.contains(&name) {
            let message = format!("is about {name}, who was revoked");
            return Err(Fault::Wrong(message));
        }
        let fits = if begins {
            self.suspended.insert(name.clone())
        } else {
            self.suspended.remove(&name)
        };
        match (fits, begins) {
            (true, _) => Ok(()),
            (false, true) => Err(absent(
                RESUMPTIONS,
                format!("suspends {name}, who was suspended already"),
            )),
            (false, false) => Err(absent(
                SUSPENSIONS,
                format!("resumes {name}, who was not suspended"),
            )),
        }
    }

    fn delegation(&mut self, signed: SignedLink) -> Result<(), Fault> {
        // Itself before what is above it, which may not be there.
        self.hop(&signed)?;
        let mut chain = vec![signed.clone()];
        let mut parent = signed.link.parent;
        while let Some(id) = parent {
            if self.revoked.contains(&id) {
                let message = format!("delegates from {id}, which was revoked");
                return Err(Fault::Wrong(message));
            }
            let above = self.links.get(&id).ok_or_else(|| {
                Fault::Ungranted(id, format!("delegates from {id}, which was never granted"))
            })?;
            parent = above.link.parent;
            chain.push(above.clone());
        }
        chain.reverse();
        for hop in &chain {
            self.hop(hop)?;
        }
        verify_chain(&chain, &|name, version| self.keys.of(name, version))
            .map_err(|error| creto_errors::chain(&error))?;
        self.links.insert(signed.link.id, signed);
        Ok(())
    }

    /// A link by itself: who gives and is given is there, and its signature is by a key in
    /// force.
    fn hop(&self, signed: &SignedLink) -> Result<(), Fault> {
        let link = &signed.link;
        let names = [&link.delegator, &link.delegatee];
        if let Some(name) = names.iter().find(|name| self.expelled.contains(**name)) {
            let message = format!("delegates through {name}, who was revoked");
            return Err(Fault::Wrong(message));
        }
        let (delegator, version) = (&link.delegator, link.key_version);
        if self.keys.is_revoked(delegator, version) {
            return Err(Fault::Wrong(format!(
                "delegates by {}, which the revoked key {version} of {delegator} signed",
                link.id
            )));
        }
        let Some(key) = self.keys.of(delegator, version) else {
            let message =
                format!("is signed by the key {version} of {delegator}, which never had it");
            return Err(match self.keys.has(delegator) {
                true => absent(KEYS, message),
                false => absent(STRANGERS_KEYS, message),
            });
        };
        let algorithm = signed.signature.algorithm();
        self.lists.signature.check(algorithm).map_err(|error| {
            let (why, code) = (creto_errors::chain(&error), error.code());
            let by = &link.delegator;
            format!("is signed by {by}: {why} ({code}); --accept {algorithm} reads it")
        })?;
        verify_link(signed, &key).map_err(|error| creto_errors::chain(&error))?;
        if let Some(name) = names.iter().find(|name| self.suspended.contains(**name)) {
            let message = format!("delegates through {name}, who was suspended");
            return Err(absent(RESUMPTIONS, message));
        }
        Ok(())
    }

    fn settlement(
        &mut self,
        index: LeafIndex,
        action: Option<ActionId>,
        settled: UsageSettled,
    ) -> Result<(), Fault> {
        let action = action.ok_or_else(|| "a settlement names no action".to_owned())?;
        let price = settled
            .unit_price
            .checked_mul(settled.units)
            .map_err(|error| error.to_string())?;
        if price != settled.cost {
            return Err(Fault::Wrong(format!(
                "{} units at {} are {price}, not {}",
                settled.units, settled.unit_price, settled.cost
            )));
        }
        if let Some(unknown) = settled
            .delegations
            .iter()
            .find(|link| !self.links.contains_key(link))
        {
            let message = format!("is charged to {unknown}, which was never granted");
            return Err(Fault::Ungranted(*unknown, message));
        }
        self.settled.insert(index, (action, settled));
        Ok(())
    }

    fn invoice(&mut self, leaf: LeafIndex, invoice: &Invoice) -> Result<(), Fault> {
        let mut total = Money::zero(invoice.total.currency());
        for line in &invoice.lines {
            self.line(leaf, &invoice.customer, line)?;
            total = total
                .checked_add(&line.amount)
                .map_err(|error| error.to_string())?;
        }
        if total != invoice.total {
            return Err(Fault::Wrong(format!(
                "its lines add up to {total}, not {}",
                invoice.total
            )));
        }
        Ok(())
    }

    fn line(
        &mut self,
        issued: LeafIndex,
        customer: &PrincipalName,
        line: &InvoiceLine,
    ) -> Result<(), Fault> {
        let mut quantity = 0_u64;
        for event in &line.events {
            let (action, settled) = self.settled.get(&event.leaf).ok_or_else(|| {
                let message = format!(
                    "{} points to leaf {}, which settles nothing",
                    event.event_id, event.leaf
                );
                absent(SETTLEMENTS, message)
            })?;
            let same = event.leaf < issued
                && *action == event.action_id
                && settled.event_id == event.event_id
                && settled.units == event.units
                && settled.unit_price == line.unit_price
                && settled.agent == line.agent
                && settled.action == line.action
                && settled.customer == *customer;
            if !same {
                return Err(Fault::Wrong(format!(
                    "{} differs from what leaf {} settles",
                    event.event_id, event.leaf
                )));
            }
            if !self.billed.insert(event.event_id) {
                let message = format!("{} is billed twice", event.event_id);
                return Err(Fault::Wrong(message));
            }
            quantity = quantity
                .checked_add(event.units)
                .ok_or_else(|| "a line has too many units".to_owned())?;
        }
        let amount = line
            .unit_price
            .checked_mul(line.quantity)
            .map_err(|error| error.to_string())?
            .round_to_minor_unit();
        if quantity != line.quantity || amount != line.amount {
            return Err(Fault::Wrong(format!(
                "the line of {} for {} does not add up",
                line.agent, line.action
            )));
        }
        Ok(())
    }
}

/// The name of the file beside the log that a record refers to, when it refers to one.
pub(crate) fn refers_to(record: &Value) -> Option<String> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    match text("/kind")? {
        "invoice.issued" => Some(invoice_path(text("/body/id")?.parse().ok()?)),
        "policy.published" | "policy.rolled_back" | "policy.reloaded" => {
            Some(policies_path(text("/body/digest")?))
        }
        _ => None,
    }
}

pub(crate) const INVOICE_FILES: &str = "invoices/";
pub(crate) const POLICY_FILES: &str = "policies/";

/// Where a bundle carries an invoice.
pub(crate) fn invoice_path(id: InvoiceId) -> String {
    format!("{INVOICE_FILES}{id}.json")
}

/// Where a bundle carries the policies of this digest: the bytes that it is over.
pub(crate) fn policies_path(digest: &str) -> String {
    format!("{POLICY_FILES}{digest}.json")
}

fn body<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}
