/* eslint-disable */
/**
 * Types of the references to this app's functions.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import type * as deep_work from "../deep/work.js";
import type * as rows from "../rows.js";
import type * as shared_node from "../shared_node.js";
import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";

declare const fullApi: ApiFromModules<{
  "deep/work": typeof deep_work;
  rows: typeof rows;
  shared_node: typeof shared_node;
}>;

/** The functions that clients may call: `api.messages.list`. */
export declare const api: FilterApi<typeof fullApi, FunctionReference<any, "public">>;

/** The functions that only the app itself may call: `internal.cleanup.run`. */
export declare const internal: FilterApi<typeof fullApi, FunctionReference<any, "internal">>;

/** Functions of the components that the app uses. */
export declare const components: {};
