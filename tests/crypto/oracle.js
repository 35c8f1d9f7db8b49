// Runs the cases of one family under another runtime, npm's `deno`, and prints their outcomes.
//
// In: on standard input, as JSON, the family and the fixtures. Out: the outcomes on standard
// output, as JSON. Invariant: nothing but JavaScript that every runtime has, and `Deno`.
/* global Deno */
import { outcomes } from "./cases.js";

const { family, fixtures } = JSON.parse(await new Response(Deno.stdin.readable).text());
console.log(JSON.stringify(await outcomes(crypto, family, fixtures)));
