//! Rego by regorus: in its virtual machine, which is the faster of the two ways it
//! has, and by its interpreter where the policies are too many for the machine
//! (65,535 instructions in version 0.14).

use std::error::Error;
use std::fmt::Write as _;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use regorus::{CompiledPolicy, Rc, Value};
use serde_json::json;

use crate::{Engine, QUESTIONS, named, open};

const ENTRY: &str = "data.bench.allow";
const HEAD: &str = "package bench\nimport rego.v1\n";
const DECISION: &str = "default allow := false\nallow if { permitted; not forbidden }\n";
/// Rules in one file: it takes none above a mebibyte.
const RULES_EACH: usize = 4_000;

struct Machine {
    name: &'static str,
    vm: RegoVM,
    inputs: Vec<Value>,
}

impl Engine for Machine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decide(&mut self, question: usize) -> bool {
        self.vm.set_input(self.inputs[question].clone());
        matches!(self.vm.execute(), Ok(Value::Bool(true)))
    }
}

struct Interpreter {
    policy: CompiledPolicy,
    inputs: Vec<Value>,
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "regorus, interpreted"
    }

    fn decide(&mut self, question: usize) -> bool {
        let answer = self.policy.eval_with_input(self.inputs[question].clone());
        matches!(answer, Ok(Value::Bool(true)))
    }
}

/// A rule for each policy, as one writes it down.
pub(crate) fn rules(count: usize) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    let mut text = HEAD.to_owned() + DECISION;
    for action in open(count) {
        writeln!(
            text,
            "permitted if {{ input.action == \"{action}\"; input.units <= 100; \
             not startswith(input.resource, \"secret:\") }}"
        )?;
    }
    let mut texts = Vec::new();
    for (place, policy) in named(count).enumerate() {
        if place % RULES_EACH == RULES_EACH - 1 {
            texts.push(std::mem::replace(&mut text, HEAD.to_owned()));
        }
        writeln!(
            text,
            "{} if {{ input.principal == \"{}\"; input.action == \"{}\"; \
             input.resource == \"{}\"; input.depth < 4 }}",
            if policy.forbids {
                "forbidden"
            } else {
                "permitted"
            },
            policy.principal,
            policy.action,
            policy.resource,
        )?;
    }
    if !named(count).any(|policy| policy.forbids) {
        text.push_str("forbidden if false\n");
    }
    texts.push(text);
    engine("regorus", texts, Value::new_object())
}

/// Policies as data that a few rules look up by principal, action and resource: the
/// index written by hand, which every kind of scope needs anew.
pub(crate) fn data(count: usize) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    let text = HEAD.to_owned()
        + DECISION
        + "permitted if { most := data.open[input.action]; input.units <= most; \
           not startswith(input.resource, \"secret:\") }\n\
           permitted if { depth := data.permits[input.principal][input.action][input.resource]; \
           input.depth < depth }\n\
           forbidden if { depth := data.forbids[input.principal][input.action][input.resource]; \
           input.depth < depth }\n";
    let mut data = json!({"open": {}, "permits": {}, "forbids": {}});
    for action in open(count) {
        data["open"][action] = json!(100);
    }
    for policy in named(count) {
        let kind = if policy.forbids { "forbids" } else { "permits" };
        data[kind][policy.principal] = json!({policy.action: {policy.resource: 4}});
    }
    engine(
        "regorus, policies as data",
        vec![text],
        Value::from_json_str(&data.to_string())?,
    )
}

fn engine(
    name: &'static str,
    texts: Vec<String>,
    data: Value,
) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    let mut engine = regorus::Engine::new();
    for (place, text) in texts.into_iter().enumerate() {
        engine.add_policy(format!("{place}.rego"), text)?;
    }
    engine.add_data(data.clone())?;
    let entry: Rc<str> = ENTRY.into();
    let policy = engine.compile_with_entrypoint(&entry)?;
    let inputs = inputs()?;
    let Ok(program) = Compiler::compile_from_policy(&policy, &[ENTRY]) else {
        return Ok(Box::new(Interpreter { policy, inputs }));
    };
    let mut vm = RegoVM::new();
    vm.set_max_instructions(usize::MAX);
    vm.load_program(program);
    vm.set_data(data).map_err(|error| error.to_string())?;
    Ok(Box::new(Machine { name, vm, inputs }))
}

fn inputs() -> Result<Vec<Value>, Box<dyn Error>> {
    let inputs = QUESTIONS.iter().map(|question| {
        let input = json!({
            "principal": question.principal,
            "depth": 3,
            "action": question.action,
            "resource": question.resource,
            "units": question.units,
        });
        Value::from_json_str(&input.to_string())
    });
    Ok(inputs.collect::<Result<_, _>>()?)
}
