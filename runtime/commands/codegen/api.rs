//! `api` and `component`: references to functions, typed.
//!
//! In: function files, what the host found in them, child components. Out: files. Invariant: what
//! is referred to by a name is what the host finds under that name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::layout::{Doc, concat, indent, print, text};
use super::validators::{Member, Type};
use super::{Generated, Part, Push, Settings, Unusable, analysis, comment, header, order};

const WHAT: &str = "Generated `api` utility.";
const VALUES: &str = "import { anyApi, componentsGeneric } from \"convex/server\";\n";
const DYNAMIC_TYPES: &str = "import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from \"convex/server\";
";
const STATIC_TYPES: &str = "import type { FunctionReference } from \"convex/server\";
import type { GenericId as Id } from \"convex/values\";
";

/// The files of a part.
///
/// # Errors
/// An answer of the host that lacks something.
pub(super) fn files(
    settings: &Settings,
    part: &Part<'_>,
    push: Push<'_>,
) -> Result<Vec<Generated>, Unusable> {
    let typescript = part.is_typescript(settings);
    let found = analysis(push, part.path)?;
    let functions = match settings.codegen.static_api {
        true => written_out(found, typescript)?,
        false => inferred(&part.modules, typescript),
    };
    let components = declared(typescript, components(settings, push, found)?.doc());
    Ok(with_types(settings, part, &functions, &components))
}

/// The files of a part of which only the names of its modules are known. `before`: the types as
/// they were, for an app that may have components.
pub(super) fn early(settings: &Settings, part: &Part<'_>, before: Option<&str>) -> Vec<Generated> {
    let typescript = part.is_typescript(settings);
    let functions = inferred(&part.modules, typescript);
    let components = match before {
        None => declared(typescript, Type::tall(vec![]).doc()),
        Some(before) => {
            let known = before.find(components_name(typescript)).map(|at| &before[at..]);
            let known = known.filter(|known| !known.contains("AnyComponents"));
            let any = || declared(typescript, text("import(\"convex/server\").AnyComponents"));
            known.map_or_else(any, str::to_owned)
        }
    };
    with_types(settings, part, &functions, &components)
}

/// How the declaration of the components begins.
fn components_name(typescript: bool) -> &'static str {
    match typescript {
        true => "export const components = componentsGeneric() as unknown as ",
        false => "export declare const components: ",
    }
}

fn declared(typescript: bool, components: Doc) -> String {
    print(&concat([text(components_name(typescript)), components, text(";\n")]))
}

fn with_types(
    settings: &Settings,
    part: &Part<'_>,
    functions: &str,
    components: &str,
) -> Vec<Generated> {
    let types = format!("{}{functions}\n{components}", header(WHAT));
    if part.is_typescript(settings) {
        return vec![("api.ts", types)];
    }
    let mut files = vec![("api.js", javascript()), ("api.d.ts", types.clone())];
    if settings.commonjs && part.is_app() {
        files.extend([("api_cjs.cjs", commonjs()), ("api_cjs.d.cts", types)]);
    }
    files
}

/// Files that let sources be bundled before their functions are known.
pub(super) fn stubs(settings: &Settings, typescript: bool) -> Vec<Generated> {
    let types = "import type { AnyApi, AnyComponents } from \"convex/server\";\n";
    let lines = [("api", "AnyApi"), ("internal", "AnyApi"), ("components", "AnyComponents")];
    if typescript {
        let lines = lines.map(|(name, is)| {
            let value = if name == "components" { "componentsGeneric()" } else { "anyApi" };
            format!("export const {name}: {is} = {value};\n")
        });
        return vec![("api.ts", format!("{}{types}{VALUES}\n{}", header(WHAT), lines.concat()))];
    }
    let lines = lines.map(|(name, is)| format!("export declare const {name}: {is};\n"));
    let types = format!("{}{types}\n{}", header(WHAT), lines.concat());
    let mut files = vec![("api.js", javascript()), ("api.d.ts", types.clone())];
    if settings.commonjs {
        files.extend([("api_cjs.cjs", commonjs()), ("api_cjs.d.cts", types)]);
    }
    files
}

/// The type of what a component gives to its parents.
///
/// # Errors
/// An answer of the host that lacks something.
pub(super) fn component(found: &Value) -> Result<String, Unusable> {
    let head = header("Generated `ComponentApi` utility.");
    let import = "import type { FunctionReference } from \"convex/server\";\n\n";
    let exports = exports(found, &found["definition"]["exports"], Some("Name"))?;
    // The line before it is full: 80 columns.
    let name = "export type ComponentApi<Name extends string | undefined = string | undefined> =";
    let below = indent(concat([Doc::Hardline, exports.doc()]));
    let body = print(&concat([text(name), below, text(";\n")]));
    Ok(format!("{head}{import}{}{body}", comment("ComponentApi")))
}

