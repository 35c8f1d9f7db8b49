//! Built-ins that keep something where neither freezing nor variables show it.
//!
//! In: places where a module names a global. Out: faults in the walk. Invariant: a built-in that
//! is named other than to call it, to compare it or to read a known property is refused.

use deno_ast::swc::ast::*;
use deno_ast::swc::common::{Span, Spanned};
use deno_ast::swc::ecma_visit::VisitWith;

use super::Reason;
use super::walk::Walk;

/// `RegExp`'s memory of the last match; `$1` to `$9` and their like begin with `$`.
const LEGACY: [&str; 5] = ["input", "lastMatch", "lastParen", "leftContext", "rightContext"];

/// Those of its names that hardly anything else has, so that an alias of `RegExp` is found too.
const OF_ANY_ALIAS: [&str; 4] = ["lastMatch", "lastParen", "leftContext", "rightContext"];

/// Functions of `Object` and `Reflect` that show whether an object is frozen, and throw nothing.
const SHOW_FROZEN: [(&str, &str); 12] = [
    ("Object", "getOwnPropertyDescriptor"),
    ("Object", "getOwnPropertyDescriptors"),
    ("Object", "isExtensible"),
    ("Object", "isFrozen"),
    ("Object", "isSealed"),
    ("Reflect", "defineProperty"),
    ("Reflect", "deleteProperty"),
    ("Reflect", "getOwnPropertyDescriptor"),
    ("Reflect", "isExtensible"),
    ("Reflect", "preventExtensions"),
    ("Reflect", "set"),
    ("Reflect", "setPrototypeOf"),
];

/// Names of the global object.
const GLOBAL: [&str; 4] = ["globalThis", "self", "window", "global"];

