//! The walk: which function declares which variable, and which assigns it.
//!
//! In: a module whose scopes are resolved. Out: the first thing in it that may keep something of a
//! call. Invariant: one pass; a variable that nobody is seen to declare counts as the module's.

use std::collections::{HashMap, HashSet};

use deno_ast::swc::ast::*;
use deno_ast::swc::atoms::Atom;
use deno_ast::swc::common::{BytePos, Span, Spanned, SyntaxContext};
use deno_ast::swc::ecma_visit::{Visit, VisitWith};
use deno_ast::swc::utils::find_pat_ids;

use super::stamps::Stamps;
use super::{Ends, Reason};
use crate::prune::has_silent_members;

/// The module itself among its functions.
const MODULE: usize = 0;

/// Methods that change the array that they are called on.
const OF_ARRAYS: [&str; 9] =
    ["push", "pop", "shift", "unshift", "splice", "sort", "reverse", "fill", "copyWithin"];

/// The state of the walk.
pub(super) struct Walk<'a> {
    ran: &'a Ends,
    start: BytePos,
    /// Context of identifiers that no scope of the module declares.
    pub(super) unresolved: SyntaxContext,
    functions: Vec<Scope>,
    current: usize,
    classes: Vec<Fields>,
    stamps: Stamps,
    declared: HashMap<Id, usize>,
    makers: HashSet<Id>,
    writes: Vec<Write>,
    /// Assignments of properties of what variables hold.
    properties: Vec<Write>,
    /// Ends of functions that were seen, as byte offsets.
    seen: HashSet<u32>,
    faults: Vec<(BytePos, Reason)>,
    /// Where import reads `.groups`, and whether there is a regular expression that makes such.
    pub(super) groups: Vec<BytePos>,
    pub(super) has_named_groups: bool,
}

/// A function, or the module.
struct Scope {
    /// Whether it ran at import; true where several functions end at its place and one of them ran.
    ran: bool,
    /// What it makes, if it is a [`Maker`].
    made: Option<Maker>,
}

/// A function of the module that is nothing but `return variable ??= class …`, without parameters.
/// Its class is the same whoever makes it, if its parent is.
struct Maker {
    variable: Id,
    parent: Parent,
}

enum Parent {
    None,
    /// A name of the module, or a global.
    Name(Id),
    /// What another maker makes.
    Made(Id),
}

/// A variable that is assigned.
struct Write {
    id: Id,
    by: usize,
    at: BytePos,
    is_nullish: bool,
}

/// The private names of a class around the current place.
struct Fields {
    kinds: HashMap<Atom, Field>,
    /// The function that evaluates the class.
    outer: usize,
    /// Whether import made an instance.
    is_made: bool,
    /// Its constructor and the initializers of its fields: they see only a new instance as `this`.
    beginning: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Field {
    Instance,
    Static,
    /// A method or accessor: nothing that could be assigned.
    Fixed,
}

impl<'a> Walk<'a> {
    pub(super) fn new(ran: &'a Ends, start: BytePos, unresolved: SyntaxContext) -> Self {
        Self {
            ran,
            start,
            unresolved,
            functions: vec![Scope { ran: true, made: None }],
            current: MODULE,
            classes: Vec::new(),
            stamps: Stamps::default(),
            declared: HashMap::new(),
            makers: HashSet::new(),
            writes: Vec::new(),
            properties: Vec::new(),
            seen: HashSet::new(),
            faults: Vec::new(),
            groups: Vec::new(),
            has_named_groups: false,
        }
    }

