// Modules that share a scope once they are joined: every name here clashes with another's.
export { name, read as readA, Shape } from "./a.js";
export { name as nameB, read as readB, Shape as ShapeB, fetchLike } from "./b.js";
export { default as anonymous } from "./default.js";
export { default as named } from "./named.js";
export { even, odd } from "./even.js";
export * from "./members.js";
export const unused = () => "nobody asks";
