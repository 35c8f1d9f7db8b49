/* eslint-disable */
/**
 * Types of this app's tables and documents.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import type {
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