    /// The first fault by place.
    pub(super) fn finish(mut self) -> Option<(Option<BytePos>, Reason)> {
        for write in std::mem::take(&mut self.writes) {
            if let Some(reason) = self.judge(&write) {
                self.faults.push((write.at, reason));
            }
        }
        for write in std::mem::take(&mut self.properties) {
            if self.outlives(&write) {
                self.faults.push((write.at, Reason::Property(write.id.0.to_string())));
            }
        }
        if let Some(at) = self.stamps.unproved(self.unresolved) {
            self.faults.push((at, Reason::Stamp));
        }
        if self.has_named_groups {
            let groups = self.groups.iter();
            self.faults.extend(groups.map(|at| (*at, Reason::NullPrototype("groups"))));
        }
        if let Some((at, reason)) = self.faults.into_iter().min_by_key(|(at, _)| *at) {
            return Some((Some(at), reason));
        }
        // Without functions there is nothing that could assign later.
        if self.functions.len() == 1 {
            return None;
        }
        let module = self.ran.module;
        if !self.ran.all.contains(&module) {
            return Some((None, Reason::Unwatched));
        }
        let mut unknown = self.ran.all.iter().filter(|end| **end != module);
        let unknown = unknown.find(|end| !self.seen.contains(end))?;
        Some((Some(self.start + BytePos(*unknown)), Reason::Unknown))
    }

    /// Whether an assignment may be seen by a later call.
    fn judge(&self, write: &Write) -> Option<Reason> {
        let owner = self.declared.get(&write.id).copied().unwrap_or(MODULE);
        if owner == write.by || (write.is_nullish && self.is_made_alike(write)) {
            return None;
        }
        let name = write.id.0.to_string();
        match owner {
            MODULE => Some(Reason::ModuleVariable(name)),
            owner => self.functions[owner].ran.then_some(Reason::CapturedVariable(name)),
        }
    }

    /// Whether a function assigns a property of what a variable of import holds.
    fn outlives(&self, write: &Write) -> bool {
        let owner = self.declared.get(&write.id).copied().unwrap_or(MODULE);
        owner != write.by && (owner == MODULE || self.functions[owner].ran)
    }

    /// Whether a maker assigns its class, and that class is the same in every call.
    fn is_made_alike(&self, write: &Write) -> bool {
        let Some(Maker { variable, parent }) = &self.functions[write.by].made else { return false };
        let is_variable_of_maker = |name: &Id| {
            let makers = self.functions.iter().filter_map(|function| function.made.as_ref());
            makers.into_iter().any(|maker| maker.variable == *name)
        };
        *variable == write.id
            && match parent {
                Parent::None => true,
                Parent::Made(maker) => self.makers.contains(maker),
                Parent::Name(name) => {
                    let is_module = self.declared.get(name) == Some(&MODULE);
                    (is_module && !is_variable_of_maker(name)) || name.1 == self.unresolved
                }
            }
    }

    pub(super) fn refuse(&mut self, at: Span, reason: Reason) {
        self.faults.push((at.lo, reason));
    }

    /// Whether the code here runs at import.
    pub(super) fn is_at_import(&self) -> bool {
        self.functions[self.current].ran
    }

    /// Whether the code here is the module's own, in no function.
    pub(super) fn is_outside_functions(&self) -> bool {
        self.current == MODULE
    }

    fn has_run(&mut self, end: BytePos) -> bool {
        let end = end.0.saturating_sub(self.start.0);
        self.seen.insert(end);
        self.ran.all.contains(&end)
    }

    /// Walks a function that ends there.
    fn within(&mut self, end: BytePos, made: Option<Maker>, walk: impl FnOnce(&mut Self)) {
        let ran = self.has_run(end);
        self.inside(Scope { ran, made }, walk);
    }

    fn inside(&mut self, scope: Scope, walk: impl FnOnce(&mut Self)) {
        self.functions.push(scope);
        let outer = std::mem::replace(&mut self.current, self.functions.len() - 1);
        walk(self);
        self.current = outer;
    }

    fn declare(&mut self, pattern: &Pat) {
        let current = self.current;
        self.declared.extend(find_pat_ids::<_, Id>(pattern).into_iter().map(|id| (id, current)));
    }

    fn declare_name(&mut self, name: &Ident) {
        self.declared.insert(name.to_id(), self.current);
    }

    fn assign(&mut self, name: &Ident, is_nullish: bool) {
        let at = name.span.lo;
        self.writes.push(Write { id: name.to_id(), by: self.current, at, is_nullish });
    }

    fn assign_expr(&mut self, target: &Expr) {
        match target {
            Expr::Ident(name) => self.assign(name, false),
            Expr::Member(member) => self.assign_member(member),
            Expr::Paren(inner) => self.assign_expr(&inner.expr),
            _ => {}
        }
    }

