//! `convex/_generated`: what editors and bundlers read to know an app's functions and tables.
//!
//! In: the app's modules, whether it has a schema, the environment variables it declares.
//! Out: five files with the exports and types of the npm package's own generator (dynamic form).
//! Invariant: equal apps give equal bytes; a file that would not change is not written, so that
//! watchers and type checkers stay asleep.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Name of the folder inside the functions folder.
pub const FOLDER: &str = "_generated";

/// What the files are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Entry modules relative to the functions folder, with an extension: `dir/mod.js`.
    pub modules: Vec<String>,
    /// Whether there is a `schema.ts`.
    pub has_schema: bool,
    /// Declared environment variables: name and TypeScript type.
    pub variables: Vec<(String, String)>,
}

/// One file: its name and its text.
pub type Generated = (&'static str, String);

/// The files, in the order in which they refer to each other.
pub fn files(app: &App) -> Vec<Generated> {
    vec![
        ("dataModel.d.ts", data_model(app.has_schema)),
        ("server.d.ts", server_types(&app.variables)),
        ("server.js", format!("{}{SERVER_JS}", header("Builders of this app's functions."))),
        ("api.d.ts", api_types(&app.modules)),
        ("api.js", format!("{}{API_JS}", header("References to this app's functions."))),
    ]
}

/// Writes the files that are not there at all, for an app that is bundled for the first time: its
/// sources import them. The push that follows knows the app and writes the true ones.
///
/// # Errors
/// A folder or file that cannot be read or written.
pub fn write_missing(functions_dir: &Path) -> io::Result<()> {
    let has_schema = ["schema.ts", "schema.js"].iter().any(|n| functions_dir.join(n).exists());
    let folder = functions_dir.join(FOLDER);
    let mut missing = files(&App { has_schema, ..App::default() });
    missing.retain(|(name, _)| !folder.join(name).exists());
    if missing.is_empty() { Ok(()) } else { write(functions_dir, &missing).map(drop) }
}

/// Writes what changed below `functions_dir`, and says which files those were.
///
/// # Errors
/// A folder or file that cannot be read or written.
pub fn write(functions_dir: &Path, files: &[Generated]) -> io::Result<Vec<PathBuf>> {
    let folder = functions_dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|before| before == text.as_bytes()) {
            continue;
        }
        // Renamed into place: a type checker that looks now sees the old file or the new one.
        let draft = folder.join(format!(".{name}.new"));
        fs::write(&draft, text)?;
        fs::rename(&draft, &path)?;
        written.push(path);
    }
    Ok(written)
}

/// The declared variables, from the definition in an answer of `start_push`
/// (`convex-compat.md` section 6.4: `[[name, {type: "value", value: "<validator json>"}]]`).
pub fn variables(definition: &Value) -> Vec<(String, String)> {
    let declared = definition["envVars"].as_array().map(Vec::as_slice).unwrap_or_default();
    let variable = |pair: &Value| {
        let validator: Value = serde_json::from_str(pair[1]["value"].as_str()?).ok()?;
        let mut written = type_of(&validator);
        if pair[1]["optional"] == Value::Bool(true) {
            written.push_str(" | undefined");
        }
        Some((pair[0].as_str()?.to_owned(), written))
    };
    declared.iter().filter_map(variable).collect()
}

/// The TypeScript type of a scalar validator: environment variables are nothing else.
fn type_of(validator: &Value) -> String {
    match validator["type"].as_str() {
        Some("string") => "string".into(),
        Some("number") => "number".into(),
        Some("bigint") => "bigint".into(),
        Some("boolean") => "boolean".into(),
        Some("null") => "null".into(),
        Some("literal") => validator["value"].to_string(),
        Some("union") => {
            let members = validator["value"].as_array().map(Vec::as_slice).unwrap_or_default();
            members.iter().map(type_of).collect::<Vec<_>>().join(" | ")
        }
        _ => "unknown".into(),
    }
}

fn header(what: &str) -> String {
    format!(
        "/* eslint-disable */\n/**\n * {what}\n *\n * Generated at every push: edits are lost. \
         To generate it again:\n * `concave dev`, `concave push` or `npx convex dev`.\n \
         * @module\n */\n\n"
    )
}

fn data_model(has_schema: bool) -> String {
    let model = if has_schema { DATA_MODEL } else { DATA_MODEL_WITHOUT_SCHEMA };
    format!("{}{model}", header("Types of this app's tables and documents."))
}

