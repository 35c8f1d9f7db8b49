import { defineComponent } from "convex/server";
import { v } from "convex/values";

export default defineComponent("counter", {
  env: { LABEL: v.string(), SHARED: v.optional(v.string()) },
});
