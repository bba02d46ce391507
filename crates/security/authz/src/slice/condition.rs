//! What the conditions of a policy read.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, Var};

/// What an expression reads of a request. Where it cannot be told exactly, it is
/// more than that and never less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `principal`, in any way.
    pub(crate) principal: bool,
    /// An attribute or ancestor of the principal: evaluation needs its entity.
    pub(crate) of_principal: bool,
    /// An attribute or ancestor of the resource.
    pub(crate) of_resource: bool,
    /// An attribute, tag or ancestor of any other entity, found whichever way.
    pub(crate) of_others: bool,
    /// Some action beside or instead of the scope's, so action entities as well.
    pub(crate) actions: bool,
    /// `context` other than by attributes that are named.
    pub(crate) whole_context: bool,
    /// The attributes of `context` that are read or asked for by `has`.
    pub(crate) context: BTreeSet<Box<str>>,
}

impl Facts {
    pub(crate) fn of(expression: &Expr) -> Self {
        let mut facts = Self::default();
        facts.read(expression);
        facts
    }

    /// What both read.
    pub(crate) fn add(&mut self, other: &Self) {
        self.principal |= other.principal;
        self.of_principal |= other.of_principal;
        self.of_resource |= other.of_resource;
        self.of_others |= other.of_others;
        self.actions |= other.actions;
        self.whole_context |= other.whole_context;
        self.context.extend(other.context.iter().cloned());
    }

    fn read(&mut self, expression: &Expr) {
        match expression.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => self.actions |= uid.is_action(),
            ExprKind::Lit(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
            ExprKind::Var(Var::Principal) => self.principal = true,
            ExprKind::Var(Var::Action) => self.actions = true,
            ExprKind::Var(Var::Resource) => {}
            ExprKind::Var(Var::Context) => self.whole_context = true,
            ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
                self.attribute(expr, attr);
            }
            ExprKind::ExtHasAttr { expr, attrs } => self.attribute(expr, attrs.first()),
            ExprKind::BinaryApp { op, arg1, arg2 } => {
                if matches!(op, BinaryOp::In | BinaryOp::GetTag | BinaryOp::HasTag) {
                    self.look_into(arg1);
                }
                self.read(arg1);
                self.read(arg2);
            }
            ExprKind::UnaryApp { arg, .. } => self.read(arg),
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.read(left);
                self.read(right);
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                self.read(test_expr);
                self.read(then_expr);
                self.read(else_expr);
            }
            ExprKind::Like { expr, .. } | ExprKind::Is { expr, .. } => self.read(expr),
            ExprKind::ExtensionFunctionApp { args, .. } => {
                args.iter().for_each(|arg| self.read(arg));
            }
            ExprKind::Set(items) => items.iter().for_each(|item| self.read(item)),
            ExprKind::Record(fields) => fields.values().for_each(|value| self.read(value)),
        }
    }

    fn attribute(&mut self, base: &Expr, name: &str) {
        match base.expr_kind() {
            ExprKind::Var(Var::Context) => {
                self.context.insert(name.into());
            }
            // `context.a.b` reads `a`.
            ExprKind::GetAttr { .. } if roots_in_context(base) => self.read(base),
            _ => {
                self.look_into(base);
                self.read(base);
            }
        }
    }

    /// The value of this expression is looked up among the entities.
    fn look_into(&mut self, entity: &Expr) {
        match entity.expr_kind() {
            ExprKind::Var(Var::Principal) => self.of_principal = true,
            ExprKind::Var(Var::Resource) => self.of_resource = true,
            // Reading the variable says that action entities are needed.
            ExprKind::Var(Var::Action) => {}
            _ => self.of_others = true,
        }
    }
}

/// Whether this is `context.a.b...`: records within the context, as the values
/// that the engine puts there hold no entities.
fn roots_in_context(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::Var(Var::Context) => true,
        ExprKind::GetAttr { expr, .. } => roots_in_context(expr),
        _ => false,
    }
}
