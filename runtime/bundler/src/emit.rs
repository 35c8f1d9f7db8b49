//! Output modules: lines of imports and re-exports above the compiled code.
//!
//! In: a [`Link`] and its [`Names`]. Out: [`BundledModule`]s that V8 links. Invariant: the code
//! itself is not touched, so its source map only moves down by the number of lines above it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::compile::{Name, RequestKind, quoted};
use crate::graph::{ModuleId, Target};
use crate::hoist::Hoisted;
use crate::link::{Link, NAMESPACE, NODE_DEFAULT, NODE_NAMESPACE, Origin, Place};
use crate::mocks;
use crate::names::{Names, origin, relative};
use crate::package::in_node_modules;
use crate::project::Project;
use crate::resolve::Location;
use crate::{BundledModule, Environment};

/// The conversions between CommonJS and ES modules.
const COMMONJS: &str = include_str!("commonjs.js");

/// That module as it is sent: without its comments.
pub(crate) fn commonjs_source() -> String {
    let comment = |line: &&str| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with("//") || line.starts_with("/**")
    };
    COMMONJS
        .lines()
        .filter(|line| !comment(line))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// What emitting needs.
pub(crate) struct Emitter<'a> {
    pub(crate) project: &'a Project,
    pub(crate) link: &'a Link<'a>,
    pub(crate) names: &'a Names,
    pub(crate) environment: Environment,
    pub(crate) hoisted: Option<Hoisted>,
    /// Whether it is for tests, which may want modules again and in the place of others.
    pub(crate) tests: bool,
}

