//! `server.js`, `server.d.ts` or `server.ts`: the builders of functions, typed with the tables.
//!
//! In: the environment variables that a part declares. Out: files. Invariant: the three forms
//! export the same names, in the same order, with the same comments.

use serde_json::Value;

use super::layout::{concat, print, text};
use super::validators::{Member, Type};
use super::{Generated, comment, header};

/// The environment variables of a part.
pub(super) enum Variables {
    /// Before the host has looked at the definition.
    Unknown,
    /// Name and type.
    Known(Vec<(String, Type)>),
}

impl Variables {
    /// Those that a definition declares
    /// (`convex-compat.md` section 6.4: `[[name, {type: "value", value: "<validator json>"}]]`),
    /// after the two that every deployment has.
    pub(super) fn declared(definition: &Value) -> Self {
        let always = ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"];
        let mut all: Vec<_> =
            always.map(|name| (name.to_owned(), Type::word("string"))).into_iter().collect();
        for pair in definition["envVars"].as_array().into_iter().flatten() {
            let Some(name) = pair[0].as_str() else { continue };
            let validator = pair[1]["value"].as_str().and_then(|v| serde_json::from_str(v).ok());
            let is = match &validator {
                Some(validator) => Type::of(validator, false),
                None => Type::word("unknown"),
            };
            let absent =
                (pair[1]["optional"] == Value::Bool(true)).then(|| Type::word("undefined"));
            all.push((name.to_owned(), Type::union(std::iter::once(is).chain(absent))));
        }
        Self::Known(all)
    }

    fn declaration(&self) -> String {
        let Self::Known(all) = self else { return String::new() };
        let member =
            |(name, is): &(String, Type)| Member::new(format!("readonly {name}"), is.clone());
        let object = Type::tall(all.iter().map(member).collect());
        let doc = concat([text("type Env = "), object.doc(), text(";\n\n")]);
        format!("{}{}", comment("Env"), print(&doc))
    }
}

/// A builder: name, type, and the function that the package has for it.
const BUILDERS: [(&str, &str, &str); 7] = [
    ("query", "QueryBuilder<DataModel, \"public\">", "queryGeneric"),
    ("internalQuery", "QueryBuilder<DataModel, \"internal\">", "internalQueryGeneric"),
    ("mutation", "MutationBuilder<DataModel, \"public\">", "mutationGeneric"),
    ("internalMutation", "MutationBuilder<DataModel, \"internal\">", "internalMutationGeneric"),
    ("action", "ActionBuilder<DataModel, \"public\">", "actionGeneric"),
    ("internalAction", "ActionBuilder<DataModel, \"internal\">", "internalActionGeneric"),
    ("httpAction", "HttpActionBuilder", "httpActionGeneric"),
];

const CONTEXTS: [(&str, &str); 5] = [
    ("QueryCtx", "GenericQueryCtx"),
    ("MutationCtx", "GenericMutationCtx"),
    ("ActionCtx", "GenericActionCtx"),
    ("DatabaseReader", "GenericDatabaseReader"),
    ("DatabaseWriter", "GenericDatabaseWriter"),
];

const VALUES: &str = "import {
  actionGeneric,
  httpActionGeneric,
  queryGeneric,
  mutationGeneric,
  internalActionGeneric,
  internalMutationGeneric,
  internalQueryGeneric,
} from \"convex/server\";
";

const TYPES: &str = "  HttpActionBuilder,
  MutationBuilder,
  QueryBuilder,
  GenericActionCtx,
  GenericMutationCtx,
  GenericQueryCtx,
  GenericDatabaseReader,
  GenericDatabaseWriter,
} from \"convex/server\";
";

const MODEL: &str = "import type { DataModel } from \"./dataModel.js\";\n\n";

/// The files of a part.
pub(super) fn files(is_app: bool, typescript: bool, variables: &Variables) -> Vec<Generated> {
    let head = header(
        "Generated utilities for implementing server-side Convex query and mutation functions.",
    );
    let declaration = variables.declaration();
    if !typescript {
        let js = builders(|name, _, generic| format!("export const {name} = {generic};\n"));
        let types = builders(|name, is, _| format!("export declare const {name}: {is};\n"));
        let env = "export const env = process.env;\n";
        let env_type = match variables {
            Variables::Unknown => "Record<string, string | undefined>",
            Variables::Known(_) => "Env",
        };
        let env_types = format!("export declare const env: {env_type};\n\n");
        let docs = env_comment(variables);
        return vec![
            ("server.js", format!("{head}{VALUES}\n{js}{docs}{env}")),
            (
                "server.d.ts",
                format!(
                    "{head}import {{\n  ActionBuilder,\n{TYPES}{MODEL}{declaration}{types}{docs}\
                     {env_types}{}",
                    contexts(true)
                ),
            ),
        ];
    }
    let types = format!("import type {{\n  ActionBuilder,\n{TYPES}");
    let imports = if is_app { format!("{VALUES}{types}") } else { format!("{types}{VALUES}") };
    let constants = builders(constant);
    let (constants, docs) = match is_app {
        true => (constants.as_str(), env_comment(variables)),
        // Without a comment there is no line between the last builder and the variables.
        false => (constants.strip_suffix('\n').unwrap_or(&constants), ""),
    };
    let env = env_constant(variables);
    let contexts = contexts(is_app);
    let text = format!("{head}{imports}{MODEL}{declaration}{constants}{docs}{env}{contexts}");
    vec![("server.ts", text)]
}

fn builders(line: impl Fn(&str, &str, &str) -> String) -> String {
    let all = BUILDERS.iter().map(|(name, is, generic)| {
        let line = line(name, is, generic);
        format!("{}{line}\n", comment(name))
    });
    all.collect()
}

/// On one line if that has at most 80 columns.
fn constant(name: &str, is: &str, generic: &str) -> String {
    let line = format!("export const {name}: {is} = {generic};\n");
    if line.len() <= 81 { line } else { format!("export const {name}: {is} =\n  {generic};\n") }
}

fn env_comment(variables: &Variables) -> &'static str {
    match variables {
        Variables::Unknown => "",
        Variables::Known(_) => comment("env"),
    }
}

fn env_constant(variables: &Variables) -> &'static str {
    match variables {
        Variables::Unknown => {
            "export const env: Record<string, string | undefined> = (\n  \
             globalThis as unknown as {\n    \
             process: { env: Record<string, string | undefined> };\n  }\n).process.env;\n\n"
        }
        Variables::Known(_) => {
            "export const env: Env = (globalThis as unknown as { process: { env: Env } })\n  \
             .process.env;\n\n"
        }
    }
}

/// What functions take as their first argument, and what is in it.
fn contexts(is_app: bool) -> String {
    let all = CONTEXTS.map(|(name, generic)| {
        let own = if is_app { "" } else { comment(&format!("component {name}")) };
        let comment = if own.is_empty() { comment(name) } else { own };
        format!("{comment}export type {name} = {generic}<DataModel>;\n")
    });
    all.join("\n")
}