    fn assign_pattern(&mut self, pattern: &Pat) {
        match pattern {
            Pat::Ident(name) => self.assign(&name.id, false),
            Pat::Array(array) => array.elems.iter().flatten().for_each(|p| self.assign_pattern(p)),
            Pat::Object(object) => object.props.iter().for_each(|prop| match prop {
                ObjectPatProp::KeyValue(pair) => self.assign_pattern(&pair.value),
                ObjectPatProp::Assign(name) => self.assign(&name.key.id, false),
                ObjectPatProp::Rest(rest) => self.assign_pattern(&rest.arg),
            }),
            Pat::Rest(rest) => self.assign_pattern(&rest.arg),
            Pat::Assign(with_default) => self.assign_pattern(&with_default.left),
            Pat::Expr(target) => self.assign_expr(target),
            Pat::Invalid(_) => {}
        }
    }

    fn assign_target(&mut self, target: &AssignTarget, op: AssignOp) {
        match target {
            AssignTarget::Simple(SimpleAssignTarget::Ident(name)) => {
                self.assign(&name.id, op == AssignOp::NullishAssign);
            }
            AssignTarget::Simple(SimpleAssignTarget::Member(member)) => self.assign_member(member),
            AssignTarget::Simple(SimpleAssignTarget::Paren(inner)) => self.assign_expr(&inner.expr),
            AssignTarget::Simple(_) => {}
            AssignTarget::Pat(pattern) => self.assign_pattern(&pattern.clone().into()),
        }
    }

    /// Notes that a property of what an expression names is assigned, or one below it.
    pub(super) fn assign_property(&mut self, object: &Expr) {
        match object {
            Expr::Ident(name) => {
                let (id, at) = (name.to_id(), name.span.lo);
                self.properties.push(Write { id, by: self.current, at, is_nullish: false });
            }
            Expr::Member(member) => self.assign_property(&member.obj),
            Expr::Paren(inner) => self.assign_property(&inner.expr),
            _ => {}
        }
    }

    /// A private field keeps what it is given even in a frozen object.
    fn assign_member(&mut self, member: &MemberExpr) {
        let MemberProp::PrivateName(field) = &member.prop else {
            return self.assign_property(&member.obj);
        };
        let found = self.classes.iter().rev().find_map(|class| {
            let kind = *class.kinds.get(&field.name)?;
            let is_new = member.obj.is_this() && class.beginning.contains(&self.current);
            Some(match kind {
                Field::Fixed => true,
                Field::Instance => !class.is_made || is_new,
                Field::Static => !self.functions[class.outer].ran || self.current == class.outer,
            })
        });
        if found != Some(true) {
            self.refuse(field.span, Reason::PrivateField(field.name.to_string()));
        }
    }

    fn function(&mut self, function: &Function, made: Option<Maker>) {
        self.within(function.span.hi, made, |walk| {
            if function.is_generator && walk.is_at_import() {
                walk.refuse(function.span, Reason::Generator);
            }
            function.params.iter().for_each(|param| walk.declare(&param.pat));
            function.visit_children_with(walk);
        });
    }

    /// A field of a class: its key is the class's, its value the initializer's.
    fn initializer(&mut self, is_static: bool, value: Option<&Expr>) {
        let Some(value) = value else { return };
        if is_static {
            return value.visit_with(self);
        }
        let ran = self.classes.last().is_none_or(|class| class.is_made);
        self.inside(Scope { ran, made: None }, |walk| {
            let number = walk.current;
            if let Some(class) = walk.classes.last_mut() {
                class.beginning.push(number);
            }
            value.visit_with(walk);
        });
    }

    fn fields(&mut self, class: &Class) -> Fields {
        let mut kinds = HashMap::new();
        // V8 has a function of all fields of an instance, and one of all that is static: they end
        // with the class, or with the last of their members.
        let mut is_made = self.has_run(class.span.hi);
        for member in &class.body {
            let is_static = match member {
                ClassMember::ClassProp(field) => field.is_static,
                ClassMember::PrivateProp(field) => field.is_static,
                ClassMember::StaticBlock(_) => true,
                _ => false,
            };
            for end in ends(member) {
                is_made |= self.has_run(end) && !is_static;
            }
            let (name, kind) = match member {
                ClassMember::PrivateProp(field) => {
                    let kind = if field.is_static { Field::Static } else { Field::Instance };
                    (&field.key.name, kind)
                }
                ClassMember::PrivateMethod(method) => (&method.key.name, Field::Fixed),
                ClassMember::Constructor(constructor) => {
                    is_made |= self.has_run(constructor.span.hi);
                    continue;
                }
                _ => continue,
            };
            kinds.insert(name.clone(), kind);
        }
        Fields { kinds, outer: self.current, is_made, beginning: Vec::new() }
    }

