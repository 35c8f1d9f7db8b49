/* eslint-disable */
/**
 * Types of the references to this app's functions.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import type * as http from "../http.js";
import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";

declare const fullApi: ApiFromModules<{
  http: typeof http;
}>;

/** The functions that clients may call: `api.messages.list`. */
export declare const api: FilterApi<typeof fullApi, FunctionReference<any, "public">>;

/** The functions that only the app itself may call: `internal.cleanup.run`. */
export declare const internal: FilterApi<typeof fullApi, FunctionReference<any, "internal">>;

/** Functions of the components that the app uses. */
export declare const components: {};
