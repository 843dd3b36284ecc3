// The JavaScript that wasm-bindgen writes; `cargo xtask npm` puts it here.
declare const core: unknown;
export default core;