fn server_types(variables: &[(String, String)]) -> String {
    let head = header("Builders of this app's functions, typed with its tables.");
    // The host sets these two in every deployment.
    let mut fields = String::new();
    for name in ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"] {
        fields.push_str(&format!("  readonly {name}: string;\n"));
    }
    for (name, written) in variables {
        fields.push_str(&format!("  readonly {name}: {written};\n"));
    }
    format!("{head}{}", SERVER_D_TS.replace("  FIELDS;\n", &fields))
}

fn api_types(modules: &[String]) -> String {
    let mut modules: Vec<&str> = modules.iter().map(|module| stem(module)).collect();
    modules.sort_unstable();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let (mut imports, mut entries) = (String::new(), String::new());
    for module in modules {
        let mut name = identifier(module);
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        imports.push_str(&format!("import type * as {name} from \"../{module}.js\";\n"));
        let quoted = if name == module { module.to_owned() } else { format!("\"{module}\"") };
        entries.push_str(&format!("  {quoted}: typeof {name};\n"));
    }
    let head = header("Types of the references to this app's functions.");
    let body = API_D_TS.replace("  MODULES;\n", &entries);
    format!("{head}{imports}{body}")
}

fn stem(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(stem, _)| stem)
}

/// A name for the module inside `api.d.ts`. Two modules may give one name; the caller sorts it out.
fn identifier(module: &str) -> String {
    let name: String =
        module.chars().map(|c| if matches!(c, '/' | '-' | '.') { '_' } else { c }).collect();
    if RESERVED.contains(&name.as_str()) {
        return format!("{name}_");
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Words that cannot name an import, and names that the file itself declares.
const RESERVED: &[&str] = &[
    "api",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "components",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "fullApi",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "internal",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

const API_JS: &str = r#"import { anyApi, componentsGeneric } from "convex/server";

/** Public and internal functions by module: `api.messages.list`. */
export const api = anyApi;
/** The same object; the types tell which functions only the app itself may call. */
export const internal = anyApi;
/** Functions of the components that the app uses. */
export const components = componentsGeneric();
"#;

const API_D_TS: &str = r#"import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";

declare const fullApi: ApiFromModules<{
  MODULES;
}>;

/** The functions that clients may call: `api.messages.list`. */
export declare const api: FilterApi<typeof fullApi, FunctionReference<any, "public">>;

/** The functions that only the app itself may call: `internal.cleanup.run`. */
export declare const internal: FilterApi<typeof fullApi, FunctionReference<any, "internal">>;

/** Functions of the components that the app uses. */
export declare const components: {};
"#;

const DATA_MODEL: &str = r#"import type {
  DataModelFromSchemaDefinition,
  DocumentByName,
  SystemTableNames,
  TableNamesInDataModel,
} from "convex/server";
import type { GenericId } from "convex/values";
import schema from "../schema.js";

/** Every table of the schema, with its documents and indexes. */
export type DataModel = DataModelFromSchemaDefinition<typeof schema>;

/** The names of the tables. */
export type TableNames = TableNamesInDataModel<DataModel>;

/** A document of one table: `Doc<"messages">`. */
export type Doc<TableName extends TableNames> = DocumentByName<DataModel, TableName>;

/** The id of a document: `Id<"messages">`. A string when the program runs. */
export type Id<TableName extends TableNames | SystemTableNames> = GenericId<TableName>;
"#;

const DATA_MODEL_WITHOUT_SCHEMA: &str = r#"import type { AnyDataModel } from "convex/server";
import type { GenericId } from "convex/values";

// There is no schema.ts yet, so any document fits anywhere. Add one to have documents checked.

/** Every table, as far as is known: anything. */
export type DataModel = AnyDataModel;

/** The names of the tables. */
export type TableNames = string;

/** A document. */
export type Doc = any;

/** The id of a document: `Id<"messages">`. A string when the program runs. */
export type Id<TableName extends TableNames = TableNames> = GenericId<TableName>;
"#;

const SERVER_JS: &str = r#"import {
  actionGeneric,
  httpActionGeneric,
  internalActionGeneric,
  internalMutationGeneric,
  internalQueryGeneric,
  mutationGeneric,
  queryGeneric,
} from "convex/server";

/** Reads the database; anybody may call it. */
export const query = queryGeneric;
/** Reads the database; only the app itself may call it. */
export const internalQuery = internalQueryGeneric;
/** Reads and writes the database in one transaction; anybody may call it. */
export const mutation = mutationGeneric;
/** Reads and writes the database in one transaction; only the app itself may call it. */
export const internalMutation = internalMutationGeneric;
/** Reaches the outside world; anybody may call it. */
export const action = actionGeneric;
/** Reaches the outside world; only the app itself may call it. */
export const internalAction = internalActionGeneric;
/** Answers HTTP requests that `http.ts` routes to it. */
export const httpAction = httpActionGeneric;
/** Environment variables of the deployment. */
export const env = process.env;
"#;

const SERVER_D_TS: &str = r#"import type {
  ActionBuilder,
  GenericActionCtx,
  GenericDatabaseReader,
  GenericDatabaseWriter,
  GenericMutationCtx,
  GenericQueryCtx,
  HttpActionBuilder,
  MutationBuilder,
  QueryBuilder,
} from "convex/server";
import type { DataModel } from "./dataModel.js";

