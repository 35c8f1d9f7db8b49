// Calls that share a context.
import { actionGeneric as action, queryGeneric as query } from "convex/server";

export const experimental_reuseContext = true;

performance.mark("while the module is imported", { startTime: 1 });

/** Marks; gives how many marks and measures there were before. */
const marking = async (_ctx: any, { n }: any) => {
  const before = performance.getEntries().length;
  performance.mark(`mark ${n}`, { startTime: n });
  performance.measure(`measure ${n}`, { start: 0, end: n });
  return before;
};
export const marks = query(marking);
export const marksInAction = action(marking);
