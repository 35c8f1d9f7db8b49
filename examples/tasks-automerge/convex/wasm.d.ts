// A .wasm file is a module whose default export is the compiled WebAssembly.
declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
