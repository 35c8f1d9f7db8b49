/* eslint-disable */
/**
 * Types of this app's tables and documents.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import type { AnyDataModel } from "convex/server";
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