    fn member(&mut self, member: &ClassMember) {
        match member {
            ClassMember::Constructor(constructor) => {
                self.within(constructor.span.hi, None, |walk| {
                    let number = walk.current;
                    if let Some(class) = walk.classes.last_mut() {
                        class.beginning.push(number);
                    }
                    for param in &constructor.params {
                        if let ParamOrTsParamProp::Param(param) = param {
                            walk.declare(&param.pat);
                        }
                    }
                    constructor.visit_children_with(walk);
                })
            }
            ClassMember::ClassProp(field) => {
                field.key.visit_with(self);
                self.initializer(field.is_static, field.value.as_deref());
            }
            ClassMember::PrivateProp(field) => {
                self.initializer(field.is_static, field.value.as_deref());
            }
            other => other.visit_with(self),
        }
    }
}

/// Where a function of all fields could end whose last one this is: with or without its semicolon.
fn ends(member: &ClassMember) -> Vec<BytePos> {
    let (key, value) = match member {
        ClassMember::ClassProp(field) => (field.key.span(), field.value.as_deref()),
        ClassMember::PrivateProp(field) => (field.key.span, field.value.as_deref()),
        ClassMember::PrivateMethod(method) => (method.span, None),
        ClassMember::StaticBlock(block) => (block.span, None),
        _ => return Vec::new(),
    };
    let last = value.map_or(key.hi, Spanned::span_hi);
    vec![last, member.span_hi()]
}

/// What a function that is nothing but `return variable = class …` assigns, and to what.
fn made_by(function: &Function) -> Option<(&BindingIdent, &Class)> {
    let body = &function.body.as_ref()?.stmts[..];
    let [Stmt::Return(ReturnStmt { arg: Some(arg), .. })] = body else { return None };
    let Expr::Assign(AssignExpr { left, right, .. }) = &**arg else { return None };
    let AssignTarget::Simple(SimpleAssignTarget::Ident(name)) = left else { return None };
    let Expr::Class(ClassExpr { class, .. }) = &**right else { return None };
    Some((name, class))
}

impl Maker {
    fn of(function: &Function) -> Option<Self> {
        let (name, class) = made_by(function)?;
        let parent = match class.super_class.as_deref() {
            None => Parent::None,
            Some(Expr::Ident(parent)) => Parent::Name(parent.to_id()),
            Some(Expr::Call(CallExpr { callee: Callee::Expr(callee), args, .. }))
                if args.is_empty() =>
            {
                Parent::Made(callee.as_ident()?.to_id())
            }
            Some(_) => return None,
        };
        let is_plain = function.params.is_empty() && has_silent_members(class);
        is_plain.then(|| Self { variable: name.id.to_id(), parent })
    }
}

impl Visit for Walk<'_> {
    fn visit_function(&mut self, function: &Function) {
        self.function(function, None);
    }

    fn visit_arrow_expr(&mut self, arrow: &ArrowExpr) {
        self.within(arrow.span.hi, None, |walk| {
            arrow.params.iter().for_each(|param| walk.declare(param));
            arrow.visit_children_with(walk);
        });
    }

    fn visit_getter_prop(&mut self, getter: &GetterProp) {
        getter.key.visit_with(self);
        self.within(getter.span.hi, None, |walk| getter.body.visit_with(walk));
    }

    fn visit_setter_prop(&mut self, setter: &SetterProp) {
        setter.key.visit_with(self);
        self.within(setter.span.hi, None, |walk| {
            walk.declare(&setter.param);
            setter.param.visit_with(walk);
            setter.body.visit_with(walk);
        });
    }

