// What `async_hooks` is in the default runtime: the globals; esbuild's alias in `tests/bundles.rs`.
export const { AsyncLocalStorage, AsyncResource } = globalThis;
