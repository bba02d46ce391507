//! How deep and how large policies and a schema may be.
//!
//! Cedar's parser, its type checker and everything that walks an expression go down as
//! deep as the text does, and a thread whose stack ends takes the whole process with it.
//! Types of a schema that name one another grow by what each of them names, so a text of a
//! few hundred bytes can stand for more than memory holds. What is bounded here is looked
//! at before any of that: texts as they are, types as they were parsed and before they are
//! put in each other's place.

use std::collections::HashMap;

use serde_json::Value;

/// How deep a text may go, and what that takes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Brackets within brackets.
    nesting: usize,
    /// Operators, member accesses, indices and conditionals of one policy. Each may go one
    /// step deeper than the one before.
    steps: usize,
    /// Bytes of stack that suffice for both.
    stack: usize,
}

impl Bounds {
    /// Of what a server loads, and evaluates on threads with a stack as threads have.
    pub(crate) const LOADED: Self = Self {
        nesting: 40,
        steps: 1_000,
        stack: 64 << 20,
    };
    /// Of what is evaluated once.
    pub(crate) const ONCE: Self = Self {
        nesting: 400,
        steps: 20_000,
        stack: 256 << 20,
    };
}

const ENTITY_TYPES: usize = 1_000;
const ACTIONS: usize = 2_000;
const COMMON_TYPES: usize = 500;
/// Of an action, a type of principals and one of resources: what a policy is validated for.
const REQUESTS: usize = 50_000;
/// Policies, each with every one of these.
const VALIDATIONS: usize = 20_000_000;
/// Groups, or parents, one above the other.
const ABOVE: usize = 32;
/// Types that one type holds, whole, with all that they hold.
const TYPE_SIZE: u64 = 10_000;
/// The same of all attributes and contexts together.
const ALL_TYPES: u64 = 500_000;

/// Runs on a stack of its own that suffices for whatever is within these bounds, and on
/// the thread that asks: another one might begin on a processor of those who decide.
pub(crate) fn deep<T>(bounds: Bounds, work: impl FnOnce() -> T) -> T {
    stacker::grow(bounds.stack, work)
}

/// Which grammar a text is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    Policies,
    /// In which `<` and `>` are brackets.
    Schema,
}

/// The line of the first place of a text that goes too deep, counted from one, and what is
/// too deep there.
pub(crate) fn too_deep(text: &str, grammar: Grammar, bounds: Bounds) -> Option<(usize, String)> {
    let (mut line, mut depth, mut steps) = (1, 0_usize, 0_usize);
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\n' => line += 1,
            b'/' if rest.first() == Some(&b'/') => {
                let end = rest.iter().position(|byte| *byte == b'\n');
                rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
            }
            b'"' => rest = after_string(rest, &mut line),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'<' if grammar == Grammar::Schema => depth += 1,
            b'>' if grammar == Grammar::Schema => depth = depth.saturating_sub(1),
            b';' if depth == 0 => steps = 0,
            _ if byte.is_ascii_alphabetic() || byte == b'_' => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let end = rest
                    .iter()
                    .position(|byte| !word(byte))
                    .unwrap_or(rest.len());
                let (word, next) = rest.split_at(end);
                steps += usize::from(byte == b'i' && word == b"f");
                rest = next;
            }
            _ => {}
        }
        if grammar == Grammar::Policies && b"|&+-*!.[".contains(&byte) {
            steps += 1;
        }
        if depth > bounds.nesting {
            let most = bounds.nesting;
            let message = format!("brackets stand more than {most} deep within each other");
            return Some((line, message));
        }
        if steps > bounds.steps {
            let most = bounds.steps;
            let message = format!(
                "one policy has more than {most} operators and accesses; make it several, or \
                 a list into a set"
            );
            return Some((line, message));
        }
    }
    None
}

/// What comes after a string whose quote was read.
fn after_string<'a>(mut rest: &'a [u8], line: &mut usize) -> &'a [u8] {
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => break,
            b'\\' => rest = rest.get(1..).unwrap_or_default(),
            b'\n' => *line += 1,
            _ => {}
        }
    }
    rest
}