impl Emitter<'_> {
    /// Every output module, sorted by path.
    pub(crate) fn emit(&self) -> Vec<BundledModule> {
        let modules: Vec<ModuleId> = self.link.modules().filter(|&m| !self.is_joined(m)).collect();
        let mut output: Vec<BundledModule> = modules
            .into_par_iter()
            .flat_map_iter(|module| {
                if !self.link.is_commonjs(module) {
                    return vec![self.es_module(module)];
                }
                let mut both = vec![self.body(module)];
                both.extend(self.link.interfaces.get(&module).map(|_| self.interface(module)));
                both
            })
            .collect();
        let commonjs = self.link.modules().any(|module| {
            let tables = &self.link.graph.modules[module].compiled.tables;
            self.link.is_commonjs(module)
                || tables.requests.iter().any(|r| r.kind != RequestKind::Import)
        });
        if commonjs {
            output.push(self.module(&self.names.commonjs, commonjs_source(), None));
        }
        if let Some(Hoisted { chunk, .. }) = &self.hoisted {
            let map = Some(chunk.source_map.clone());
            output.push(self.module(&self.names.shared, chunk.source.clone(), map));
        }
        output.sort_by(|a, b| a.path.cmp(&b.path));
        output
    }

    fn is_joined(&self, module: ModuleId) -> bool {
        self.hoisted.as_ref().is_some_and(|hoisted| hoisted.holds(module))
    }

    fn module(&self, path: &str, source: String, map: Option<String>) -> BundledModule {
        let environment = self.environment.name();
        BundledModule { path: path.to_owned(), source, source_map: map, environment }
    }

    fn es_module(&self, module: ModuleId) -> BundledModule {
        let path = self.names.path(module);
        let mut lines = self.imports(module, path);
        lines.extend(self.calls(module, path));
        let code = &self.link.graph.modules[module].compiled.code;
        let mut source = String::new();
        for line in &lines {
            source.push_str(line);
            source.push('\n');
        }
        source.push_str(code);
        self.module(path, source, self.source_map(module, lines.len()))
    }

    /// Lines for the imports, the re-exports in use and the evaluation of other modules.
    fn imports(&self, module: ModuleId, path: &str) -> Vec<String> {
        let compiled = &self.link.graph.modules[module].compiled;
        let mut lines = vec![];
        let mut passed_on: BTreeMap<usize, Vec<(Name, &str)>> = BTreeMap::new();
        for exported in self.link.used(module) {
            if let Some(Origin::From(request, name)) = self.link.origin(module, exported) {
                passed_on.entry(request).or_default().push((name, exported));
            }
        }
        for (request, wanted) in compiled.tables.requests.iter().enumerate() {
            if wanted.kind != RequestKind::Import {
                continue;
            }
            let mut clauses = Clauses::default();
            for import in compiled.tables.imports.iter().filter(|i| i.request == request) {
                let place = self.link.locate(module, request, &import.name);
                clauses.add(self.reach(path, &place), "import", &import.local);
            }
            for (name, exported) in passed_on.get(&request).into_iter().flatten() {
                let place = self.link.locate(module, request, name);
                clauses.add(self.reach(path, &place), "export", exported);
            }
            let bare = match &compiled_target(self.link, module, request) {
                Target::Module(target) => (self.link.includes(*target)
                    && self.link.graph.modules[*target].has_side_effects)
                    .then(|| relative(path, self.names.path(*target))),
                Target::External(specifier) | Target::Component(_, specifier) => {
                    Some(specifier.clone())
                }
                Target::Missing(_) => None,
            };
            if let Some(specifier) = bare
                && !clauses.mentions(&specifier)
            {
                lines.push(format!("import {};", quoted(&specifier)));
            }
            lines.append(&mut clauses.lines());
        }
        for &star in &compiled.tables.stars {
            if let Target::External(specifier) = compiled_target(self.link, module, star) {
                lines.push(format!("export * from {};", quoted(specifier)));
            }
        }
        lines
    }

    /// Specifier and exported name (`None`: the namespace) of a place.
    fn reach(&self, from: &str, place: &Place) -> Option<(String, Option<String>)> {
        match place {
            Place::Export(target, name) if self.is_joined(*target) => {
                let name = self.hoisted.as_ref()?.export(self.link, *target, name);
                let name = name.expect("what others import of a joined module is exported");
                Some((relative(from, &self.names.shared), Some(name.to_owned())))
            }
            Place::Export(target, name) => {
                Some((relative(from, self.names.path(*target)), Some(name.clone())))
            }
            Place::Namespace(target) => Some((relative(from, self.names.path(*target)), None)),
            Place::External(specifier, Name::Export(name)) => {
                Some((specifier.clone(), Some(name.clone())))
            }
            Place::External(specifier, Name::Namespace(_)) => Some((specifier.clone(), None)),
            Place::Missing => None,
        }
    }

    /// Definitions of the `$require_N` and `$import_N` that the code calls.
    fn calls(&self, module: ModuleId, path: &str) -> Vec<String> {
        let compiled = &self.link.graph.modules[module].compiled;
        let commonjs = quoted(&relative(path, &self.names.commonjs));
        let requests = compiled.tables.requests.iter().enumerate();
        let lines = requests.map(|(i, request)| {
            let target = compiled_target(self.link, module, i);
            match request.kind {
                RequestKind::Import => String::new(),
                RequestKind::Require => self.require_line(i, target, path, &commonjs),
                RequestKind::Dynamic => self.import_line(module, i, path, &commonjs),
            }
        });
        lines.filter(|line| !line.is_empty()).collect()
    }

    fn require_line(&self, i: usize, target: &Target, path: &str, commonjs: &str) -> String {
        match target {
            Target::Module(target) if self.link.is_commonjs(*target) => {
                let body = quoted(&relative(path, self.names.body(*target)));
                format!("import {{ $require as $require_{i} }} from {body};")
            }
            Target::Module(target) => {
                let target = quoted(&relative(path, self.names.path(*target)));
                format!(
                    "import * as $module_{i} from {target}; \
                     import {{ toCommonJS as $toCommonJS_{i} }} from {commonjs}; \
                     function $require_{i}() {{ return $toCommonJS_{i}($module_{i}); }}"
                )
            }
            Target::External(specifier) | Target::Component(_, specifier) => {
                let specifier = quoted(specifier);
                format!(
                    "import * as $module_{i} from {specifier}; \
                     function $require_{i}() {{ return $module_{i}.default ?? $module_{i}; }}"
                )
            }
            Target::Missing(missing) => format!(
                "import {{ missing as $missing_{i} }} from {commonjs}; \
                 function $require_{i}() {{ throw $missing_{i}({}); }}",
                quoted(missing_name(&missing.message))
            ),
        }
    }

    fn import_line(&self, module: ModuleId, i: usize, path: &str, commonjs: &str) -> String {
        let mut after = String::new();
        let call = match compiled_target(self.link, module, i) {
            Target::Module(target) => {
                let specifier = relative(path, self.names.path(*target));
                let location = &self.link.graph.modules[*target].location;
                let requests = &self.link.graph.modules[module].compiled.tables.requests;
                after = mocks::after_way(i, &requests[i].specifier, location);
                let specifier = match location {
                    Location::Mocked(file) => {
                        return format!(
                            "function $import_{i}() {{ return {}; }}",
                            mocks::exports_now(file)
                        );
                    }
                    Location::File(file) if self.tests && in_node_modules(file).is_none() => {
                        mocks::fresh(&specifier)
                    }
                    _ => quoted(&specifier),
                };
                match self.link.locate(module, i, &Name::Namespace(None)) {
                    Place::Export(_, name) => {
                        format!("import({specifier}).then((module) => module.{name})")
                    }
                    _ => format!("import({specifier})"),
                }
            }
            Target::External(specifier) | Target::Component(_, specifier) => {
                format!("import({})", quoted(specifier))
            }
            Target::Missing(missing) => {
                return format!(
                    "import {{ missing as $missing_{i} }} from {commonjs}; \
                     async function $import_{i}() {{ throw $missing_{i}({}); }}",
                    quoted(missing_name(&missing.message))
                );
            }
        };
        format!("function $import_{i}() {{ return {call}; }}{after}")
    }

    /// The code of a CommonJS module, run by the first `$require()`.
    fn body(&self, module: ModuleId) -> BundledModule {
        let path = self.names.body(module);
        let commonjs = quoted(&relative(path, &self.names.commonjs));
        let mut lines = self.calls(module, path);
        lines.push(format!("import {{ dynamicRequire as $dynamicRequire }} from {commonjs};"));
        lines.push(require_function(""));
        lines.push("function $body(exports, module, require) {".to_owned());
        let code = &self.link.graph.modules[module].compiled.code;
        let source = format!("{}\n{code}}}\n", lines.join("\n"));
        let above = source[..source.len() - code.len()].matches('\n').count() - 1;
        self.module(path, source, self.source_map(module, above))
    }

    /// The ES face of a CommonJS module: runs it, and exports what importers ask for.
    fn interface(&self, module: ModuleId) -> BundledModule {
        let path = self.names.path(module);
        let body = quoted(&relative(path, self.names.body(module)));
        let (mut source, exports) = match &self.link.graph.modules[module].location {
            Location::Mocked(file) => (String::new(), mocks::exports_for_good(file)),
            _ => (format!("import {{ $require }} from {body};\n"), "$require()".to_owned()),
        };
        let names = self.link.interfaces.get(&module).into_iter().flatten();
        let values: Vec<(String, &String)> = names.map(|n| (interface_value(n), n)).collect();
        if values.is_empty() {
            source.push_str(&format!("{exports};\n"));
            return self.module(path, source, None);
        }
        let commonjs = quoted(&relative(path, &self.names.commonjs));
        source.push_str(&format!("import {{ toESM }} from {commonjs};\n"));
        source.push_str(&format!("const $exports = {exports};\n"));
        source.push_str("const $namespace = toESM($exports, false);\n");
        for (i, (value, _)) in values.iter().enumerate() {
            source.push_str(&format!("const $value_{i} = {value};\n"));
        }
        let list = values.iter().enumerate();
        let list: Vec<_> =
            list.map(|(i, (_, name))| format!("$value_{i} as {}", export_token(name))).collect();
        source.push_str(&format!("export {{ {} }};\n", list.join(", ")));
        self.module(path, source, None)
    }

    fn source_map(&self, module: ModuleId, lines_above: usize) -> Option<String> {
        let graph = self.link.graph;
        let (mappings, names) = graph.modules[module].compiled.map.as_ref()?;
        let name = source_name(&origin(self.project, graph, module));
        let shown = shows_text(&name).then(|| quoted(&graph.modules[module].text));
        let content = shown.as_deref().unwrap_or("null");
        let source = quoted(&name);
        let shift = ";".repeat(lines_above);
        Some(format!(
            "{{\"version\":3,\"sources\":[{source}],\"sourcesContent\":[{content}],\
             \"names\":{names},\"mappings\":\"{shift}{mappings}\"}}"
        ))
    }
}

