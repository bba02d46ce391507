//! Strict validation of policies against the schema.

use std::collections::HashMap;

use cedar_policy::{PolicyId as CedarId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use crate::error::{Finding, PolicyError};
use crate::policies::{PolicyInfo, line_of, message_of};
use crate::schema::Served;
use crate::sources::PolicySources;

/// Strict validation; returns the warnings.
///
/// On the thread that asks for it, however many policies there are: whoever publishes takes
/// one processor and leaves the others to those who decide.
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
    let validator = Validator::new(served.schema.clone());
    let result = validator.validate(set, ValidationMode::Strict);
    let mut errors: Vec<Finding> = result
        .validation_errors()
        .map(|error| finding(error.policy_id(), error))
        .collect();
    if !errors.is_empty() {
        errors.sort();
        return Err(PolicyError::Invalid(errors));
    }
    Ok(result
        .validation_warnings()
        .map(|warning| finding(warning.policy_id(), warning))
        .collect())
}
