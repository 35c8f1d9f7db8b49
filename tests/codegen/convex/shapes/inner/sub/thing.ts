import { v } from "convex/values";
import { mutation } from "../_generated/server.js";
export const put = mutation({
  args: { text: v.string() },
  returns: v.null(),
  handler: async () => null,
});
