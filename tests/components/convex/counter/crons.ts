import { cronJobs, makeFunctionReference } from "convex/server";

const crons = cronJobs();
const hidden = makeFunctionReference<"mutation">("lib:hidden");
crons.interval("tick", { hours: 1 }, hidden, { name: "ticked" });
export default crons;
