// `cargo xtask npm` puts it here: core.wasm, packed by gzip, as base64.
declare const base64: string;
export default base64;
