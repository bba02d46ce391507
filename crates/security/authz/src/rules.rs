//! What is known of an action's policies before anything is asked.

use std::collections::HashMap;

use crate::filled::{NOW, UNITS};
use crate::schema::{ActionShape, Served};
use crate::slice::{LayerNumber, Slices, Spot};

/// What of a request, beyond chain, action and resource, the policies of one
/// action may read. Two requests that agree in all of it are decided alike, as
/// long as both fit the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// The number of units.
    pub(crate) units: bool,
    /// The time of the decision.
    pub(crate) time: bool,
    /// The context as a whole. The other fields then name all there is.
    pub(crate) all: bool,
    /// The caller's attributes of the context, sorted.
    pub(crate) names: Box<[Box<str>]>,
}

/// What the slices know of one action.
pub(crate) struct Rules {
    pub(crate) layers: Vec<LayerNumber>,
    pub(crate) reads: Reads,
}

impl Rules {
    pub(crate) fn new(slices: &Slices, action: &ActionShape) -> Self {
        let above: Vec<Spot> = action
            .ancestors
            .iter()
            .map(|uid| slices.spot_of(uid))
            .collect();
        let layers = slices.layers(slices.spot_of(&action.uid), &above);
        let facts = slices.facts(&layers);
        let all = facts.whole_context;
        let names = action
            .names()
            .filter(|name| all || facts.context.contains(*name))
            .map(Box::from)
            .collect();
        Self {
            layers,
            reads: Reads {
                units: all || facts.context.contains(UNITS),
                time: action.now && (all || facts.context.contains(NOW)),
                all,
                names,
            },
        }
    }
}

/// The numbers the slices have for the types the engine fills.
pub(crate) struct Numbers {
    pub(crate) human: Option<u32>,
    pub(crate) agent: Option<u32>,
    pub(crate) organization: Option<u32>,
    resources: HashMap<String, Option<u32>>,
}

impl Numbers {
    pub(crate) fn new(slices: &Slices, served: &Served) -> Self {
        Self {
            human: slices.kind(served.names.human()),
            agent: slices.kind(served.names.agent()),
            organization: slices.kind(served.names.organization()),
            resources: served
                .resource_shapes()
                .map(|(name, shape)| (name.to_owned(), slices.kind(&shape.kind)))
                .collect(),
        }
    }

    pub(crate) fn resource(&self, kind: &str) -> Option<u32> {
        self.resources.get(kind).copied().flatten()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{CompiledPolicies, PolicySources};

    /// One action with a context of its own, in a group, and one without.
    fn compile(policies: &str) -> CompiledPolicies {
        let mut sources = PolicySources::starter();
        sources.schema.push((
            "own.cedarschema".to_owned(),
            r#"namespace Creto {
                 action pay;
                 action "pay.out" in [pay] appliesTo {
                   principal: [Human, Agent], resource: [Resource],
                   context: { oversight: Oversight, units: Long, now: datetime,
                              country: String, tags?: Set<String> },
                 };
               }"#
            .to_owned(),
        ));
        sources.policies = vec![("test.cedar".to_owned(), policies.to_owned())];
        CompiledPolicies::compile(&sources).unwrap()
    }

    fn reads(policies: &str) -> Reads {
        compile(policies).reads("pay.out").unwrap().clone()
    }

    fn names(names: &[&str]) -> Box<[Box<str>]> {
        names.iter().map(|name| Box::from(*name)).collect()
    }

    #[test]
    fn an_action_reads_what_its_conditions_read() {
        const PAY: &str = r#"(principal, action == Creto::Action::"pay.out", resource)"#;
        assert_eq!(reads(&format!("permit {PAY};")), Reads::default());
        let approved = format!("forbid {PAY} unless {{ context.oversight.approved }};");
        assert_eq!(
            reads(&approved),
            Reads::default(),
            "the engine asks both ways"
        );
        let units = reads(&format!("permit {PAY} when {{ context.units < 3 }};"));
        assert_eq!(
            units,
            Reads {
                units: true,
                ..Reads::default()
            }
        );
        let time = format!("permit {PAY} when {{ context.now < datetime(\"2030-01-01\") }};");
        assert_eq!(
            reads(&time),
            Reads {
                time: true,
                ..Reads::default()
            }
        );
        let has = format!("permit {PAY} when {{ context has tags && context.tags.isEmpty() }};");
        assert_eq!(
            reads(&has),
            Reads {
                names: names(&["tags"]),
                ..Reads::default()
            }
        );
        let whole = format!("permit {PAY} when {{ context == context }};");
        let all = Reads {
            units: true,
            time: true,
            all: true,
            names: names(&["country", "tags"]),
        };
        assert_eq!(reads(&whole), all);
        let nested = format!(
            "permit {PAY} when {{ (if context.country == \"x\" then 1 else context.units) == 1 }};"
        );
        let both = Reads {
            units: true,
            names: names(&["country"]),
            ..Reads::default()
        };
        assert_eq!(reads(&nested), both);
    }

    #[test]
    fn only_policies_that_can_apply_to_the_action_count() {
        let condition = "when { context.units < 3 }";
        let other = r#"(principal, action == Creto::Action::"history.read", resource)"#;
        assert_eq!(
            reads(&format!("permit {other} {condition};")),
            Reads::default()
        );
        for scope in ["action", r#"action in Creto::Action::"pay""#] {
            let policy = format!("permit (principal, {scope}, resource) {condition};");
            assert!(reads(&policy).units, "{policy}");
        }
        assert_eq!(compile("").reads("nope"), None);
    }
}