/// What of a schema is too large, in Cedar's JSON format of its fragments.
pub(crate) fn too_large(fragments: &[Value]) -> Option<String> {
    let mut sizes = Sizes::default();
    let (mut entities, mut actions) = (Above::default(), Above::default());
    let mut requests = 0_usize;
    for (space, name, body) in declared(fragments, "commonTypes") {
        sizes.known.insert(whole(space, name), (space, body));
    }
    for (space, name, body) in declared(fragments, "entityTypes") {
        let parents = listed(body, "memberOfTypes").filter_map(Value::as_str);
        let parents = parents.map(|parent| (space, parent));
        entities.0.insert(whole(space, name), parents.collect());
    }
    for (space, name, body) in declared(fragments, "actions") {
        requests = requests.saturating_add(requests_of(body));
        let groups = listed(body, "memberOf").filter_map(|group| group_of(space, group));
        actions.0.insert(action(space, name), groups.collect());
    }
    for (count, most, what) in [
        (sizes.known.len(), COMMON_TYPES, "common types"),
        (entities.0.len(), ENTITY_TYPES, "entity types"),
        (actions.0.len(), ACTIONS, "actions"),
        (requests, REQUESTS, "pairs of types that actions apply to"),
    ] {
        if count > most {
            return Some(format!(
                "there are {count} {what}; at most {most} are possible"
            ));
        }
    }
    if entities.are_too_high(whole) || actions.are_too_high(action) {
        return Some(format!(
            "parents or groups stand more than {ABOVE} above each other"
        ));
    }
    let mut all = 0_u64;
    for kind in ["commonTypes", "entityTypes", "actions"] {
        for (space, name, body) in declared(fragments, kind) {
            let size = sizes.of(space, body);
            if size > TYPE_SIZE {
                return Some(format!(
                    "`{name}` holds more than {TYPE_SIZE} types, with those that they hold"
                ));
            }
            all = all.saturating_add(size);
        }
    }
    (all > ALL_TYPES).then(|| format!("all types together hold more than {ALL_TYPES}"))
}

/// What the fragments declare of a kind: the namespace, the name and the declaration.
fn declared<'a>(
    fragments: &'a [Value],
    kind: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    let spaces = fragments.iter().filter_map(Value::as_object).flatten();
    spaces.flat_map(move |(space, parts)| {
        let declared = parts.get(kind).and_then(Value::as_object).into_iter();
        declared
            .flatten()
            .map(move |(name, body)| (space.as_str(), name.as_str(), body))
    })
}

fn listed<'a>(body: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    let items = body.get(member).and_then(Value::as_array);
    items.into_iter().flatten()
}

/// The namespace and the name of a group that an action of this namespace is in.
fn group_of<'a>(space: &'a str, group: &'a Value) -> Option<(&'a str, &'a str)> {
    let id = group.get("id")?.as_str()?;
    // `Action`, or `N::Action` of another namespace.
    let kind = group.get("type").and_then(Value::as_str);
    let other = kind.and_then(|kind| kind.rsplit_once("::"));
    Some((other.map_or(space, |(space, _)| space), id))
}

/// How many pairs of types an action applies to.
fn requests_of(action: &Value) -> usize {
    let types = |name| {
        let types = action.get("appliesTo")?.get(name)?.as_array()?;
        Some(types.len())
    };
    let pairs = types("principalTypes").zip(types("resourceTypes"));
    pairs.map_or(0, |(principals, resources)| {
        principals.saturating_mul(resources)
    })
}

/// Why so many policies are not validated for so many kinds of requests.
pub(crate) fn too_many(policies: usize, requests: usize) -> Option<String> {
    let checks = policies.saturating_mul(requests);
    (checks > VALIDATIONS).then(|| {
        format!(
            "{policies} policies for {requests} combinations of an action and types of \
             principals and resources are more than can be validated; at most {VALIDATIONS} \
             together are possible"
        )
    })
}

/// A name with its namespace.
fn whole(space: &str, name: &str) -> String {
    if space.is_empty() || name.contains("::") {
        name.to_owned()
    } else {
        format!("{space}::{name}")
    }
}

/// An action with its namespace. Its name may hold anything.
fn action(space: &str, name: &str) -> String {
    format!("{space}::{name:?}")
}

