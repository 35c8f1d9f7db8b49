//! One self-contained module for a small graph: schema, definition and auth config travel alone.
//!
//! In: a [`Link`] of files compiled for inlining. Out: one [`BundledModule`] without imports, but
//! for those of other components, which the host supplies.
//! Invariant: modules run in the order, and see each other's bindings at the moments, that the ES
//! module system prescribes, cycles included.
//!
//! Each ES module is a generator function:
//!
//! ```text
//! const $run_3 = (function* () {
//!   const $from_0 = { get "v"() { return $m_1["v"]; } };   imports, read when used
//!   $export($m_3, { "default": () => $default });          exports, read when used
//!   yield;        first next(): function declarations exist, nothing has run (ES "instantiate")
//!   …code…        second next(), in evaluation order       (ES "evaluate")
//! })();
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use sourcemap::{SourceMap, SourceMapBuilder};

use crate::compile::{Name, RequestKind, quoted};
use crate::emit::{
    commonjs_source, compiled_target, export_token, interface_value, missing_name,
    require_function, shows_text, source_name,
};
use crate::graph::{ModuleId, Target};
use crate::link::{Link, Origin, Place};
use crate::names::origin;
use crate::project::Project;
use crate::tables;
use crate::{BundledModule, Environment};

const EXPORT: &str = "function $export(target, getters) {
  for (const name in getters) {
    Object.defineProperty(target, name, { get: getters[name], enumerable: true });
  }
}
";

/// Emits everything that the one root of `link` needs as the module `path`.
pub(crate) fn emit_single(
    project: &Project,
    link: &Link<'_>,
    root: ModuleId,
    path: &str,
) -> BundledModule {
    let mut order = Order { link, seen: BTreeSet::new(), order: vec![] };
    order.visit(root);
    let mut writer = Writer {
        project,
        link,
        text: String::new(),
        map: SourceMapBuilder::new(None),
        outside: BTreeMap::new(),
    };
    writer.outside(&order.order);
    writer.text.push_str(&commonjs_source().replace("export function", "function"));
    writer.text.push_str("const $dynamicRequire = dynamicRequire;\n");
    writer.text.push_str(EXPORT);
    for &module in &order.order {
        writer.declare(module);
    }
    for &module in &order.order {
        writer.module(module);
    }
    writer.run(&order.order);
    writer.exports(root);
    let mut map = vec![];
    let written = writer.map.into_sourcemap().to_writer(&mut map);
    let source_map = written.ok().and_then(|()| String::from_utf8(map).ok());
    let environment = Environment::Isolate.name();
    BundledModule { path: path.to_owned(), source: writer.text, source_map, environment }
}

/// Included modules in the order in which ES would evaluate them.
struct Order<'a> {
    link: &'a Link<'a>,
    seen: BTreeSet<ModuleId>,
    order: Vec<ModuleId>,
}

impl Order<'_> {
    fn visit(&mut self, module: ModuleId) {
        if !self.seen.insert(module) {
            return;
        }
        for request in 0..self.link.graph.modules[module].targets.len() {
            if let Some(target) = self.link.target(module, request) {
                self.visit(target);
            }
        }
        if self.link.includes(module) {
            self.order.push(module);
        }
    }
}

