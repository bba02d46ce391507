//! Strict validation of policies against the schema.

use std::collections::HashMap;

use cedar_policy::{
    Policy, PolicyId as CedarId, PolicySet, PolicySetError, ValidationMode, ValidationResult,
    Validator,
};
use miette::Diagnostic;

use crate::error::{Finding, PolicyError};
use crate::policies::{PolicyInfo, line_of, message_of};
use crate::schema::Served;
use crate::sources::PolicySources;

/// Fewer policies than this are validated where they are.
const WORTH_A_THREAD: usize = 256;

/// Strict validation; returns the warnings.
///
/// The validator looks at one policy at a time, in every environment the schema
/// has; so many policies are shared out over the processors.
pub(crate) fn validate<'a>(
    served: &Served,
    set: &PolicySet,
    infos: impl Iterator<Item = &'a PolicyInfo>,
    sources: &PolicySources,
) -> Result<Vec<Finding>, PolicyError> {
    let infos: HashMap<&str, &PolicyInfo> = infos.map(|info| (info.id.as_str(), info)).collect();
    let texts: HashMap<&str, &str> = sources
        .policies
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()))
        .collect();
    let finding = |id: &CedarId, diagnostic: &dyn Diagnostic| {
        let id: &str = id.as_ref();
        let info = infos.get(id);
        let file = info.map_or("", |info| info.file.as_str());
        Finding {
            file: file.to_owned(),
            line: texts
                .get(file)
                .and_then(|text| line_of(diagnostic, text))
                .or(info.and_then(|info| info.line)),
            policy: Some(id.to_owned()),
            message: message_of(diagnostic),
        }
    };
    let results = validated(served, set)?;
    let mut errors: Vec<Finding> = results
        .iter()
        .flat_map(ValidationResult::validation_errors)
        .map(|error| finding(error.policy_id(), error))
        .collect();
    if !errors.is_empty() {
        errors.sort();
        return Err(PolicyError::Invalid(errors));
    }
    Ok(results
        .iter()
        .flat_map(ValidationResult::validation_warnings)
        .map(|warning| finding(warning.policy_id(), warning))
        .collect())
}

/// The validator's results; together they are those of the whole set.
fn validated(served: &Served, set: &PolicySet) -> Result<Vec<ValidationResult>, PolicyError> {
    let of = |set: &PolicySet| {
        Validator::new(served.schema.clone()).validate(set, ValidationMode::Strict)
    };
    let (linked, alone): (Vec<&Policy>, Vec<&Policy>) = set
        .policies()
        .partition(|policy| policy.template_id().is_some());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if threads < 2 || alone.len() < WORTH_A_THREAD {
        return Ok(vec![of(set)]);
    }
    let broken = |error: PolicySetError| {
        PolicyError::Invalid(vec![Finding {
            file: String::new(),
            line: None,
            policy: None,
            message: error.to_string(),
        }])
    };
    let mut parts = Vec::new();
    for chunk in alone.chunks(alone.len().div_ceil(threads)) {
        let policies = chunk.iter().copied().cloned();
        parts.push(PolicySet::from_policies(policies).map_err(broken)?);
    }
    // Templates with what is linked from them: the set without the others.
    let mut rest = PolicySet::new();
    for template in set.templates() {
        rest.add_template(template.clone()).map_err(broken)?;
    }
    for policy in linked {
        if let (Some(template), Some(values)) = (policy.template_id(), policy.template_links()) {
            rest.link(template.clone(), policy.id().clone(), values)
                .map_err(broken)?;
        }
    }
    parts.push(rest);
    Ok(std::thread::scope(|scope| {
        let running: Vec<_> = parts.iter().map(|part| scope.spawn(|| of(part))).collect();
        running
            .into_iter()
            .zip(&parts)
            // A thread that ended early is done over, here.
            .map(|(thread, part)| thread.join().unwrap_or_else(|_| of(part)))
            .collect()
    }))
}
