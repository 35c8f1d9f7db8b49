/* eslint-disable */
/**
 * Builders of this app's functions, typed with its tables.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import type {
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
  readonly CONVEX_CLOUD_URL: string;
  readonly CONVEX_SITE_URL: string;
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
