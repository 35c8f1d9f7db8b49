// What the peers share: the transfer's request over HTTP, answered as the host answers it.
//
// In: a port, an async `transfer(from, to, amount)` that throws where the host's does. Out: a
// server on 127.0.0.1. Invariant: an answer leaves after what it says is committed.
import { createServer } from "node:http";

/** Answers POST /api/mutation with `{ path, args: { from_id, to_id, amount } }`. */
export function serve(port, transfer) {
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => answer(Buffer.concat(chunks), response, transfer));
  });
  server.keepAliveTimeout = 0;
  server.listen(port, "127.0.0.1");
}

async function answer(body, response, transfer) {
  let status = 200;
  let told;
  try {
    const { from_id, to_id, amount } = JSON.parse(body).args;
    await transfer(from_id, to_id, amount);
    told = '{"status":"success","value":null}';
  } catch (error) {
    status = 560;
    told = JSON.stringify({ status: "error", errorMessage: String(error) });
  }
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(told) };
  response.writeHead(status, headers);
  response.end(told);
}

/** The check of the host's `transfer`, between its reads and its writes. */
export function check(from, to, amount) {
  if (from === undefined || to === undefined) throw new Error("NoSuchAccount");
  if (from.balance < amount) throw new Error("InsufficientFunds");
}
