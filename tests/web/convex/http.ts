// Routes that the host's own actions fetch.
import { httpRouter } from "convex/server";
import { sendOn } from "./fetching";
import { inHttpAction } from "./globals";

const http = httpRouter();
http.route({ path: "/globals", method: "GET", handler: inHttpAction });
http.route({ path: "/on", method: "GET", handler: sendOn });
export default http;
