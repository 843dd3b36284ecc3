// The package in Node: the wasm is a file beside it, and there are no workers.
import { create, open } from './open.js';
import type { Platform } from './platform.js';
import type { OpenOptions, Space } from './types.js';

declare const process: { getBuiltinModule(name: 'node:fs/promises'): { readFile(path: URL): Promise<Uint8Array> } };

/** Once bundled, the file may lie where nobody knows; then the copy inside the scripts serves. */
const wasm = async (): Promise<unknown> => {
  try {
    return await process.getBuiltinModule('node:fs/promises').readFile(new URL('./core.wasm', import.meta.url));
  } catch {
    return (await import('./embedded.js')).embedded();
  }
};

const PLATFORM: Platform = { wasm };

/** Opens a space: the one that is asked for, the one of the peer that serves this page, or this device's own. */
export function openSpace(options?: OpenOptions): Promise<Space> {
  return open(PLATFORM, options);
}

/** Makes a space, with this device as its admin. */
export function createSpace(options?: OpenOptions & { space?: never; grant?: never }): Promise<Space> {
  return create(PLATFORM, options);
}

export * from './face.js';