fn javascript() -> String {
    let api = "export const api = anyApi;\nexport const internal = anyApi;\n";
    let components = "export const components = componentsGeneric();\n";
    format!("{}{VALUES}\n{}{api}{components}", header(WHAT), api_comment("api", ""))
}

fn commonjs() -> String {
    let body = "const { anyApi } = require(\"convex/server\");\nmodule.exports = {\n  \
                api: anyApi,\n  internal: anyApi,\n};\n";
    format!("{}{body}", header(WHAT))
}

/// Kinds of functions: the name of the references to them, and their visibility.
const KINDS: [(&str, &str); 2] = [("api", "public"), ("internal", "internal")];

fn api_comment(name: &str, kind: &str) -> String {
    let kind = if kind.is_empty() { String::new() } else { format!(" {kind}") };
    format!(
        "/**\n * A utility for referencing Convex functions in your app's{kind} API.\n *\n \
         * Usage:\n * ```js\n * const myFunctionReference = {name}.myModule.myFunction;\n \
         * ```\n */\n"
    )
}

/// Functions as TypeScript infers them from their modules.
fn inferred(modules: &[String], typescript: bool) -> String {
    let mut modules: Vec<&str> = modules.iter().map(String::as_str).collect();
    // With their extensions: `a.ts` comes before `a/b.ts`.
    modules.sort_unstable();
    let mut taken = BTreeSet::new();
    let (mut imports, mut members) = (String::new(), vec![]);
    for module in modules.into_iter().map(stem) {
        let mut name = identifier(module);
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        imports.push_str(&format!("import type * as {name} from \"../{module}.js\";\n"));
        members.push(Member::new(module, Type::word(format!("typeof {name}"))));
    }
    if !imports.is_empty() {
        imports.push('\n');
    }
    imports.push_str(DYNAMIC_TYPES);
    let modules = print(&Type::tall(members).doc());
    let (declare, declare_full, value) = match typescript {
        true => ("export const", "const", " = anyApi as any"),
        false => ("export declare const", "declare const", ""),
    };
    if typescript {
        imports.push_str(VALUES);
    }
    let full = format!("{declare_full} fullApi: ApiFromModules<{modules}>{value};\n");
    let apis = KINDS.map(|(name, kind)| {
        let is = format!("FilterApi<\n  typeof fullApi,\n  FunctionReference<any, \"{kind}\">\n>");
        format!("\n{}{declare} {name}: {is}{value};\n", api_comment(name, kind))
    });
    format!("{imports}\n{full}{}", apis.concat())
}

/// Functions by the validators that they declare.
fn written_out(found: &Value, typescript: bool) -> Result<String, Unusable> {
    let (declare, value) = match typescript {
        true => ("export const", " = anyApi as any;\n"),
        false => ("export declare const", ";\n"),
    };
    let mut apis = String::new();
    for (name, kind) in KINDS {
        let tree = tree(found, kind)?.into_type().doc();
        let doc = concat([text(format!("{declare} {name}: ")), tree, text(value)]);
        apis.push_str(&format!("\n{}{}", api_comment(name, kind), print(&doc)));
    }
    let values = if typescript { VALUES } else { "" };
    Ok(format!("{STATIC_TYPES}{values}{apis}"))
}

/// Functions of a kind, by the parts of their names.
#[derive(Default)]
struct Tree {
    branches: BTreeMap<String, Self>,
    functions: BTreeMap<String, Type>,
}

fn tree(found: &Value, kind: &str) -> Result<Tree, Unusable> {
    let mut root = Tree::default();
    for (path, module) in found["functions"].as_object().into_iter().flatten() {
        if path.starts_with("_deps/") {
            continue;
        }
        for function in module["functions"].as_array().into_iter().flatten() {
            if function["visibility"]["kind"] != kind {
                continue;
            }
            let folder = stem(path)
                .split('/')
                .fold(&mut root, |tree, part| tree.branches.entry(part.to_owned()).or_default());
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            folder.functions.insert(name, reference(function, kind, true, None)?);
        }
    }
    Ok(root)
}

impl Tree {
    fn into_type(self) -> Type {
        let branches =
            self.branches.into_iter().map(|(name, tree)| Member::new(name, tree.into_type()));
        let functions = self.functions.into_iter().map(|(name, is)| Member::new(name, is));
        sorted(branches.chain(functions).collect())
    }
}

fn sorted(mut members: Vec<Member>) -> Type {
    members.sort_by(|a, b| order::compare(&a.name, &b.name));
    Type::tall(members)
}