/// How source maps name a file: as seen from an output folder beside `convex/`.
pub(crate) fn source_name(origin: &str) -> String {
    format!("../{origin}")
}

/// Whether a source map carries the text of this file: that of packages is half of a push, and
/// nobody edits it.
pub(crate) fn shows_text(source_name: &str) -> bool {
    !source_name.split('/').any(|folder| folder == "node_modules")
}

/// The target of a request.
pub(crate) fn compiled_target<'g>(link: &Link<'g>, module: ModuleId, request: usize) -> &'g Target {
    &link.graph.modules[module].targets[request]
}

/// The specifier inside the message about it.
pub(crate) fn missing_name(message: &str) -> &str {
    message.split('"').nth(1).unwrap_or(message)
}

/// `$require` (with a suffix) of a CommonJS module: runs `$body` once, and again after a failure.
pub(crate) fn require_function(suffix: &str) -> String {
    let export = if suffix.is_empty() { "export " } else { "" };
    format!(
        "var $module{suffix};\n\
         {export}function $require{suffix}() {{\n  \
           if ($module{suffix} !== undefined) return $module{suffix}.exports;\n  \
           const module = {{ exports: {{}}, loaded: false, children: [], paths: [] }};\n  \
           $module{suffix} = module;\n  \
           try {{\n    \
             $body{suffix}.call(module.exports, module.exports, module, $dynamicRequire);\n    \
             module.loaded = true;\n  \
           }} catch (error) {{\n    \
             $module{suffix} = undefined;\n    \
             throw error;\n  \
           }}\n  \
           return module.exports;\n\
         }}"
    )
}

