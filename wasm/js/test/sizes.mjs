// What a page downloads: `node test/sizes.mjs` prints it as JSON.
import { readdirSync, readFileSync } from 'node:fs';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const dist = new URL('../dist/', import.meta.url);
const wasm = readFileSync(new URL('core.wasm', dist));
const brotli = brotliCompressSync(wasm, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: wasm.length } });
// What `import 'foreshore'` loads: bindings for editors and frameworks come when asked for.
const scripts = readdirSync(dist).filter(name => name.endsWith('.js') && name !== 'codemirror.js' && name !== 'react.js');
const gzip = gzipSync(Buffer.concat(scripts.map(name => readFileSync(new URL(name, dist)))), { level: 9 });
console.log(JSON.stringify({ wasm_raw_kb: Math.round(wasm.length / 1000), wasm_brotli_kb: Math.round(brotli.length / 1000), js_gzip_kb: Math.round(gzip.length / 100) / 10 }));
