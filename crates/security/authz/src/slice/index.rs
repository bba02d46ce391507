//! Scopes as numbers.
//!
//! Every entity type and entity that some scope names gets a number. A scope part
//! then is one [`Key`], and an entity of a request turns into the few keys it can
//! be matched by: anything, its type, itself, each entity above it. A policy lies
//! at (action key, principal key, resource key); a request looks at the products
//! of its keys. An entity no scope names has no number, so ids that whoever asks
//! may choose never enter a map.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use cedar_policy_core::ast::{
    ActionConstraint, EntityReference, EntityType, EntityUID, Policy, PrincipalOrResourceConstraint,
};

/// What a scope part asks for, and what a request's entity can be matched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Anything.
    Any,
    /// An entity of this type.
    Is(u32),
    /// This entity.
    Eq(u32),
    /// This entity or one below it.
    In(u32),
    /// An entity of this type that is this entity or below it.
    IsIn(u32, u32),
}

/// What the scopes know of one entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The number of its type.
    kind: Option<u32>,
    /// Its own number.
    entity: Option<u32>,
}

/// Every key one entity can be matched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    /// The keys of an entity with these above it.
    pub(crate) fn of(spot: Spot, ancestors: &[Spot]) -> Self {
        let mut keys = Vec::with_capacity(5 + 2 * ancestors.len());
        keys.push(Key::Any);
        keys.extend(spot.kind.map(Key::Is));
        keys.extend(spot.entity.map(Key::Eq));
        let above = ancestors.iter().filter_map(|above| above.entity);
        for entity in spot.entity.into_iter().chain(above) {
            keys.push(Key::In(entity));
            keys.extend(spot.kind.map(|kind| Key::IsIn(kind, entity)));
        }
        Self(keys)
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.0.contains(&key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Principal,
    Action,
    Resource,
}

/// Numbers are ours and not a caller's, so they need no keyed hash.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // The odd constant of Knuth's multiplicative hashing, 2^64 / phi.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(u64::from_ne_bytes(
            i64::try_from(number).unwrap_or(0).to_ne_bytes(),
        ));
    }
}

type ByKey<T> = HashMap<Key, T, BuildHasherDefault<Mix>>;

/// The policies of one action key, by principal key and resource key.
type Layer = ByKey<ByKey<Vec<u32>>>;

/// Which layer.
pub(crate) type LayerNumber = usize;

#[derive(Debug, Default)]
pub(super) struct Index {
    kinds: HashMap<EntityType, u32>,
    /// By the number of the type.
    entities: Vec<HashMap<Box<str>, u32>>,
    named: u32,
    layers: Vec<Layer>,
    by_action: ByKey<LayerNumber>,
}

