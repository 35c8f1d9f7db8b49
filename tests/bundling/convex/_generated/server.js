import { anyApi, queryGeneric } from "convex/server";

export const query = queryGeneric;
export const api = anyApi;
export const internal = anyApi;