type Env = {
  FIELDS;
};

/** Reads the database; anybody may call it. */
export declare const query: QueryBuilder<DataModel, "public">;

/** Reads the database; only the app itself may call it. */
export declare const internalQuery: QueryBuilder<DataModel, "internal">;

/** Reads and writes the database in one transaction; anybody may call it. */
export declare const mutation: MutationBuilder<DataModel, "public">;

/** Reads and writes the database in one transaction; only the app itself may call it. */
export declare const internalMutation: MutationBuilder<DataModel, "internal">;

/** Reaches the outside world; anybody may call it. */
export declare const action: ActionBuilder<DataModel, "public">;

/** Reaches the outside world; only the app itself may call it. */
export declare const internalAction: ActionBuilder<DataModel, "internal">;

/** Answers HTTP requests that `http.ts` routes to it. */
export declare const httpAction: HttpActionBuilder;

/** Environment variables of the deployment. */
export declare const env: Env;

/** First argument of a query. */
export type QueryCtx = GenericQueryCtx<DataModel>;

/** First argument of a mutation. */
export type MutationCtx = GenericMutationCtx<DataModel>;

/** First argument of an action. */
export type ActionCtx = GenericActionCtx<DataModel>;

/** `ctx.db` of a query. */
export type DatabaseReader = GenericDatabaseReader<DataModel>;

/** `ctx.db` of a mutation. */
export type DatabaseWriter = GenericDatabaseWriter<DataModel>;
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(modules: &[&str]) -> App {
        let modules = modules.iter().map(ToString::to_string).collect();
        App { modules, has_schema: true, ..App::default() }
    }

    fn api(modules: &[&str]) -> String {
        files(&app(modules)).into_iter().find(|(name, _)| *name == "api.d.ts").unwrap().1
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
            "  \"delete\": typeof delete_;",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_order_of_modules_changes_nothing() {
        assert_eq!(api(&["b.ts", "a.ts"]), api(&["a.ts", "b.ts"]));
    }

    #[test]
    fn declared_variables_are_typed_after_those_of_the_host() {
        let definition = json!({ "envVars": [
            ["MODE", { "type": "value", "value": "{\"type\":\"union\",\"value\":[\
                {\"type\":\"literal\",\"value\":\"a\"},{\"type\":\"literal\",\"value\":\"b\"}]}" }],
            ["KEY", { "type": "value", "value": "{\"type\":\"string\"}", "optional": true }],
        ] });
        let app = App { variables: variables(&definition), ..App::default() };
        let text = files(&app).into_iter().find(|(name, _)| *name == "server.d.ts").unwrap().1;
        let fields = "  readonly CONVEX_CLOUD_URL: string;\n  readonly CONVEX_SITE_URL: string;\n  \
                      readonly MODE: \"a\" | \"b\";\n  readonly KEY: string | undefined;\n};";
        assert!(text.contains(fields), "{text}");
        assert!(variables(&json!({ "envVars": null })).is_empty());
    }

    #[test]
    fn only_what_changed_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let names = |written: Vec<PathBuf>| -> Vec<String> {
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            written.into_iter().map(name).collect()
        };
        let all = ["dataModel.d.ts", "server.d.ts", "server.js", "api.d.ts", "api.js"];
        assert_eq!(names(write(folder.path(), &files(&app(&["a.ts"]))).unwrap()), all);
        assert!(write(folder.path(), &files(&app(&["a.ts"]))).unwrap().is_empty());
        let two = files(&app(&["a.ts", "b.ts"]));
        assert_eq!(names(write(folder.path(), &two).unwrap()), ["api.d.ts"]);
        fs::remove_file(folder.path().join(FOLDER).join("server.js")).unwrap();
        write_missing(folder.path()).unwrap();
        assert!(write(folder.path(), &two).unwrap().is_empty(), "what was there stayed");
        let left = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(left, all.len(), "no drafts stay");
    }
}
