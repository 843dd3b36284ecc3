// The wasm inside a script: gzip, as base64.
import { fromBase64 } from './values.js';
import base64 from './core-base64.js';

export async function embedded(): Promise<Uint8Array> {
  const packed = fromBase64(base64);
  const wasm = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip')));
  return new Uint8Array(await wasm.arrayBuffer());
}
