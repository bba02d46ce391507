//! One step of the scenario and what came of it.

use serde::Serialize;

use super::error::DemoError;
use super::world::World;

/// A step: does one thing, checks every fact about it.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The outcome it has to have.
    pub(crate) expected: &'static str,
    pub(crate) run: fn(&mut World) -> Result<Done, DemoError>,
}

/// What a step came to. That the facts around it hold is implied: a wrong fact
/// is an error.
pub(crate) struct Done {
    pub(crate) outcome: String,
    pub(crate) detail: String,
    pub(crate) cost: String,
    pub(crate) leaf: Option<u64>,
}

impl Done {
    pub(crate) fn new(outcome: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            outcome: outcome.into(),
            detail: detail.into(),
            cost: String::new(),
            leaf: None,
        }
    }

    pub(crate) fn at(mut self, leaf: u64) -> Self {
        self.leaf = Some(leaf);
        self
    }

    pub(crate) fn costing(mut self, cost: impl ToString) -> Self {
        self.cost = cost.to_string();
        self
    }
}

/// A step as `report.json` has it.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) outcome: String,
    pub(crate) detail: String,
    pub(crate) cost: String,
    pub(crate) leaf: Option<u64>,
}

impl Entry {
    pub(crate) fn new(step: &Step, result: Result<Done, DemoError>) -> Self {
        let done = result.unwrap_or_else(|error| {
            let mut detail = creto_errors::chain(&error);
            if let DemoError::Client(error) = &error {
                detail = format!("{detail} [{}]", error.reported_code());
            }
            Done::new("failed", detail)
        });
        Self {
            name: step.name,
            expected: step.expected,
            outcome: done.outcome,
            detail: done.detail,
            cost: done.cost,
            leaf: done.leaf,
        }
    }

    /// A step that was not reached.
    pub(crate) fn not_run(step: &Step) -> Self {
        Self::new(step, Ok(Done::new("not_run", "an earlier step failed")))
    }

    pub(crate) fn passed(&self) -> bool {
        self.outcome == self.expected
    }
}
