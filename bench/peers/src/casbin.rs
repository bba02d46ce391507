//! Casbin: lines of policy, one matcher for all of them.

use std::error::Error;
use std::fmt::Write as _;

use casbin::{CachedEnforcer, CoreApi, DefaultModel, Enforcer, StringAdapter};

use crate::{Engine, QUESTIONS, named, open};

/// The conditions stand in the matcher: a line of policy has none of its own.
const MODEL: &str = "
[request_definition]
r = sub, depth, act, obj, units

[policy_definition]
p = sub, act, obj, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.act == p.act && ((p.sub == \"*\" && r.units <= 100 && !keyMatch(r.obj, \"secret:*\")) || (r.sub == p.sub && r.obj == p.obj && r.depth < 4))
";

struct Asked<E> {
    name: &'static str,
    enforcer: E,
}

impl<E: CoreApi> Engine for Asked<E> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decide(&mut self, question: usize) -> bool {
        let question = &QUESTIONS[question];
        let asked = (
            question.principal,
            3,
            question.action,
            question.resource,
            question.units,
        );
        self.enforcer.enforce(asked).unwrap_or(false)
    }
}

/// Every question is evaluated.
pub(crate) fn asked(count: usize) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    Ok(Box::new(Asked {
        name: "casbin",
        enforcer: loaded::<Enforcer>(count)?,
    }))
}

/// Its cache remembers what it decided, by a hash of the question. It is asked one
/// question all the time, which is its best case.
pub(crate) fn remembered(count: usize) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    Ok(Box::new(Asked {
        name: "casbin, remembered",
        enforcer: loaded::<CachedEnforcer>(count)?,
    }))
}

fn loaded<E: CoreApi>(count: usize) -> Result<E, Box<dyn Error>> {
    let mut lines = String::new();
    for action in open(count) {
        writeln!(lines, "p, *, {action}, *, allow")?;
    }
    for policy in named(count) {
        writeln!(
            lines,
            "p, {}, {}, {}, {}",
            policy.principal,
            policy.action,
            policy.resource,
            if policy.forbids { "deny" } else { "allow" },
        )?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let model = DefaultModel::from_str(MODEL).await?;
        Ok(E::new(model, StringAdapter::new(lines)).await?)
    })
}
