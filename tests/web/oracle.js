// Runs a program under another runtime, npm's `deno`, and prints its lines as JSON.
//
// In: on standard input, as JSON, the module, the export and the arguments after `print`. Out: the
// lines on standard output. Invariant: nothing but JavaScript that every runtime has, and `Deno`.
/* global Deno */
import { printed } from "./print.js";

const { module, name, rest } = JSON.parse(await new Response(Deno.stdin.readable).text());
const exports = await import(module);
const program = name.split(".").reduce((value, key) => value[key], exports);
console.log(JSON.stringify(await printed((print) => program(print, ...rest))));
// What a program has left open must not keep the process.
Deno.exit(0);
