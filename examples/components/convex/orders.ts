// workflow: a program of steps that remembers how far it came, and waits for events in between.
import { vWorkflowId, type WorkflowId, WorkflowManager } from "@convex-dev/workflow";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalAction, internalMutation, mutation, query } from "./_generated/server";

const workflow = new WorkflowManager(components.workflow);

export const order = workflow
  .define({ args: { item: v.string() }, returns: v.string() })
  .handler(async (step, { item }): Promise<string> => {
    const price: number = await step.runAction(internal.orders.askPrice, { item });
    await step.awaitEvent({ name: "paid" });
    await step.runMutation(internal.orders.ship, { item, price });
    return `${item} for ${price}`;
  });

export const askPrice = internalAction({
  args: { item: v.string() },
  handler: async (_ctx, { item }) => item.length * 10,
});

export const ship = internalMutation({
  args: { item: v.string(), price: v.number() },
  handler: async (ctx, { item, price }) => {
    await ctx.db.insert("outcomes", { of: `order of ${item}`, text: `shipped for ${price}` });
  },
});

export const place = mutation({
  args: { item: v.string() },
  returns: vWorkflowId,
  handler: (ctx, args): Promise<WorkflowId> => workflow.start(ctx, internal.orders.order, args),
});

export const pay = mutation({
  args: { id: vWorkflowId },
  handler: async (ctx, { id }) => {
    await workflow.sendEvent(ctx, { workflowId: id, name: "paid" });
  },
});

export const status = query({
  args: { id: vWorkflowId },
  handler: async (ctx, { id }) => {
    const status = await workflow.status(ctx, id);
    return status.type === "completed" ? String(status.result) : status.type;
  },
});
