import { v4, v5, validate, version, NIL, parse } from "uuid";

export function run() {
  const id = v4();
  return {
    five: v5("concave", v5.DNS),
    valid: validate(id),
    version: version(id),
    nil: [...parse(NIL)],
  };
}