/// The expression for one export of an interface.
pub(crate) fn interface_value(name: &str) -> String {
    match name {
        NODE_DEFAULT => "$exports".to_owned(),
        NAMESPACE => "$namespace".to_owned(),
        NODE_NAMESPACE => "toESM($exports, true)".to_owned(),
        _ => format!("$namespace[{}]", quoted(name)),
    }
}

/// An export's name as written in import and export lists.
pub(crate) fn export_token(name: &str) -> String {
    let is_identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if is_identifier { name.to_owned() } else { quoted(name) }
}

/// Import and export clauses of one request, by specifier.
#[derive(Default)]
struct Clauses {
    lists: BTreeMap<(String, &'static str), Vec<String>>,
    namespaces: Vec<(String, String)>,
}

impl Clauses {
    fn add(&mut self, found: Option<(String, Option<String>)>, verb: &'static str, name: &str) {
        let Some((specifier, exported)) = found else { return };
        let token = export_token(name);
        let Some(exported) = exported else {
            let line = format!("{verb} * as {token} from {};", quoted(&specifier));
            self.namespaces.push((specifier, line));
            return;
        };
        let item = match export_token(&exported) {
            same if same == token => same,
            other => format!("{other} as {token}"),
        };
        self.lists.entry((specifier, verb)).or_default().push(item);
    }

    fn mentions(&self, specifier: &str) -> bool {
        self.lists.keys().any(|(s, _)| s == specifier)
            || self.namespaces.iter().any(|(s, _)| s == specifier)
    }

    fn lines(self) -> Vec<String> {
        let namespaces = self.namespaces.into_iter().map(|(_, line)| line);
        let lists = self.lists.into_iter().map(|((specifier, verb), items)| {
            format!("{verb} {{ {} }} from {};", items.join(", "), quoted(&specifier))
        });
        namespaces.chain(lists).collect()
    }
}
