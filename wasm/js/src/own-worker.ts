// The package's own worker, found by bundlers by this very expression. The worker's scripts import none of this, so that
// nothing bundles itself.
import { unbundled } from './fetched.js';
import type { MakeWorker } from './worker-engine.js';

export const ownWorker: MakeWorker = () => {
  const bare = unbundled('worker.js', import.meta.url);
  return bare ? new Worker(bare, { type: 'module', name: 'foreshore' }) : new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'foreshore' });
};
