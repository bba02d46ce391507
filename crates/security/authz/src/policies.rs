//! From policy text to something that can be asked.

use std::collections::HashMap;
use std::str::FromStr as _;

use cedar_policy::{Effect, Policy, PolicyId as CedarId, PolicySet, Template};
use miette::Diagnostic;

use crate::bounds::{Bounds, Grammar, deep, too_deep, too_many};
use crate::error::{Finding, PolicyError};
use crate::held::{self, HeldBy};
use crate::links;
use crate::model::PolicyId;
use crate::rules::{Numbers, Rules};
use crate::schema::Served;
use crate::slice::{LayerNumber, Slices};
use crate::sources::PolicySources;
use crate::validation::validate;

/// The longest `@id`, in bytes.
const MAX_ID: usize = 128;

/// What ends a line, for one reader or another.
const LINE_BREAKS: [char; 7] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// What a policy does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyEffect {
    /// It permits.
    Permit,
    /// It forbids.
    Forbid,
}

/// One policy as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its name.
    pub id: PolicyId,
    /// What it does.
    pub effect: PolicyEffect,
    /// The file it stands in.
    pub file: String,
    /// The line it starts in, counted from one.
    pub line: Option<usize>,
    /// The value of `@oversight` or `@requireApproval`.
    pub oversight: Option<String>,
    /// The value of `@reason`: shown to whoever is refused.
    pub reason: Option<String>,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Every policy, in the order of the files.
    pub policies: Vec<PolicyInfo>,
    /// The actions the schema knows, sorted.
    pub actions: Vec<String>,
    /// The resource types the schema knows, sorted.
    pub resources: Vec<String>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Finding>,
}

/// A schema and policies that fit it, ready to be asked.
pub struct CompiledPolicies {
    pub(crate) served: Served,
    pub(crate) slices: Slices,
    pub(crate) numbers: Numbers,
    /// By the name of the action.
    rules: HashMap<String, Rules>,
    /// Where a policy's [`PolicyInfo`] stands in the report.
    infos: HashMap<PolicyId, usize>,
    /// What each policy with `@oversight` says.
    digests: HashMap<PolicyId, String>,
    report: LoadReport,
}

impl std::fmt::Debug for CompiledPolicies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledPolicies")
            .field("policies", &self.report.policies.len())
            .finish_non_exhaustive()
    }
}

impl CompiledPolicies {
    /// Parses, checks and validates everything, or says all that is wrong in the
    /// first step that finds something.
    pub fn compile(sources: &PolicySources) -> Result<Self, PolicyError> {
        deep(Bounds::LOADED, || Self::compiled(sources))
    }

    fn compiled(sources: &PolicySources) -> Result<Self, PolicyError> {
        let served = Served::load(&sources.schema)?;
        let parsed = parse(&sources.policies)?;
        let Named {
            set,
            policies: infos,
            templates,
        } = name(parsed, &sources.links)?;
        let requests = served.schema.request_envs().count();
        if let Some(message) = too_many(infos.len() + templates.len(), requests) {
            return Err(PolicyError::Invalid(vec![Finding {
                file: String::new(),
                line: None,
                policy: None,
                message,
            }]));
        }
        let mut report = LoadReport {
            actions: served.actions(),
            resources: served.resources(),
            ..LoadReport::default()
        };
        report.warnings = validate(&served, &set, infos.iter().chain(&templates), sources)?;
        report
            .warnings
            .extend(infos.iter().filter_map(|info| unliftable(&set, info)));
        report.warnings.sort();
        let digests = digests(&set, &infos)?;
        let by_id = (0_usize..)
            .zip(&infos)
            .map(|(position, info)| (info.id.clone(), position))
            .collect();
        report.policies = infos;
        let slices = Slices::new(set.policies().map(|policy| policy.as_ref().clone()));
        let numbers = Numbers::new(&slices, &served);
        let rules = served
            .action_shapes()
            .map(|(name, action)| (name.to_owned(), Rules::new(&slices, action)))
            .collect();
        Ok(Self {
            served,
            slices,
            numbers,
            rules,
            infos: by_id,
            digests,
            report,
        })
    }