struct Writer<'a> {
    project: &'a Project,
    link: &'a Link<'a>,
    text: String,
    map: SourceMapBuilder,
    /// What comes from other modules, by specifier and export (`None`: all as one object), with
    /// the number of its binding.
    outside: BTreeMap<(String, Option<String>), usize>,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Imports what stays outside.
    fn outside(&mut self, order: &[ModuleId]) {
        for &module in order {
            let tables = &self.link.graph.modules[module].compiled.tables;
            let imports = tables.imports.iter().map(|i| (i.request, &i.name));
            let wanted = imports.chain(tables.reexports.iter().map(|r| (r.request, &r.name)));
            for (request, name) in wanted {
                if let Place::External(specifier, name) = self.link.locate(module, request, name) {
                    let next = self.outside.len();
                    self.outside.entry((specifier, export_of(&name))).or_insert(next);
                }
            }
        }
        for ((specifier, name), number) in &self.outside {
            let clause = match name.as_deref() {
                None => format!("* as $outside_{number}"),
                Some(name) => format!("{{ {} as $outside_{number} }}", export_token(name)),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "import {clause} from {};", quoted(specifier));
        }
    }

    /// How the code reads a place.
    fn expression(&self, place: &Place) -> String {
        match place {
            Place::Export(module, name) => format!("$m_{module}[{}]", quoted(name)),
            Place::Namespace(module) => format!("$m_{module}"),
            Place::External(specifier, name) => {
                match self.outside.get(&(specifier.clone(), export_of(name))) {
                    Some(number) => format!("$outside_{number}"),
                    None => "undefined".to_owned(),
                }
            }
            Place::Missing => "undefined".to_owned(),
        }
    }

    /// The object that holds a module's exports.
    fn declare(&mut self, module: ModuleId) {
        self.line(&format!("const $m_{module} = Object.create(null);"));
    }

    fn module(&mut self, module: ModuleId) {
        if self.link.is_commonjs(module) {
            self.line(&require_function(&format!("_{module}")));
            self.line(&format!("function $body_{module}(exports, module, require) {{"));
        } else {
            self.line(&format!("const $run_{module} = (function* () {{"));
            self.imports(module);
            self.getters(module);
        }
        self.calls(module);
        if !self.link.is_commonjs(module) {
            self.line("yield;");
        }
        let above = self.text.matches('\n').count();
        self.text.push_str(&self.link.graph.modules[module].compiled.code);
        self.add_map(module, above);
        self.line(if self.link.is_commonjs(module) { "}" } else { "})();" });
    }

    fn imports(&mut self, module: ModuleId) {
        let tables = &self.link.graph.modules[module].compiled.tables;
        for request in 0..tables.requests.len() {
            let mut getters = BTreeSet::new();
            for import in tables.imports.iter().filter(|i| i.request == request) {
                let place = self.link.locate(module, request, &import.name);
                let key = match &import.name {
                    Name::Export(name) => name.as_str(),
                    Name::Namespace(_) => tables::NAMESPACE,
                };
                let value = self.expression(&place);
                getters.insert(format!("get {}() {{ return {value}; }}", quoted(key)));
            }
            if !getters.is_empty() {
                let getters = getters.into_iter().collect::<Vec<_>>().join(", ");
                self.line(&format!("const $from_{request} = {{ {getters} }};"));
            }
        }
    }

    fn getters(&mut self, module: ModuleId) {
        let tables = &self.link.graph.modules[module].compiled.tables;
        let mut getters = vec![];
        for name in self.link.used(module) {
            let value = match self.link.origin(module, name) {
                Some(Origin::Local) => {
                    let local = tables.locals.iter().find(|(exported, _)| exported == name);
                    local.map(|(_, local)| local.clone())
                }
                Some(Origin::From(request, from)) => {
                    match self.link.locate(module, request, &from) {
                        Place::Missing => None,
                        place => Some(self.expression(&place)),
                    }
                }
                None => None,
            };
            getters.extend(value.map(|value| format!("{}: () => {value}", quoted(name))));
        }
        self.line(&format!("$export($m_{module}, {{ {} }});", getters.join(", ")));
    }

    fn calls(&mut self, module: ModuleId) {
        let tables = &self.link.graph.modules[module].compiled.tables;
        for (i, request) in tables.requests.iter().enumerate() {
            let target = compiled_target(self.link, module, i);
            let value = match target {
                Target::Module(target) if self.link.is_commonjs(*target) => {
                    format!("return $require_{target}()")
                }
                Target::Module(target) => format!("return toCommonJS($m_{target})"),
                Target::External(name) | Target::Component(_, name) => {
                    format!("throw missing({})", quoted(name))
                }
                Target::Missing(missing) => {
                    format!("throw missing({})", quoted(missing_name(&missing.message)))
                }
            };
            match request.kind {
                RequestKind::Import => {}
                RequestKind::Require => {
                    self.line(&format!("function $require_{i}() {{ {value}; }}"))
                }
                RequestKind::Dynamic => {
                    let value = match self.link.locate(module, i, &Name::Namespace(None)) {
                        Place::Missing | Place::External(..) => value,
                        place => format!("return {}", self.expression(&place)),
                    };
                    self.line(&format!("async function $import_{i}() {{ {value}; }}"));
                }
            }
        }
    }

    /// Instantiates all, then evaluates in order.
    fn run(&mut self, order: &[ModuleId]) {
        let es = order.iter().filter(|&&m| !self.link.is_commonjs(m));
        let instantiate: Vec<_> = es.map(|m| format!("$run_{m}.next();")).collect();
        self.line(&instantiate.join(" "));
        for &module in order {
            if !self.link.is_commonjs(module) {
                self.line(&format!("$run_{module}.next();"));
                continue;
            }
            let Some(names) = self.link.interfaces.get(&module) else { continue };
            let mut line = format!(
                "{{ const $exports = $require_{module}(), $namespace = toESM($exports, false);"
            );
            for name in names {
                let (key, value) = (quoted(name), interface_value(name));
                // Writing to a string cannot fail.
                let _ = write!(line, " $m_{module}[{key}] = {value};");
            }
            self.line(&format!("{line} }}"));
        }
    }

    fn exports(&mut self, root: ModuleId) {
        let names: BTreeSet<String> = if self.link.is_commonjs(root) {
            self.link.interfaces.get(&root).cloned().unwrap_or_default()
        } else {
            self.link.used(root).map(str::to_owned).collect()
        };
        let names = names.iter().enumerate();
        let lines = names.map(|(i, name)| {
            format!(
                "const $result_{i} = $m_{root}[{}];\nexport {{ $result_{i} as {} }};",
                quoted(name),
                export_token(name)
            )
        });
        let lines: Vec<_> = lines.collect();
        self.line(&lines.join("\n"));
    }

    fn add_map(&mut self, module: ModuleId, lines_above: usize) {
        let graph = self.link.graph;
        let Some((mappings, names)) = &graph.modules[module].compiled.map else { return };
        let name = source_name(&origin(self.project, graph, module));
        let json = format!(
            "{{\"version\":3,\"sources\":[{}],\"names\":{names},\"mappings\":\"{mappings}\"}}",
            quoted(&name)
        );
        let Ok(map) = SourceMap::from_slice(json.as_bytes()) else { return };
        let above = u32::try_from(lines_above).unwrap_or(u32::MAX);
        for token in map.tokens() {
            let added = self.map.add(
                token.get_dst_line() + above,
                token.get_dst_col(),
                token.get_src_line(),
                token.get_src_col(),
                token.get_source(),
                token.get_name(),
                false,
            );
            let is_new = added.src_id != u32::MAX && !self.map.has_source_contents(added.src_id);
            if is_new && shows_text(&name) {
                self.map.set_source_contents(added.src_id, Some(&graph.modules[module].text));
            }
        }
    }
}

/// The export that is asked for; `None` for all of them.
fn export_of(name: &Name) -> Option<String> {
    match name {
        Name::Export(name) => Some(name.clone()),
        Name::Namespace(_) => None,
    }
}
