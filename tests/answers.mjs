// The answers of actions as they are on the wire.
//
// In: a host, the path of a module. Out: `answer(name, args)`, the whole body of `/api/action`, and
// `error(name, args)`, the text of one that must fail. Invariant: HTTP says 200 in either case.
import assert from "node:assert/strict";

export function answers(host, module) {
  const answer = async (name, args = {}) => {
    const response = await fetch(`${host.url}/api/action`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ path: `${module}:${name}`, args, format: "convex_encoded_json" }),
    });
    assert.equal(response.status, 200);
    return response.json();
  };
  const error = async (name, args) => {
    const { status, errorMessage } = await answer(name, args);
    assert.equal(status, "error", name);
    return errorMessage.replace(/^\[Request ID: [0-9a-f]{16}\] Server Error\n/, "");
  };
  return { answer, error };
}
