import { z } from "zod";
import * as mini from "zod/mini";
import type { ZodType } from "zod";

const user: ZodType = z.object({
  name: z.string().min(2),
  age: z.number().int().optional(),
  tags: z.array(z.enum(["a", "b"])).default([]),
});

export function run() {
  z.config(z.locales.en()); // zod keeps its settings on globalThis
  const bad = user.safeParse({ name: "x", age: 1.5 });
  return {
    good: user.parse({ name: "Ada" }),
    bad: bad.success ? null : z.treeifyError(bad.error),
    schema: z.toJSONSchema(user),
    mini: mini.safeParse(mini.email(), "nobody").error?.issues,
    coerced: z.coerce.date().parse("2020-01-02").toISOString(),
    german: (z.config(z.locales.de()), z.string().safeParse(1).error?.issues[0]?.message),
  };
}
