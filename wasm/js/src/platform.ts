// What differs between the places where the package runs: where its wasm comes from, and how it gets a worker.
import type { MakeWorker } from './worker-engine.js';

/** The package's own wasm: a response, bytes, or a module. */
export type WasmSource = () => unknown;

export interface Platform {
  readonly wasm: WasmSource;
  /** The package's own worker; none where there are no workers. */
  readonly worker?: MakeWorker;
  /** The worker is handed the wasm, since it has no way to get it. */
  readonly handsOver?: boolean;
}