/// The children of a part.
fn components(settings: &Settings, push: Push<'_>, found: &Value) -> Result<Type, Unusable> {
    let children = found["definition"]["childComponents"].as_array();
    let mut members = vec![];
    for child in children.into_iter().flatten() {
        let (name, path) = (child["name"].as_str(), child["path"].as_str());
        let (name, path) = (name.unwrap_or_default(), path.unwrap_or_default());
        let is = if settings.codegen.legacy_component_api {
            let found = analysis(push, path)?;
            exports(found, &found["definition"]["exports"], None)?
        } else {
            let specifier = push.specifiers.get(path).map(String::as_str).unwrap_or_default();
            // Ways from one file to another differ from file to file: the path from the app's
            // folder is what the official generator writes, everywhere.
            let from = match specifier.is_empty() || specifier.starts_with('.') {
                true => format!("../{path}"),
                false => specifier.to_owned(),
            };
            Type::word(format!(
                "import(\"{from}/_generated/component.js\").ComponentApi<\"{name}\">"
            ))
        };
        members.push(Member::new(name, is));
    }
    Ok(Type::tall(members))
}

/// What a component exports; `instance` is the type parameter for the name of the instance.
fn exports(found: &Value, tree: &Value, instance: Option<&str>) -> Result<Type, Unusable> {
    if tree["type"] == "leaf" {
        let leaf = tree["leaf"].as_str().unwrap_or_default();
        let function = function(found, leaf)
            .ok_or_else(|| Unusable(format!("nothing is known of the export {leaf:?}")))?;
        return reference(function, "internal", false, instance);
    }
    let mut members = vec![];
    for pair in tree["branch"].as_array().into_iter().flatten() {
        let name = pair[0].as_str().unwrap_or_default();
        members.push(Member::new(name, exports(found, &pair[1], instance)?));
    }
    Ok(sorted(members))
}

/// The analysis of the function that `_reference/function/dir/mod:fn` names.
fn function<'a>(found: &'a Value, leaf: &str) -> Option<&'a Value> {
    let (module, name) = leaf.strip_prefix("_reference/function/")?.rsplit_once(':')?;
    let module = format!("{}.js", module.strip_suffix(".js").unwrap_or(module));
    let functions = found["functions"][module]["functions"].as_array()?;
    functions.iter().find(|function| function["name"] == name)
}

/// `FunctionReference<kind, visibility, arguments, result>`.
fn reference(
    function: &Value,
    visibility: &str,
    with_ids: bool,
    instance: Option<&str>,
) -> Result<Type, Unusable> {
    let type_of = |text: &Value| {
        let Some(text) = text.as_str().filter(|text| !text.is_empty()) else {
            return Ok(Type::word("any"));
        };
        match serde_json::from_str(text) {
            Ok(Value::Null) => Ok(Type::word("any")),
            Ok(validator) => Ok(Type::of(&validator, with_ids)),
            Err(error) => Err(Unusable(format!("the validator {text} does not parse: {error}"))),
        }
    };
    let kind = function["udfType"].as_str().unwrap_or_default().to_lowercase();
    let mut arguments = vec![
        Type::string(&kind),
        Type::string(visibility),
        type_of(&function["args"])?,
        type_of(&function["returns"])?,
    ];
    arguments.extend(instance.map(Type::word));
    Ok(Type::Generic("FunctionReference", arguments))
}

fn stem(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(stem, _)| stem)
}

/// A name for the module inside the file. Two modules may give one name; the caller sorts it out.
fn identifier(module: &str) -> String {
    let name: String =
        module.chars().map(|c| if matches!(c, '/' | '-' | '.') { '_' } else { c }).collect();
    if RESERVED.split_whitespace().any(|word| word == name) {
        return format!("{name}_");
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Words that cannot name an import, and names that the file itself declares.
const RESERVED: &str = "\
    fullApi api internal components \
    await break case catch class const continue debugger default delete do else enum export \
    extends false finally for function if implements import in instanceof interface let new null \
    package private protected public return static super switch this throw true try typeof var \
    void while with yield";

#[cfg(test)]
mod tests {
    use super::*;

    fn api(modules: &[&str]) -> String {
        let modules: Vec<_> = modules.iter().map(ToString::to_string).collect();
        inferred(&modules, false)
    }

    #[test]
    fn modules_are_imported_by_path_under_legal_distinct_names() {
        let text = api(&["b/c.ts", "delete.ts", "b_c.js", "api.tsx", "a-b.mts", "2fa.ts"]);
        for line in [
            "import type * as b_c from \"../b/c.js\";",
            "import type * as b_c_ from \"../b_c.js\";",
            "import type * as delete_ from \"../delete.js\";",
            "import type * as api_ from \"../api.js\";",
            "import type * as a_b from \"../a-b.js\";",
            "import type * as _2fa from \"../2fa.js\";",
            "  \"b/c\": typeof b_c;",
            "  delete: typeof delete_;",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_order_of_modules_changes_nothing() {
        assert_eq!(api(&["b.ts", "a.ts"]), api(&["a.ts", "b.ts"]));
    }
}
