// The package's wasm where it can be fetched. Whatever bundles this finds the file by this very expression: `new URL` with a
// literal and `import.meta.url`.
import type { WasmSource } from './platform.js';

/** Vite's development server bundles a package's scripts into a directory of its own and leaves other files where they are. */
const BUNDLED = /\/\.vite\/deps[^/]*\/.*$/;

/** Where such a file is then, seen from one of the package's scripts. */
export function unbundled(file: string, here: string): string | undefined {
  return BUNDLED.test(here) ? here.replace(BUNDLED, `/foreshore/dist/${file}`) : undefined;
}

export const fetched: WasmSource = () => fetch(unbundled('core.wasm', import.meta.url) ?? new URL('./core.wasm', import.meta.url));