    /// What was loaded.
    #[must_use]
    pub const fn report(&self) -> &LoadReport {
        &self.report
    }

    pub(crate) fn rules(&self, action: &str) -> Option<&Rules> {
        self.rules.get(action)
    }

    /// Where the policies of an action lie.
    pub(crate) fn layers(&self, action: &str) -> &[LayerNumber] {
        self.rules(action).map_or(&[], |rules| &rules.layers)
    }

    pub(crate) fn info(&self, id: &PolicyId) -> Option<&PolicyInfo> {
        self.report.policies.get(*self.infos.get(id)?)
    }

    /// The `@oversight` value of a policy.
    pub(crate) fn oversight_of(&self, number: u32) -> Option<&str> {
        let id = &self.slices.get(number)?.id;
        self.info(id)?.oversight.as_deref()
    }

    /// These policies, each with what it says. Only one with `@oversight` holds an
    /// action back, so every one that does has a digest.
    pub(crate) fn held_by(&self, policies: &[PolicyId]) -> HeldBy {
        policies
            .iter()
            .map(|id| {
                (
                    id.clone(),
                    self.digests.get(id).cloned().unwrap_or_default(),
                )
            })
            .collect()
    }

    /// The `@reason` of a policy.
    pub(crate) fn reason(&self, id: &PolicyId) -> Option<&str> {
        self.info(id)?.reason.as_deref()
    }
}

/// The line of an offset into a text, counted from one.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Where a diagnostic of this text points to.
pub(crate) fn line_of(diagnostic: &dyn Diagnostic, text: &str) -> Option<usize> {
    let label = diagnostic.labels()?.next()?;
    Some(line_at(text, label.offset()))
}

/// The message of a diagnostic with its help.
pub(crate) fn message_of(diagnostic: &dyn Diagnostic) -> String {
    match diagnostic.help() {
        Some(help) => format!("{diagnostic} ({help})"),
        None => diagnostic.to_string(),
    }
}

/// What stands in a file: a policy, or a template of policies.
enum Body {
    Policy(Policy),
    Template(Template),
}

impl Body {
    fn annotation(&self, name: &str) -> Option<&str> {
        match self {
            Self::Policy(policy) => policy.annotation(name),
            Self::Template(template) => template.annotation(name),
        }
    }

    fn effect(&self) -> PolicyEffect {
        let effect = match self {
            Self::Policy(policy) => policy.effect(),
            Self::Template(template) => template.effect(),
        };
        match effect {
            Effect::Permit => PolicyEffect::Permit,
            Effect::Forbid => PolicyEffect::Forbid,
        }
    }
}

struct Parsed {
    body: Body,
    file: String,
    line: Option<usize>,
}

impl Parsed {
    fn finding(&self, message: impl Into<String>) -> Finding {
        Finding {
            file: self.file.clone(),
            line: self.line,
            policy: self.body.annotation("id").map(str::to_owned),
            message: message.into(),
        }
    }
}

/// Every policy and template of the files, in order.
fn parse(files: &[(String, String)]) -> Result<Vec<Parsed>, PolicyError> {
    let mut parsed = Vec::new();
    let mut broken = Vec::new();
    for (file, text) in files {
        if let Some((line, message)) = too_deep(text, Grammar::Policies, Bounds::LOADED) {
            broken.push(Finding {
                file: file.clone(),
                line: Some(line),
                policy: None,
                message,
            });
            continue;
        }
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                broken.extend(errors.iter().map(|error| Finding {
                    file: file.clone(),
                    line: line_of(error, text),
                    policy: None,
                    message: message_of(error),
                }));
                continue;
            }
        };
        let policies = set.policies().map(|policy| {
            let offset = policy.as_ref().loc().map(|loc| loc.span.offset());
            (offset, Body::Policy(policy.clone()))
        });
        let templates = set.templates().map(|template| {
            let offset = template.as_ref().loc().map(|loc| loc.span.offset());
            (offset, Body::Template(template.clone()))
        });
        let mut here: Vec<_> = policies.chain(templates).collect();
        here.sort_by_key(|(offset, _)| *offset);
        // Counted on from the one before: a file may hold thousands.
        let (mut line, mut seen) = (1, 0);
        for (offset, body) in here {
            if let Some(offset) = offset {
                let between = text.as_bytes().get(seen..offset).unwrap_or_default();
                line += between.iter().filter(|byte| **byte == b'\n').count();
                seen = seen.max(offset);
            }
            parsed.push(Parsed {
                body,
                file: file.clone(),
                line: offset.map(|_| line),
            });
        }
    }
    if broken.is_empty() {
        Ok(parsed)
    } else {
        Err(PolicyError::Syntax(broken))
    }
}

