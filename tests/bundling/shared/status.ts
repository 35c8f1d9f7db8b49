import { v } from "convex/values";
import { literals } from "convex-helpers/validators";

export type Status = "on" | "off";
export const status = v.optional(literals("on", "off"));
export enum Level {
  Low = 1,
  High,
}