/// Names with their namespaces, and those right above each as they are written, with the
/// namespace they are written in.
#[derive(Default)]
struct Above<'a>(HashMap<String, Vec<(&'a str, &'a str)>>);

impl Above<'_> {
    /// Whether a name has more than [`ABOVE`] others one above the other, or stands above
    /// itself. What is written is looked for in its namespace, and then in none.
    fn are_too_high(&self, whole: fn(&str, &str) -> String) -> bool {
        let known = |name: &String| self.0.contains_key(name);
        let resolved = |(space, name): &(&str, &str)| {
            let places = [whole(space, name), whole("", name)];
            places.into_iter().find(known)
        };
        let mut left: HashMap<&str, Vec<String>> = self
            .0
            .iter()
            .map(|(name, above)| (name.as_str(), above.iter().filter_map(resolved).collect()))
            .collect();
        // Each round takes away those above whom nobody is left.
        for _ in 0..=ABOVE {
            let top: Vec<&str> = left
                .iter()
                .filter(|(_, above)| above.iter().all(|name| !left.contains_key(name.as_str())))
                .map(|(name, _)| *name)
                .collect();
            for name in top {
                left.remove(name);
            }
        }
        !left.is_empty()
    }
}

/// How many types each type holds.
#[derive(Default)]
struct Sizes<'a> {
    /// By its whole name, where it stands and what it is.
    known: HashMap<String, (&'a str, &'a Value)>,
    found: HashMap<String, u64>,
}