/// Policies with their names. Templates are in the set but permit and forbid
/// nothing; what is made from them does.
pub(crate) struct Named {
    pub(crate) set: PolicySet,
    pub(crate) policies: Vec<PolicyInfo>,
    pub(crate) templates: Vec<PolicyInfo>,
}

/// Every policy under its name, not validated.
pub(crate) fn named(sources: &PolicySources) -> Result<Named, PolicyError> {
    name(parse(&sources.policies)?, &sources.links)
}

/// Gives each policy its name, reads its annotations, and makes the policies that
/// the links ask for.
fn name(parsed: Vec<Parsed>, links: &[(String, String)]) -> Result<Named, PolicyError> {
    let mut findings = Vec::new();
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut named = Named {
        set: PolicySet::new(),
        policies: Vec::new(),
        templates: Vec::new(),
    };
    for (position, parsed) in parsed.into_iter().enumerate() {
        let id = parsed
            .body
            .annotation("id")
            .map_or_else(|| format!("policy{position}"), str::to_owned);
        if let Some(problem) = bad_id(&id).or_else(|| already(&mut taken, &id, &parsed.file)) {
            findings.push(parsed.finding(problem));
            continue;
        }
        let effect = parsed.body.effect();
        let read = oversight(&parsed.body, effect)
            .and_then(|oversight| Ok((oversight, reason(&parsed.body)?)));
        let (oversight, reason) = match read {
            Ok(read) => read,
            Err(problem) => {
                findings.push(parsed.finding(problem));
                continue;
            }
        };
        let info = PolicyInfo {
            id: PolicyId::from(id.as_str()),
            effect,
            oversight,
            reason,
            file: parsed.file,
            line: parsed.line,
        };
        let id = CedarId::new(id);
        let added = match parsed.body {
            Body::Policy(policy) => {
                named.policies.push(info);
                named.set.add(policy.new_id(id))
            }
            Body::Template(template) => {
                named.templates.push(info);
                named.set.add_template(template.new_id(id))
            }
        };
        if let Err(error) = added {
            findings.push(Finding {
                file: String::new(),
                line: None,
                policy: None,
                message: error.to_string(),
            });
        }
    }
    if !findings.is_empty() {
        return Err(PolicyError::Annotation(findings));
    }
    link(&mut named, &mut taken, links)?;
    Ok(named)
}

fn already(taken: &mut HashMap<String, String>, id: &str, file: &str) -> Option<String> {
    let first = taken.insert(id.to_owned(), file.to_owned())?;
    Some(format!(
        "the id `{id}` is taken by another policy of {first}; ids are unique"
    ))
}

