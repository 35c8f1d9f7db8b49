//! Why a call ran again: the line of TypeScript that read, the line that wrote, and the sentence.
//!
//! In: a shop in TypeScript against `convex/server`, bundled with source maps. Out: places found by
//! running recorded calls again. Invariant: each place is the exact call in the author's text,
//! found here by searching for it, never a line of a package.

use std::fs;
use std::sync::Arc;

use bundler::{Bundler, Project};
use database::deployment::{Bundle, Environment, Module};
use database::error::Refusal;
use database::probe::{Probe, Site};
use database::record::{CallRecord, Functions as _, Outcome};
use database::subscriptions::{Invalidation, Owner};

use crate::bundles;
use crate::deployed::Deployed;

const SCHEMA: &str = r#"import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  items: defineTable({ name: v.string(), remaining: v.number() }).index("by_remaining", [
    "remaining",
  ]),
  carts: defineTable({ item: v.id("items"), quantity: v.number() }),
});
"#;

const SHELF: &str = r#"import type { GenericDatabaseReader } from "convex/server";

/** Comments and types, so that lines of TypeScript and of JavaScript differ. */
export interface Few {
  most: number;
}

export async function few(db: GenericDatabaseReader<any>, { most }: Few) {
  const found = await db
    .query("items")
    .withIndex("by_remaining", (q) => q.lte("remaining", most))
    .collect();
  return found;
}
"#;

const SHOP: &str = r#"import {
  anyApi,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { v, type GenericId } from "convex/values";
import { getAll, getAllOrThrow } from "convex-helpers/server/relationships";
import { few, type Few } from "../lib/shelf";

type Item = GenericId<"items">;

export const stock = mutation({
  args: { remaining: v.number() },
  handler: async (ctx, { remaining }) => await ctx.db.insert("items", { name: "cup", remaining }),
});

export const getItems = query({
  args: { most: v.number() },
  handler: async (ctx, few_: Few) => {
    const items = await few(ctx.db, few_);
    return items.length;
  },
});

export const getItem = query({
  handler: async (ctx, { id }: { id: Item }) => {
    const all: unknown[] = [];
    for await (const item of ctx.db.query("items")) all.push(item);
    return (await ctx.db.get(id)) ?? all.length;
  },
});

export const getAllItems = query({
  handler: async (ctx, { ids }: { ids: Item[] }) => {
    const items = await getAllOrThrow(ctx.db as any, ids);
    return items.length;
  },
});

export const getThemLoosely = query({
  handler: async (ctx, { ids }: { ids: Item[] }) =>
    (await getAll(ctx.db as any, ids)).length,
});

export const addCart = mutation({
  handler: async (ctx, { id }: { id: Item }) => {
    const item = await ctx.db.get(id);
    await ctx.db.patch(id, { name: `${item!.name}.` });
    await ctx.db.patch(id, { remaining: item!.remaining - 1 });
    await ctx.db.insert("carts", { item: id, quantity: 1 });
  },
});

export const through = mutation({
  handler: async (ctx, { id }: { id: Item }) => {
    try {
      await ctx.runMutation(anyApi.shop.fails, { id });
    } catch {
      // Its write is undone.
    }
    await ctx.runMutation(anyApi.shop.addCart, { id });
  },
});

export const fails = mutation({
  handler: async (ctx, { id }: { id: Item }) => {
    await ctx.db.patch(id, { remaining: 0 });
    throw new Error("sold out");
  },
});
"#;

/// A position is as its author would count it.
fn at(file: &str, text: &str, before: &str, call: &str) -> (String, u32, u32) {
    let from = text.find(before).unwrap_or_else(|| panic!("{before:?} is in {file}"));
    let offset = from + text[from..].find(call).unwrap_or_else(|| panic!("{call:?}"));
    let line = text[..offset].matches('\n').count() + 1;
    let column = offset - text[..offset].rfind('\n').map_or(0, |end| end + 1) + 1;
    (file.to_owned(), u32::try_from(line).unwrap(), u32::try_from(column).unwrap())
}

fn place(site: Option<Site>) -> (String, u32, u32) {
    let Site { file, line, column, exact, .. } = site.expect("a line of the author's");
    assert!(exact);
    (file, line, column)
}

