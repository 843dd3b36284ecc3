// foreshore: a replicated store that keeps working when the network does not. In browsers, and wherever files can be fetched.
import { fetched } from './fetched.js';
import { create, open } from './open.js';
import { ownWorker } from './own-worker.js';
import type { Platform } from './platform.js';
import type { OpenOptions, Space } from './types.js';

const PLATFORM: Platform = { wasm: fetched, worker: ownWorker };

/** Opens a space: the one that is asked for, the one of the peer that serves this page, or this device's own. */
export function openSpace(options?: OpenOptions): Promise<Space> {
  return open(PLATFORM, options);
}

/** Makes a space, with this device as its admin. */
export function createSpace(options?: OpenOptions & { space?: never; grant?: never }): Promise<Space> {
  return create(PLATFORM, options);
}

export * from './face.js';
