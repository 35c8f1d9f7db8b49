// The smallest HTTP action there is, and one that shows what sharing a context means.
import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";

// Runs of this module share a context, one after another.
export const experimental_reuseContext = true;

let runs = 0;
const http = httpRouter();

const hello = httpAction(async () => new Response("hello"));
http.route({ path: "/hello", method: "GET", handler: hello });

const count = httpAction(async () => {
  runs += 1;
  return new Response(String(runs));
});
http.route({ path: "/count", method: "GET", handler: count });

const broken = httpAction(async () => {
  throw new Error("broken");
});
http.route({ path: "/broken", method: "GET", handler: broken });

export default http;