impl Index {
    pub(super) fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut index = Self::default();
        for (number, policy) in (0_u32..).zip(policies) {
            for uid in named(policy) {
                index.name(&uid);
            }
            for kind in kinds(policy) {
                index.name_kind(&kind);
            }
            let principal = index.keys_of(policy, Side::Principal);
            let resource = index.keys_of(policy, Side::Resource);
            for action in index.keys_of(policy, Side::Action) {
                index.put(number, action, &principal, &resource);
            }
        }
        index
    }

    fn put(&mut self, number: u32, action: Key, principal: &[Key], resource: &[Key]) {
        let next = self.layers.len();
        let layer = *self.by_action.entry(action).or_insert(next);
        if layer == next {
            self.layers.push(Layer::default());
        }
        let (Some(layer), [principal], [resource]) =
            (self.layers.get_mut(layer), principal, resource)
        else {
            return;
        };
        let place = layer
            .entry(*principal)
            .or_default()
            .entry(*resource)
            .or_default();
        // `action in [A, A]` is one place, not two.
        if place.last() != Some(&number) {
            place.push(number);
        }
    }

    fn name_kind(&mut self, kind: &EntityType) -> u32 {
        if let Some(number) = self.kinds.get(kind) {
            return *number;
        }
        let number = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
        self.kinds.insert(kind.clone(), number);
        self.entities.push(HashMap::new());
        number
    }

    fn name(&mut self, uid: &EntityUID) {
        let kind = self.name_kind(uid.entity_type());
        let next = self.named;
        let Some(ids) = self.entities.get_mut(position(kind)) else {
            return;
        };
        let id: &str = uid.eid().as_ref();
        if !ids.contains_key(id) {
            ids.insert(id.into(), next);
            self.named = next.saturating_add(1);
        }
    }

    pub(super) fn kind(&self, kind: &EntityType) -> Option<u32> {
        self.kinds.get(kind).copied()
    }

    pub(super) fn names_one_of(&self, kind: Option<u32>) -> bool {
        kind.and_then(|kind| self.entities.get(position(kind)))
            .is_some_and(|ids| !ids.is_empty())
    }

    pub(super) fn spot(&self, kind: Option<u32>, id: &str) -> Spot {
        let ids = kind.and_then(|kind| self.entities.get(position(kind)));
        Spot {
            kind,
            entity: ids.and_then(|ids| ids.get(id).copied()),
        }
    }

    fn entity(&self, uid: &EntityUID) -> Option<u32> {
        self.spot(self.kind(uid.entity_type()), uid.eid().as_ref())
            .entity
    }

    /// The keys of a scope part; more than one only for `action in [...]`, and
    /// none where nothing can match.
    pub(super) fn keys_of(&self, policy: &Policy, side: Side) -> Vec<Key> {
        let constraint = match side {
            Side::Action => return self.action_keys(policy.action_constraint()),
            Side::Principal => policy.principal_constraint().as_inner().clone(),
            Side::Resource => policy.resource_constraint().as_inner().clone(),
        };
        let entity = |reference: &EntityReference| match reference {
            EntityReference::EUID(uid) => self.entity(uid),
            // A link has every slot filled.
            EntityReference::Slot(_) => None,
        };
        let key = match &constraint {
            PrincipalOrResourceConstraint::Any => Some(Key::Any),
            PrincipalOrResourceConstraint::Is(kind) => self.kind(kind).map(Key::Is),
            PrincipalOrResourceConstraint::Eq(uid) => entity(uid).map(Key::Eq),
            PrincipalOrResourceConstraint::In(uid) => entity(uid).map(Key::In),
            PrincipalOrResourceConstraint::IsIn(kind, uid) => self
                .kind(kind)
                .and_then(|kind| entity(uid).map(|entity| Key::IsIn(kind, entity))),
        };
        key.into_iter().collect()
    }

    fn action_keys(&self, constraint: &ActionConstraint) -> Vec<Key> {
        match constraint {
            ActionConstraint::Any => vec![Key::Any],
            ActionConstraint::Eq(uid) => self.entity(uid).map(Key::Eq).into_iter().collect(),
            ActionConstraint::In(uids) => uids
                .iter()
                .filter_map(|uid| self.entity(uid).map(Key::In))
                .collect(),
        }
    }

    pub(super) fn layers(&self, action: Spot, ancestors: &[Spot]) -> Vec<LayerNumber> {
        let Keys(keys) = Keys::of(action, ancestors);
        keys.iter()
            .filter_map(|key| self.by_action.get(key).copied())
            .collect()
    }

    pub(super) fn in_layers(&self, layers: &[LayerNumber]) -> impl Iterator<Item = u32> {
        layers
            .iter()
            .filter_map(|layer| self.layers.get(*layer))
            .flat_map(|layer| layer.values().flat_map(ByKey::values).flatten().copied())
    }

    pub(super) fn candidates(
        &self,
        layers: &[LayerNumber],
        principal: &Keys,
        resource: &Keys,
    ) -> Vec<u32> {
        let mut found = Vec::new();
        for layer in layers.iter().filter_map(|layer| self.layers.get(*layer)) {
            for rooms in principal.0.iter().filter_map(|key| layer.get(key)) {
                for policies in resource.0.iter().filter_map(|key| rooms.get(key)) {
                    found.extend_from_slice(policies);
                }
            }
        }
        found.sort_unstable();
        // `action in [A, B]` lies in two layers.
        found.dedup();
        found
    }
}

fn position(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Every entity a scope names.
fn named(policy: &Policy) -> Vec<Arc<EntityUID>> {
    let mut all: Vec<Arc<EntityUID>> = match policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(uid) => vec![Arc::clone(uid)],
        ActionConstraint::In(uids) => uids.clone(),
    };
    let sides = [
        policy.principal_constraint().as_inner().clone(),
        policy.resource_constraint().as_inner().clone(),
    ];
    all.extend(
        sides
            .iter()
            .filter_map(|side| side.get_euid().map(Arc::clone)),
    );
    all
}

/// Every entity type a scope names by `is`.
fn kinds(policy: &Policy) -> Vec<EntityType> {
    [
        policy.principal_constraint().as_inner().clone(),
        policy.resource_constraint().as_inner().clone(),
    ]
    .iter()
    .flat_map(PrincipalOrResourceConstraint::iter_entity_type_names)
    .cloned()
    .collect()
}