impl Sizes<'_> {
    /// Of a type, or of whatever holds types, which stands in this namespace. Cedar itself
    /// refuses a type that holds itself; here it is too large.
    fn of(&mut self, space: &str, body: &Value) -> u64 {
        match body {
            Value::Object(members) => members.iter().fold(1, |size, (name, value)| {
                size.saturating_add(match (name.as_str(), value) {
                    ("type" | "name", Value::String(named)) => self.of_named(space, named),
                    _ => self.of(space, value),
                })
            }),
            Value::Array(items) => items
                .iter()
                .fold(0, |size, item| size.saturating_add(self.of(space, item))),
            _ => 0,
        }
    }

    /// Of a common type by its name, which is looked for in its namespace, and then as it
    /// is. Anything else holds nothing.
    fn of_named(&mut self, space: &str, name: &str) -> u64 {
        let places = [whole(space, name), name.to_owned()];
        let known = |name: &String| self.known.contains_key(name);
        let Some(name) = places.into_iter().find(known) else {
            return 0;
        };
        if let Some(size) = self.found.get(&name) {
            return *size;
        }
        // Until it is known: who comes back to it holds itself.
        self.found.insert(name.clone(), u64::MAX);
        let held = self.known.get(&name).copied();
        let size = held.map_or(0, |(space, body)| self.of(space, body));
        self.found.insert(name, size);
        size
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    const NESTING: usize = Bounds::LOADED.nesting;
    const STEPS: usize = Bounds::LOADED.steps;

    fn policy(condition: &str) -> String {
        format!("permit (principal, action, resource) when {{ {condition} }};")
    }

    fn refused(text: &str) -> Option<usize> {
        too_deep(text, Grammar::Policies, Bounds::LOADED).map(|(line, _)| line)
    }

    #[test]
    fn what_stands_deep_in_a_policy_is_found() {
        let nested =
            |count: usize| policy(&format!("{}true{}", "(".repeat(count), ")".repeat(count)));
        assert_eq!(refused(&nested(NESTING - 1)), None);
        assert_eq!(refused(&format!("\n{}", nested(NESTING))), Some(2));
        let many = |count| policy(&vec!["context.units > 1"; count].join(" || "));
        assert_eq!(refused(&many(300)), None);
        assert_eq!(refused(&many(350)), Some(1));
        // Each policy for itself.
        assert_eq!(refused(&many(300).repeat(9)), None);
        for step in ["!", "-", ".x", "[\"x\"]", "if true then 1 else "] {
            assert_eq!(refused(&policy(&step.repeat(STEPS + 1))), Some(1), "{step}");
        }
        // Neither strings nor comments nor parts of names are any of that.
        let quiet = ["!".repeat(9_000), "(".repeat(9_000), "\\\"[".repeat(3_000)];
        for text in quiet {
            assert_eq!(refused(&policy(&format!("\"{text}\" == \"\""))), None);
            assert_eq!(refused(&format!("// {text}\n{}", policy("true"))), None);
        }
        assert_eq!(refused(&policy(&vec!["gif"; 5_000].join(", "))), None);
        assert_eq!(refused("\"unended \\"), None);
    }

    #[test]
    fn a_type_within_types_is_found_in_a_schema() {
        let sets = |count: usize| {
            format!(
                "type T = {}Long{};",
                "Set<".repeat(count),
                ">".repeat(count)
            )
        };
        let deep = |count| too_deep(&sets(count), Grammar::Schema, Bounds::LOADED);
        assert!(deep(NESTING).is_none());
        assert!(deep(NESTING + 1).is_some());
    }

    #[test]
    fn types_that_hold_each_other_twice_are_found() {
        let schema = |count: usize| {
            let types = (1..count).map(|n| {
                let below =
                    serde_json::json!({"type": "EntityOrCommon", "name": format!("T{}", n - 1)});
                let attributes = serde_json::json!({"a": below, "b": below});
                (
                    format!("T{n}"),
                    serde_json::json!({"type": "Record", "attributes": attributes}),
                )
            });
            let first = ("T0".to_owned(), serde_json::json!({"type": "Long"}));
            let types: Map<String, Value> = std::iter::once(first).chain(types).collect();
            serde_json::json!({"N": {"commonTypes": types, "entityTypes": {}, "actions": {}}})
        };
        assert_eq!(too_large(&[schema(8)]), None);
        assert!(too_large(&[schema(40)]).is_some_and(|why| why.contains("holds more")));
        assert!(too_large(&[schema(COMMON_TYPES + 1)]).is_some_and(|why| why.contains("common")));
    }

    #[test]
    fn parents_without_end_are_found() {
        let chain = |count: usize| {
            let types = (0..count).map(|n| {
                let above = serde_json::json!({"memberOfTypes": [format!("E{}", n + 1)]});
                (format!("E{n}"), above)
            });
            let types: Map<String, Value> = types.collect();
            serde_json::json!({"N": {"entityTypes": types, "actions": {}}})
        };
        assert_eq!(too_large(&[chain(ABOVE)]), None);
        assert!(too_large(&[chain(ABOVE + 2)]).is_some());
        let own = serde_json::json!({"": {"entityTypes": {}, "actions": {
            "a": {"memberOf": [{"id": "a"}]}
        }}});
        assert!(too_large(&[own]).is_some());
        // From one namespace to the other and back, by whole names or by none.
        let both = |count: usize| {
            let (mut inner, mut outer) = (Map::new(), Map::new());
            let (mut groups, mut others) = (Map::new(), Map::new());
            for n in 0..count {
                let within = format!("N::I{n}");
                inner.insert(
                    format!("I{n}"),
                    serde_json::json!({"memberOfTypes": [format!("O{n}")]}),
                );
                outer.insert(
                    format!("O{}", n + 1),
                    serde_json::json!({"memberOfTypes": [within]}),
                );
                let group = serde_json::json!({"id": "b".repeat(n + 1), "type": "Action"});
                groups.insert("a".repeat(n + 1), serde_json::json!({"memberOf": [group]}));
                let group = serde_json::json!({"id": "a".repeat(n + 2), "type": "N::Action"});
                others.insert("b".repeat(n + 1), serde_json::json!({"memberOf": [group]}));
            }
            [
                serde_json::json!({"N": {"entityTypes": inner, "actions": {}},
                    "": {"entityTypes": outer, "actions": {}}}),
                serde_json::json!({"N": {"entityTypes": {}, "actions": groups},
                    "": {"entityTypes": {}, "actions": others}}),
            ]
        };
        for (few, many) in both(ABOVE / 2 - 1).into_iter().zip(both(ABOVE)) {
            assert_eq!(too_large(&[few]), None);
            assert!(too_large(&[many]).is_some());
        }
    }
}
