import { defineComponent } from "convex/server";
import { v } from "convex/values";
import inner from "./inner/convex.config";

const component = defineComponent("shapes", {
  env: { LEVEL: v.string(), DEPTH: v.optional(v.string()) },
});
component.use(inner);
component.use(inner, { name: "second" });
export default component;
