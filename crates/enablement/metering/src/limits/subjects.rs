//! Limits by what they are limits of.

use std::collections::HashMap;
use std::sync::Arc;

use creto_nhi::LinkId;
use creto_types::PrincipalName;

use super::cell::Cell;
use super::model::Scope;

/// The limits that were set, by what they are limits of.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    pub(super) whole: Vec<Arc<Cell>>,
    agents: HashMap<PrincipalName, Vec<Arc<Cell>>>,
    links: HashMap<LinkId, Vec<Arc<Cell>>>,
}

impl Subjects {
    pub(super) fn of_agent(&self, name: &PrincipalName) -> &[Arc<Cell>] {
        self.agents.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of_link(&self, link: LinkId) -> &[Arc<Cell>] {
        self.links.get(&link).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of(&self, scope: &Scope) -> &[Arc<Cell>] {
        match scope {
            Scope::Organization => &self.whole,
            Scope::Agent(name) => self.of_agent(name),
            Scope::Delegation { link, .. } => self.of_link(*link),
        }
    }

    pub(super) fn entry(&mut self, scope: &Scope) -> &mut Vec<Arc<Cell>> {
        match scope {
            Scope::Organization => &mut self.whole,
            Scope::Agent(name) => self.agents.entry(name.clone()).or_default(),
            Scope::Delegation { link, .. } => self.links.entry(*link).or_default(),
        }
    }
}
