import { httpActionGeneric as httpAction, httpRouter } from "convex/server";

const http = httpRouter();
http.route({
  path: "/two/exact",
  method: "GET",
  handler: httpAction(async () => new Response("the app's")),
});
http.route({
  pathPrefix: "/outer/inner/app/",
  method: "GET",
  handler: httpAction(async () => new Response("the app's longer prefix")),
});
export default http;