/// Makes the policies that the links ask for.
fn link(
    named: &mut Named,
    taken: &mut HashMap<String, String>,
    files: &[(String, String)],
) -> Result<(), PolicyError> {
    let mut findings = Vec::new();
    for (file, text) in files {
        let finding = |policy: Option<&str>, message: String| Finding {
            file: file.clone(),
            line: None,
            policy: policy.map(str::to_owned),
            message,
        };
        let links = match links::parse(text) {
            Ok(links) => links,
            Err(problem) => {
                findings.push(finding(None, problem));
                continue;
            }
        };
        for link in links {
            let id = link.link_id.as_str();
            if let Some(problem) = bad_id(id).or_else(|| already(taken, id, file)) {
                findings.push(finding(Some(id), problem));
                continue;
            }
            if let Err(problem) = link.apply(&mut named.set) {
                findings.push(finding(Some(id), problem));
                continue;
            }
            let template = named
                .templates
                .iter()
                .find(|template| template.id.as_str() == link.template_id);
            named.policies.extend(template.map(|template| PolicyInfo {
                id: PolicyId::from(id),
                file: file.clone(),
                line: None,
                ..template.clone()
            }));
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(PolicyError::Link(findings))
    }
}

fn bad_id(id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    let good = (1..=MAX_ID).contains(&id.len()) && id.chars().all(plain);
    (!good).then(|| format!("an @id is 1 to {MAX_ID} letters, digits and `-_.:/`, not {id:?}"))
}

fn oversight(policy: &Body, effect: PolicyEffect) -> Result<Option<String>, String> {
    let named = [
        ("@oversight", "oversight"),
        ("@requireApproval", "requireApproval"),
    ]
    .map(|(shown, key)| policy.annotation(key).map(|value| (shown, value)));
    let (shown, value) = match named {
        [None, None] => return Ok(None),
        [Some(_), Some(_)] => {
            return Err("@oversight and @requireApproval mean the same; keep one".to_owned());
        }
        [Some(one), None] | [None, Some(one)] => one,
    };
    if effect == PolicyEffect::Permit {
        return Err(format!(
            "{shown} belongs on a forbid with `unless {{ context.oversight.approved }}`; \
             a permit holds nothing back"
        ));
    }
    if value.trim().is_empty() {
        return Err(format!(
            "{shown} needs a value that names the kind of approval, such as {shown}(\"release\")"
        ));
    }
    Ok(Some(value.to_owned()))
}

/// It stands in answers, logs and terminals, which give it one line.
fn reason(policy: &Body) -> Result<Option<String>, String> {
    let Some(text) = policy.annotation("reason") else {
        return Ok(None);
    };
    if text.contains(LINE_BREAKS) {
        return Err("a @reason is one line, without a line break".to_owned());
    }
    Ok(Some(text.to_owned()).filter(|text| !text.trim().is_empty()))
}

/// What each policy with `@oversight` says.
fn digests(
    set: &PolicySet,
    infos: &[PolicyInfo],
) -> Result<HashMap<PolicyId, String>, PolicyError> {
    let mut digests = HashMap::new();
    let mut findings = Vec::new();
    for info in infos.iter().filter(|info| info.oversight.is_some()) {
        let policy = set.policy(&CedarId::new(info.id.as_str()));
        match policy.map(held::digest) {
            Some(Ok(digest)) => {
                digests.insert(info.id.clone(), digest);
            }
            told => findings.push(Finding {
                file: info.file.clone(),
                line: info.line,
                policy: Some(info.id.to_string()),
                message: match told {
                    Some(Err(problem)) => format!("it has no JSON form to approve: {problem}"),
                    _ => "it is not in the set".to_owned(),
                },
            }),
        }
    }
    if findings.is_empty() {
        Ok(digests)
    } else {
        Err(PolicyError::Annotation(findings))
    }
}

/// An oversight policy that no approval can lift.
fn unliftable(set: &PolicySet, info: &PolicyInfo) -> Option<Finding> {
    info.oversight.as_ref()?;
    let policy = set.policy(&CedarId::new(info.id.as_str()))?;
    // The printed form of the attribute access; a policy that mentions it in
    // another way only misses the warning's absence, not its effect.
    let text = policy.to_string();
    let mentions = text.contains("oversight.approved") || text.contains("[\"approved\"]");
    (!mentions).then(|| Finding {
        file: info.file.clone(),
        line: info.line,
        policy: Some(info.id.to_string()),
        message: "no approval lifts this policy, so it is a plain forbid: add \
                  `unless { context.oversight.approved }`"
            .to_owned(),
    })
}
