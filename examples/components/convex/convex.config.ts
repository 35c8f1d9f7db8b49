// Ten components from npm and one of this app's own. Each has its own tables; all of them share one
// database and its transactions. Two of the aggregate: the same code twice, with other data.
import actionCache from "@convex-dev/action-cache/convex.config";
import actionRetrier from "@convex-dev/action-retrier/convex.config";
import aggregate from "@convex-dev/aggregate/convex.config";
import crons from "@convex-dev/crons/convex.config";
import migrations from "@convex-dev/migrations/convex.config";
import presence from "@convex-dev/presence/convex.config";
import rateLimiter from "@convex-dev/rate-limiter/convex.config";
import shardedCounter from "@convex-dev/sharded-counter/convex.config";
import workflow from "@convex-dev/workflow/convex.config";
import workpool from "@convex-dev/workpool/convex.config";
import { defineApp } from "convex/server";
import audit from "./audit/convex.config";

const app = defineApp();
app.use(actionCache);
app.use(actionRetrier);
app.use(aggregate, { name: "scores" });
app.use(aggregate, { name: "lengths" });
app.use(audit);
app.use(crons);
app.use(migrations);
app.use(presence);
app.use(rateLimiter);
app.use(shardedCounter);
app.use(workflow);
app.use(workpool);

export default app;
