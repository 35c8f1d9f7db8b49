// What `server-only` is on a server: nothing; esbuild's alias in `tests/bundles.rs`.
export {};
