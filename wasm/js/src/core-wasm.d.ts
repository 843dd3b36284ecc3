// workerd's own way with wasm.
declare module '*.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
