import { internalAction } from "../_generated/server";
export const act = internalAction(async () => null);
