// What a page downloads: `node test/sizes.mjs` prints it as JSON.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const dist = new URL('../dist/', import.meta.url);
const read = name => readFileSync(new URL(name, dist));

/** The scripts that a script imports, and what they import, but for what comes later if it is asked for. */
function graph(entry, found = new Set()) {
  if (found.has(entry)) return found;
  found.add(entry);
  for (const [, name] of read(entry).toString().matchAll(/(?:from|import)\s*["']\.\/([\w-]+\.js)["']/g)) graph(name, found);
  return found;
}

const kb = bytes => Math.round(bytes / 100) / 10;

/** In kB of 1,000 bytes, as a server compresses at its best. */
export function sizes() {
  const wasm = read('core.wasm');
  const brotli = brotliCompressSync(wasm, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: wasm.length } });
  // The page's scripts and the worker's, as a bundler puts them together.
  const scripts = new Set([...graph('index.js'), ...graph('worker.js')]);
  const gzip = gzipSync(Buffer.concat([...scripts].map(read)), { level: 9 });
  return { wasm_raw_kb: kb(wasm.length), wasm_brotli_kb: kb(brotli.length), js_gzip_kb: kb(gzip.length) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(JSON.stringify(sizes()));
