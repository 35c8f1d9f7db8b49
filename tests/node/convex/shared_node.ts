"use node";
// Imported by another Node module; it has no functions of its own.
import { format } from "node:util";

export const shared = (n: number) => format("%d is shared", n);
