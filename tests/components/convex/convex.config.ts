import { defineApp } from "convex/server";
import { v } from "convex/values";
import counter from "./counter/convex.config";
import outer from "./outer/convex.config";

const app = defineApp({ env: { SHARED: v.optional(v.string()) } });
app.use(counter, { name: "one", env: { LABEL: "first", SHARED: app.env.SHARED } });
app.use(counter, { name: "two", httpPrefix: "/two/", env: { LABEL: "second" } });
app.use(outer, { httpPrefix: "/outer/" });
export default app;
