// A project whose generated code has something of everything.
import { defineApp } from "convex/server";
import { v } from "convex/values";
import shapes from "./shapes/convex.config";
import inner from "./shapes/inner/convex.config.js";

const app = defineApp({
  env: {
    MODE: v.union(v.literal("a"), v.literal("b")),
    KEY: v.optional(v.string()),
  },
});
app.use(shapes, { env: { LEVEL: app.env.MODE } });
app.use(inner, { name: "alone" });

export default app;
