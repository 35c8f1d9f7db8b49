// What programs print with: values as text that is equal in every runtime.
//
// In: values, and functions that may throw. Out: lines. Invariant: errors are shown by their name
// only; their texts are each runtime's own.

/** A line: values as JSON, with what JSON leaves out. */
export const line = (parts) => parts.map((part) => show(part)).join(" ");

function show(value) {
  if (value === undefined) return "undefined";
  if (typeof value === "bigint" || Number.isNaN(value)) return `${value}`;
  if (value instanceof Uint8Array) return `bytes(${value.join(",")})`;
  if (value instanceof ArrayBuffer) return `buffer(${new Uint8Array(value).join(",")})`;
  if (typeof value === "function") return `function ${value.name}`;
  if (Array.isArray(value)) return `[${value.map(show).join(",")}]`;
  return JSON.stringify(value);
}

/** Prints what `use` gives, or the name of what it throws. */
export function attempt(print, use) {
  try {
    const value = use();
    if (typeof value?.then === "function") return settled(print, value);
    print("gives", typeof value);
  } catch (error) {
    print("throws", error.name);
  }
  return undefined;
}

/** The same of a promise. */
export async function settled(print, promise) {
  try {
    print("resolves", await promise);
  } catch (error) {
    print("rejects", error?.name ?? `${error}`);
  }
}

/** Lines that a program prints. */
export async function printed(program) {
  const lines = [];
  await program((...parts) => lines.push(line(parts)));
  return lines;
}
