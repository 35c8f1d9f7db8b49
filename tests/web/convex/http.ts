// Routes that the host's own actions fetch.
import { httpRouter } from "convex/server";
import { sendOn } from "./fetching";

const http = httpRouter();
http.route({ path: "/on", method: "GET", handler: sendOn });
export default http;
