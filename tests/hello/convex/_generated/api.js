/* eslint-disable */
/**
 * References to this app's functions.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import { anyApi, componentsGeneric } from "convex/server";

/** Public and internal functions by module: `api.messages.list`. */
export const api = anyApi;
/** The same object; the types tell which functions only the app itself may call. */
export const internal = anyApi;
/** Functions of the components that the app uses. */
export const components = componentsGeneric();
