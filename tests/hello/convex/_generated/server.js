/* eslint-disable */
/**
 * Builders of this app's functions.
 *
 * Generated at every push: edits are lost. To generate it again:
 * `concave dev`, `concave push` or `npx convex dev`.
 * @module
 */

import {
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
