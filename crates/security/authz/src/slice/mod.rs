//! Policies, sliced by what their scopes name.
//!
//! Cedar asks every policy of a set whether its scope fits the request. Here each
//! policy lies under the one key of each scope part that it can only match by
//! (`index.rs`), so those that cannot match are never looked at, and what a
//! decision costs depends on the policies that apply and not on how many there
//! are. What is found this way has a scope that fits by construction, so only its
//! conditions are evaluated, by Cedar's own evaluator; and only when there are any.
//!
//! This works for any Cedar, with any schema or none: `eval.rs` and the decision
//! use the same slices.

mod condition;
mod index;

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy_core::ast::{
    Effect, Entity, EntityType, EntityUID, Expr, Literal, Policy, Value, ValueKind,
};
use cedar_policy_core::entities::{Dereference, Entities};
use cedar_policy_core::evaluator::Evaluator;

use crate::model::PolicyId;

pub(crate) use condition::Facts;
use index::{Index, Side};
pub(crate) use index::{Key, Keys, LayerNumber, Spot};

/// One policy in a slice.
#[derive(Debug)]
pub(crate) struct Sliced {
    pub(crate) id: PolicyId,
    pub(crate) policy: Policy,
    condition: Option<Arc<Expr>>,
    /// What its conditions read.
    pub(crate) facts: Facts,
}

impl Sliced {
    fn new(policy: Policy) -> Self {
        let condition = policy.non_scope_constraints_arc().map(Arc::clone);
        let facts = condition.as_deref().map_or_else(Facts::default, Facts::of);
        let id: &str = policy.id().as_ref();
        Self {
            id: PolicyId::from(id),
            policy,
            condition,
            facts,
        }
    }

    pub(crate) fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// Whether it has conditions beside its scope.
    pub(crate) const fn has_condition(&self) -> bool {
        self.condition.is_some()
    }

    /// Whether a policy whose scope fits applies, or the error Cedar reports.
    pub(crate) fn applies(&self, evaluator: &Evaluator<'_>) -> Result<bool, String> {
        let Some(condition) = &self.condition else {
            return Ok(true);
        };
        let value = evaluator
            .interpret(condition, self.policy.env())
            .map_err(|error| error.to_string())?;
        if let Some(holds) = truth(&value) {
            return Ok(holds);
        }
        // As the last part of a policy's conjunction, where Cedar puts it, it fails
        // with Cedar's words. The scope is left out: the entities it would need
        // may not be there.
        let last = Expr::and(Expr::val(true), Expr::clone(condition));
        match evaluator.interpret(&last, self.policy.env()) {
            Ok(value) => truth(&value).ok_or_else(|| format!("{value} is not a boolean")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value.value_kind() {
        ValueKind::Lit(Literal::Bool(holds)) => Some(*holds),
        _ => None,
    }
}

/// A set of policies and where to find which.
#[derive(Debug)]
pub(crate) struct Slices {
    policies: Vec<Sliced>,
    index: Index,
}

impl Slices {
    /// Slices policies; their order here is the order of errors and reasons.
    pub(crate) fn new(policies: impl IntoIterator<Item = Policy>) -> Self {
        let policies: Vec<Sliced> = policies.into_iter().map(Sliced::new).collect();
        let index = Index::new(policies.iter().map(|sliced| &sliced.policy));
        Self { policies, index }
    }

    pub(crate) fn policies(&self) -> &[Sliced] {
        &self.policies
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Sliced> {
        self.policies.get(usize::try_from(number).ok()?)
    }

    /// The number of an entity type, when some scope names it or an entity of it.
    pub(crate) fn kind(&self, kind: &EntityType) -> Option<u32> {
        self.index.kind(kind)
    }

    /// Whether some scope names an entity of this type.
    pub(crate) fn names_one_of(&self, kind: Option<u32>) -> bool {
        self.index.names_one_of(kind)
    }

    /// What the scopes know of an entity whose type was looked up before.
    pub(crate) fn spot(&self, kind: Option<u32>, id: &str) -> Spot {
        self.index.spot(kind, id)
    }

    pub(crate) fn spot_of(&self, uid: &EntityUID) -> Spot {
        self.spot(self.kind(uid.entity_type()), uid.eid().as_ref())
    }

    /// The parts of the slices that an action can be found in.
    pub(crate) fn layers(&self, action: Spot, ancestors: &[Spot]) -> Vec<LayerNumber> {
        self.index.layers(action, ancestors)
    }

    /// What the conditions of all policies in these layers read together.
    pub(crate) fn facts(&self, layers: &[LayerNumber]) -> Facts {
        let numbers: BTreeSet<u32> = self.index.in_layers(layers).collect();
        let mut all = Facts::default();
        for sliced in numbers.into_iter().filter_map(|number| self.get(number)) {
            all.add(&sliced.facts);
        }
        all
    }

    /// Every policy whose scope fits, in the order they were given in.
    pub(crate) fn candidates(
        &self,
        layers: &[LayerNumber],
        principal: &Keys,
        resource: &Keys,
    ) -> Vec<u32> {
        self.index.candidates(layers, principal, resource)
    }

    /// The same for entities of any kind, as `eval.rs` has them.
    pub(crate) fn candidates_among(
        &self,
        entities: &Entities,
        principal: &EntityUID,
        action: &EntityUID,
        resource: &EntityUID,
    ) -> Vec<u32> {
        let above = |uid: &EntityUID| -> Vec<Spot> {
            match entities.entity(uid) {
                Dereference::Data(entity) => self.ancestors(entity),
                _ => Vec::new(),
            }
        };
        let layers = self.layers(self.spot_of(action), &above(action));
        let principal = Keys::of(self.spot_of(principal), &above(principal));
        let resource = Keys::of(self.spot_of(resource), &above(resource));
        self.candidates(&layers, &principal, &resource)
    }

    fn ancestors(&self, entity: &Entity) -> Vec<Spot> {
        entity.ancestors().map(|uid| self.spot_of(uid)).collect()
    }

    /// Whether the scope parts of one policy fit, each for itself: principal,
    /// action, resource.
    pub(crate) fn fit(
        &self,
        policy: &Policy,
        principal: &Keys,
        action: &Keys,
        resource: &Keys,
    ) -> [bool; 3] {
        let [of_principal, of_action, of_resource] =
            [Side::Principal, Side::Action, Side::Resource]
                .map(|side| self.index.keys_of(policy, side));
        let fits = |wanted: &[Key], given: &Keys| wanted.iter().any(|key| given.has(*key));
        [
            fits(&of_principal, principal),
            fits(&of_action, action),
            fits(&of_resource, resource),
        ]
    }
}