fn shop() -> Deployed {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("package.json"), r#"{"name":"shop"}"#).unwrap();
    for (name, text) in
        [("convex/schema.ts", SCHEMA), ("lib/shelf.ts", SHELF), ("convex/shop.ts", SHOP)]
    {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    }
    let packages = bundles::project().join("node_modules");
    std::os::unix::fs::symlink(packages, root.join("node_modules")).unwrap();
    let project = Project::find(root).unwrap();
    let output = Bundler::new().bundle(&project).unwrap_or_else(|errors| panic!("{errors}"));
    let module = |module: &bundler::BundledModule| Module {
        path: module.path.as_str().into(),
        source: module.source.as_str().into(),
        source_map: module.source_map.as_deref().map(Into::into),
        environment: Environment::Isolate,
    };
    let modules = output.modules.iter().map(module).map(|m| (Arc::clone(&m.path), m)).collect();
    let schema = output.schema.as_ref().map(module);
    let deployed = Deployed::empty();
    deployed.push_bundle(Bundle { modules, schema, ..Bundle::default() }).unwrap();
    deployed
}

/// What a query read, after `write` ran: why that is out of date, and the record of the query.
fn invalidated(
    deployed: &Deployed,
    (query, args): (&str, &str),
    write: (&str, &str),
) -> (CallRecord, Invalidation) {
    let call = deployed.make(query, args);
    let Outcome { reads, ts, given, result, .. } =
        deployed.start(call.clone()).recv().unwrap().unwrap();
    result.unwrap();
    deployed.value(write.0, write.1);
    let owner = Owner::Cache(std::sync::Weak::new());
    let cause = deployed.database.subscriptions().register(&reads, ts, owner).unwrap_err();
    (CallRecord::new(&call, &given), *cause)
}

fn read_at(deployed: &Deployed, reader: &CallRecord, cause: &Invalidation) -> Option<Site> {
    let probe = Probe::Read(cause.place().unwrap());
    deployed.host.locate(&reader.call().unwrap(), &reader.given, &probe).unwrap()
}

fn written_at(deployed: &Deployed, cause: &Invalidation) -> Option<Site> {
    let probe = Probe::Write(cause.place().unwrap());
    let writer = cause.writer.record.as_ref().expect("a call wrote");
    deployed.host.locate(&writer.call().unwrap(), &writer.given, &probe).unwrap()
}

