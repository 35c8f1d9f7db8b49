// The peer of the bench http_actions: `deno serve` with the smallest handler there is.
export default { fetch: () => new Response("hello") };
