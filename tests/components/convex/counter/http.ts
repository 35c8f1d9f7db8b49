import { httpActionGeneric as httpAction, httpRouter, makeFunctionReference } from "convex/server";

const value = makeFunctionReference<"query">("lib:value");
const http = httpRouter();
http.route({
  path: "/value",
  method: "GET",
  handler: httpAction(async (ctx, request) => {
    const url = new URL(request.url);
    const count = await ctx.runQuery(value, { name: url.searchParams.get("name") ?? "" });
    return new Response(`${process.env.LABEL} ${count} ${url.pathname}`);
  }),
});
export default http;