impl Walk<'_> {
    /// A global is named, in none of the ways that the other functions know to be harmless.
    pub(super) fn mention(&mut self, name: &str, at: Span) {
        let reason = match name {
            "eval" => Reason::Code("eval"),
            "Function" => Reason::Code("Function"),
            "WeakRef" | "FinalizationRegistry" | "RegExp" => Reason::Stateful(name.to_owned()),
            "Object" if self.is_at_import() => Reason::NullPrototype("Object"),
            "Reflect" if self.is_at_import() => Reason::NullPrototype("Reflect"),
            _ => return,
        };
        self.refuse(at, reason);
    }

    /// The global that an expression names: `Object` or `globalThis.Object`.
    fn global<'e>(&self, expr: &'e Expr) -> Option<&'e str> {
        match expr {
            Expr::Ident(name) => (name.ctxt == self.unresolved).then_some(&*name.sym),
            Expr::Paren(inner) => self.global(&inner.expr),
            Expr::Member(member) => {
                let object = self.global(&member.obj)?;
                GLOBAL.contains(&object).then(|| property(&member.prop))?
            }
            _ => None,
        }
    }

    /// An operand: a comparison passes nothing on.
    pub(super) fn compared(&mut self, operand: &Expr) {
        match self.global(operand) {
            Some("Object" | "Reflect" | "RegExp" | "Function") => {}
            _ => operand.visit_with(self),
        }
    }

    /// What is called with `new`, or without.
    pub(super) fn callee(&mut self, callee: &Expr) {
        match self.global(callee) {
            Some("Object" | "RegExp") => {}
            _ => callee.visit_with(self),
        }
    }

    pub(super) fn call(&mut self, call: &CallExpr) {
        if matches!(call.callee, Callee::Import(_)) && self.is_at_import() {
            self.refuse(call.span, Reason::Code("import()"));
        }
        let Callee::Expr(callee) = &call.callee else { return call.visit_children_with(self) };
        match callee.as_member() {
            Some(member) => {
                self.prototype_given(member, &call.args);
                let of_global = call.args.first().and_then(|arg| self.global(&arg.expr));
                if !self.is_outside_functions() && !of_global.is_some_and(|g| GLOBAL.contains(&g)) {
                    self.shows_frozen(member);
                }
                self.read(member, true);
            }
            None => self.callee(callee),
        }
        call.args.visit_with(self);
    }

    /// A call that gives an object its prototype.
    fn prototype_given(&mut self, member: &MemberExpr, args: &[ExprOrSpread]) {
        if !self.is_at_import() {
            return;
        }
        let (at, what) = match property(&member.prop) {
            Some("create") => (0, "Object.create"),
            Some("setPrototypeOf") => (1, "setPrototypeOf"),
            _ => return,
        };
        let given = args.get(at).filter(|arg| arg.spread.is_none()).map(|arg| &*arg.expr);
        let is_builtin = matches!(self.global(&member.obj), Some("Object" | "Reflect"));
        let is_refused = match given {
            Some(given) if is_builtin => !is_object(given),
            Some(given) => matches!(given, Expr::Lit(Lit::Null(_))),
            None => is_builtin,
        };
        if is_refused {
            self.refuse(member.span, Reason::NullPrototype(what));
        }
    }

    /// A function of `Object` or `Reflect` is named: nothing is thrown where it finds an object
    /// frozen, so nobody notices what the call came to.
    fn shows_frozen(&mut self, member: &MemberExpr) {
        let Some(object @ ("Object" | "Reflect")) = self.global(&member.obj) else { return };
        let is_shown = match property(&member.prop) {
            Some(name) => SHOW_FROZEN.contains(&(object, name)),
            None => true,
        };
        if is_shown {
            let text = format!("{object}.{}", property(&member.prop).unwrap_or("[…]"));
            self.refuse(member.span, Reason::Shown(text));
        }
    }

    /// `const { isFrozen } = Object`.
    pub(super) fn taken_apart(&mut self, variable: &VarDeclarator) {
        let Some(given) = variable.init.as_deref().filter(|_| variable.name.is_object()) else {
            return;
        };
        if let Some(object @ ("Object" | "Reflect")) = self.global(given) {
            self.refuse(given.span(), Reason::Shown(format!("{object}.[…]")));
        }
    }

    /// A property is read; `is_called`: and called, so it is not passed on.
    pub(super) fn read(&mut self, member: &MemberExpr, is_called: bool) {
        let name = property(&member.prop);
        if let MemberProp::Computed(computed) = &member.prop {
            computed.visit_with(self);
        }
        if !is_called {
            self.shows_frozen(member);
        }
        if name.is_some_and(|name| OF_ANY_ALIAS.contains(&name)) {
            self.refuse(member.span, Reason::Stateful(format!("RegExp.{}", name.unwrap_or(""))));
        }
        if name == Some("groups") && self.is_at_import() {
            self.groups.push(member.span.lo);
        }
        match (self.global(&member.obj), name) {
            (Some("RegExp"), Some(name)) if !LEGACY.contains(&name) && !name.starts_with('$') => {}
            (Some("RegExp"), name) => {
                let text = format!("RegExp.{}", name.unwrap_or("[…]"));
                self.refuse(member.span, Reason::Stateful(text));
            }
            (Some("Object" | "Reflect"), _) if !self.is_at_import() => {}
            (Some("Object" | "Reflect"), None | Some("groupBy")) => {
                self.refuse(member.span, Reason::NullPrototype("Object.groupBy"));
            }
            (Some("Object" | "Reflect"), Some("create" | "setPrototypeOf")) if !is_called => {
                self.refuse(member.span, Reason::NullPrototype("Object.create"));
            }
            (Some("Object" | "Reflect" | "Function"), Some(_)) => {}
            (Some("Proxy"), None | Some("revocable")) if self.is_at_import() => {
                self.refuse(member.span, Reason::Stateful("Proxy.revocable".to_owned()));
            }
            (Some(global), Some(name)) if GLOBAL.contains(&global) => {
                self.mention(name, member.span)
            }
            (_, Some(name @ ("WeakRef" | "FinalizationRegistry"))) => {
                self.mention(name, member.span)
            }
            _ => self.object(&member.obj, name),
        }
    }

    /// The object that a property is read of.
    fn object(&mut self, object: &Expr, name: Option<&str>) {
        match object {
            // Its address is a string: nothing of `import.meta` itself is kept.
            Expr::MetaProp(meta)
                if meta.kind == MetaPropKind::ImportMeta
                    && name.is_some()
                    && self.is_outside_functions() => {}
            object => object.visit_with(self),
        }
    }

    /// `class extends null` has a prototype without one.
    pub(super) fn super_class(&mut self, class: &Class) {
        if let Some(Expr::Lit(Lit::Null(null))) = class.super_class.as_deref()
            && self.is_at_import()
        {
            self.refuse(null.span, Reason::NullPrototype("extends null"));
        }
    }

    /// `{ __proto__: value }`.
    pub(super) fn prototype_property(&mut self, prop: &Prop) {
        let Prop::KeyValue(pair) = prop else { return };
        let is_prototype = match &pair.key {
            PropName::Ident(name) => name.sym == *"__proto__",
            PropName::Str(name) => name.value.as_str() == Some("__proto__"),
            _ => false,
        };
        if is_prototype && self.is_at_import() && !is_object(&pair.value) {
            self.refuse(pair.key.span(), Reason::NullPrototype("__proto__"));
        }
    }

    /// `object.__proto__ = value`.
    pub(super) fn prototype_assigned(&mut self, assign: &AssignExpr) {
        let AssignTarget::Simple(SimpleAssignTarget::Member(member)) = &assign.left else { return };
        let is_prototype = property(&member.prop) == Some("__proto__");
        if is_prototype && self.is_at_import() && !is_object(&assign.right) {
            self.refuse(member.span, Reason::NullPrototype("__proto__"));
        }
    }
}

/// The name of a property, where the text says it.
fn property(prop: &MemberProp) -> Option<&str> {
    match prop {
        MemberProp::Ident(name) => Some(&name.sym),
        MemberProp::Computed(computed) => match &*computed.expr {
            Expr::Lit(Lit::Str(text)) => text.value.as_str(),
            _ => None,
        },
        MemberProp::PrivateName(_) => None,
    }
}

/// Whether a value is an object and not null. An object has a prototype unless it was made without
/// one, which is refused where it is made.
fn is_object(value: &Expr) -> bool {
    match value {
        Expr::Object(_) | Expr::Array(_) | Expr::Fn(_) | Expr::Arrow(_) | Expr::Class(_) => true,
        Expr::New(_) => true,
        Expr::Member(member) => property(&member.prop) == Some("prototype"),
        Expr::Call(CallExpr { callee: Callee::Expr(callee), .. }) => {
            let method = callee.as_member().and_then(|member| property(&member.prop));
            method == Some("getPrototypeOf")
        }
        Expr::Paren(inner) => is_object(&inner.expr),
        _ => false,
    }
}