#[test]
fn an_invalidation_names_both_lines_of_typescript() {
    let deployed = shop();
    let id = deployed.value("shop:stock", r#"{"remaining":10}"#);
    let item = format!(r#"{{"id":{id}}}"#);

    // Inserted into a range that a helper in another file reads.
    let query = ("shop:getItems", r#"{"most":20}"#);
    let (reader, cause) = invalidated(&deployed, query, ("shop:stock", r#"{"remaining":7}"#));
    assert_eq!(
        cause.cause(&reader.path.identifier()),
        "getItems re-ran: stock wrote items[remaining=7] inside the range it read"
    );
    let read = at("lib/shelf.ts", SHELF, "await db", "collect");
    let insert = at("convex/shop.ts", SHOP, "const stock", "insert");
    assert_eq!(place(read_at(&deployed, &reader, &cause)), read);
    assert_eq!(place(written_at(&deployed, &cause)), insert);

    // Moved out of the range by the second of two patches, in a nested call, after one undone.
    let write = ("shop:through", &*item);
    let (reader, cause) = invalidated(&deployed, ("shop:getItems", r#"{"most":10}"#), write);
    let did = "getItems re-ran: through wrote items[remaining=10] inside the range it read";
    assert_eq!(cause.cause("shop:getItems"), did);
    assert_eq!(place(read_at(&deployed, &reader, &cause)), read);
    let patch = at("convex/shop.ts", SHOP, "const addCart", "patch(id, { name");
    assert_eq!(place(written_at(&deployed, &cause)), patch, "the first write to that document");

    // Into the range, by the patch that made the key what it is.
    let write = ("shop:through", &*item);
    let (reader, cause) = invalidated(&deployed, ("shop:getItems", r#"{"most":8}"#), write);
    assert!(cause.cause("shop:getItems").contains("items[remaining=8]"), "{cause}");
    assert_eq!(place(read_at(&deployed, &reader, &cause)), read);
    let patch = at("convex/shop.ts", SHOP, "const addCart", "patch(id, { remaining");
    let site = written_at(&deployed, &cause).unwrap();
    assert_eq!(site.function.as_deref(), Some("handler"));
    assert_eq!(place(Some(site)), patch);
}

#[test]
fn loops_and_point_reads_are_found() {
    let deployed = shop();
    let id = deployed.value("shop:stock", r#"{"remaining":3}"#);
    let item = format!(r#"{{"id":{id}}}"#);
    let write = ("shop:stock", r#"{"remaining":4}"#);
    let (reader, cause) = invalidated(&deployed, ("shop:getItem", &item), write);
    let text = cause.cause("shop:getItem");
    assert!(text.starts_with("getItem re-ran: stock wrote items[_id=\""), "{text}");
    let read = at("convex/shop.ts", SHOP, "for await", "ctx.db.query");
    let (file, line, _) = place(read_at(&deployed, &reader, &cause));
    assert_eq!((file, line), (read.0, read.1));

    // A package reads, after an await of its own: the line is the author's that waits for it.
    let ids = format!(r#"{{"ids":[{id}]}}"#);
    let query = ("shop:getAllItems", &*ids);
    let (reader, cause) = invalidated(&deployed, query, ("shop:addCart", &item));
    let read = at("convex/shop.ts", SHOP, "const getAllItems", "await getAll");
    let site = read_at(&deployed, &reader, &cause).unwrap();
    assert_eq!((site.file.as_str(), site.line, site.exact), (read.0.as_str(), read.1, true));

    // One that leaves no trace: the function is known, the line is not.
    let query = ("shop:getThemLoosely", &*ids);
    let (reader, cause) = invalidated(&deployed, query, ("shop:addCart", &item));
    let site = read_at(&deployed, &reader, &cause).unwrap();
    let handler = at("convex/shop.ts", SHOP, "const getThemLoosely", "handler");
    assert_eq!((site.file.as_str(), site.line, site.exact), (handler.0.as_str(), handler.1, false));
    assert_eq!(site.function.as_deref(), Some("getThemLoosely"));

    let call = deployed.make("shop:addCart", &item);
    let outcome = deployed.start(call.clone()).recv().unwrap().unwrap();
    deployed.value("shop:addCart", &item);
    let owner = Owner::Cache(std::sync::Weak::new());
    let since = outcome.given.snapshot;
    let cause = deployed.database.subscriptions().register(&outcome.reads, since, owner);
    let cause = cause.unwrap_err();
    let reader = CallRecord::new(&call, &outcome.given);
    let text = cause.cause("shop:addCart");
    assert!(text.starts_with("addCart re-ran: another addCart wrote items[_id=\""), "{text}");
    let read = at("convex/shop.ts", SHOP, "const addCart", "get(id)");
    assert_eq!(place(read_at(&deployed, &reader, &cause)), read);
}

#[test]
fn a_push_has_no_line_and_a_forgotten_snapshot_says_so() {
    let deployed = shop();
    let call = deployed.make("shop:getItems", r#"{"most":1}"#);
    let outcome = deployed.start(call.clone()).recv().unwrap().unwrap();
    let bundle = deployed.database.snapshot().deployment.clone().unwrap().bundle.clone();
    let again = Bundle { import_time_ms: 1, ..Bundle::clone(&bundle) };
    deployed.push_bundle(again).unwrap();
    let owner = Owner::Cache(std::sync::Weak::new());
    let cause = deployed.database.subscriptions().register(&outcome.reads, outcome.ts, owner);
    let cause = cause.unwrap_err();
    assert_eq!(
        cause.cause("shop:getItems"),
        "getItems re-ran: a push replaced the code or the schema it ran with"
    );
    let reader = CallRecord::new(&call, &outcome.given);
    assert_eq!(read_at(&deployed, &reader, &cause), None);
    assert!(cause.writer.record.is_none());

    let mut given = outcome.given;
    given.snapshot.0 = 1;
    let probe = Probe::Read(cause.place().unwrap());
    let error = deployed.host.locate(&call, &given, &probe).unwrap_err();
    assert!(matches!(error, Refusal::OutOfRetention(_)), "{error}");
}

#[test]
fn a_conflict_carries_both_calls() {
    let deployed = shop();
    let id = deployed.value("shop:stock", r#"{"remaining":1000000}"#);
    let item = format!(r#"{{"id":{id}}}"#);
    let conflict = (0..200).find_map(|_| {
        let calls: Vec<_> =
            (0..16).map(|_| deployed.start(deployed.make("shop:addCart", &item))).collect();
        let outcomes = calls.into_iter().map(|answer| answer.recv().unwrap().unwrap());
        outcomes.flat_map(|outcome| outcome.retries).next()
    });
    let conflict = conflict.expect("three thousand writers of one document meet somewhere");
    let expected =
        format!("addCart re-ran: another addCart wrote items[_id={id}] inside the range it read");
    assert_eq!(conflict.cause(), expected);
    let found = |writer: &database::commit::Writer, probe: Probe| {
        let record = writer.record.as_ref().expect("a call");
        place(deployed.host.locate(&record.call().unwrap(), &record.given, &probe).unwrap())
    };
    let met = conflict.place.clone().unwrap();
    let read = at("convex/shop.ts", SHOP, "const addCart", "get(id)");
    assert_eq!(found(&conflict.reader, Probe::Read(met.clone())), read);
    let write = at("convex/shop.ts", SHOP, "const addCart", "patch(id, { name");
    assert_eq!(found(&conflict.writer, Probe::Write(met)), write);
}