    fn visit_class(&mut self, class: &Class) {
        self.super_class(class);
        self.stamps.see(class);
        class.super_class.visit_with(self);
        let fields = self.fields(class);
        self.classes.push(fields);
        class.body.iter().for_each(|member| self.member(member));
        self.classes.pop();
    }

    fn visit_fn_decl(&mut self, function: &FnDecl) {
        self.declare_name(&function.ident);
        let made = self.is_outside_functions().then(|| Maker::of(&function.function)).flatten();
        if made.is_some() {
            self.makers.insert(function.ident.to_id());
            if let Some((_, class)) = made_by(&function.function) {
                self.stamps.name(function.ident.to_id(), class);
            }
        }
        self.function(&function.function, made);
    }

    fn visit_class_decl(&mut self, class: &ClassDecl) {
        self.declare_name(&class.ident);
        self.stamps.name(class.ident.to_id(), &class.class);
        class.class.visit_with(self);
    }

    fn visit_class_expr(&mut self, class: &ClassExpr) {
        if let Some(name) = &class.ident {
            self.stamps.name(name.to_id(), &class.class);
        }
        class.class.visit_with(self);
    }

    fn visit_var_declarator(&mut self, variable: &VarDeclarator) {
        self.declare(&variable.name);
        if let (Pat::Ident(name), Some(Expr::Class(made))) =
            (&variable.name, variable.init.as_deref())
        {
            self.stamps.name(name.id.to_id(), &made.class);
        }
        self.taken_apart(variable);
        variable.visit_children_with(self);
    }

    fn visit_catch_clause(&mut self, clause: &CatchClause) {
        clause.param.iter().for_each(|param| self.declare(param));
        clause.visit_children_with(self);
    }

    fn visit_assign_expr(&mut self, assign: &AssignExpr) {
        self.assign_target(&assign.left, assign.op);
        self.prototype_assigned(assign);
        assign.visit_children_with(self);
    }

    fn visit_update_expr(&mut self, update: &UpdateExpr) {
        self.assign_expr(&update.arg);
        update.visit_children_with(self);
    }

    fn visit_for_head(&mut self, head: &ForHead) {
        if let ForHead::Pat(pattern) = head {
            self.assign_pattern(pattern);
        }
        head.visit_children_with(self);
    }

    fn visit_unary_expr(&mut self, unary: &UnaryExpr) {
        match (unary.op, &*unary.arg) {
            (UnaryOp::TypeOf, Expr::Ident(_)) => {}
            (UnaryOp::Delete, target) => {
                self.assign_expr(target);
                target.visit_with(self);
            }
            (_, argument) => argument.visit_with(self),
        }
    }

    // What modules call each other's names is nothing that runs.
    fn visit_import_decl(&mut self, _: &ImportDecl) {}
    fn visit_named_export(&mut self, _: &NamedExport) {}

    fn visit_ident(&mut self, name: &Ident) {
        if name.ctxt == self.unresolved {
            self.mention(&name.sym, name.span);
        }
    }

    fn visit_bin_expr(&mut self, binary: &BinExpr) {
        self.compared(&binary.left);
        self.compared(&binary.right);
    }

    fn visit_call_expr(&mut self, call: &CallExpr) {
        if let Callee::Expr(callee) = &call.callee
            && let Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(name), .. }) = &**callee
            && OF_ARRAYS.contains(&&*name.sym)
        {
            self.assign_property(obj);
        }
        self.call(call);
    }

    fn visit_new_expr(&mut self, new: &NewExpr) {
        self.callee(&new.callee);
        new.args.visit_with(self);
    }

    fn visit_member_expr(&mut self, member: &MemberExpr) {
        self.read(member, false);
    }

    fn visit_meta_prop_expr(&mut self, meta: &MetaPropExpr) {
        if meta.kind == MetaPropKind::ImportMeta {
            self.refuse(meta.span, Reason::ImportMeta);
        }
    }

    fn visit_prop(&mut self, prop: &Prop) {
        self.prototype_property(prop);
        prop.visit_children_with(self);
    }

    fn visit_regex(&mut self, regex: &Regex) {
        let mut parts = regex.exp.split("(?<").skip(1);
        self.has_named_groups |= parts.any(|part| !part.starts_with(['=', '!']));
    }
}
