// The way to an engine: requests and events, wherever it runs.
import { ForeshoreError, fromEngine, invalid } from './errors.js';
import { IndexedDbStore } from './store.js';
import type { OpenOptions } from './types.js';
import type { Json } from './values.js';

export interface Request { do: string; [field: string]: unknown }
export interface EngineEvent { event: string; [field: string]: Json }

/** An engine: one peer, its store and its network. */
export interface Engine {
  readonly me: { readonly peer: string; readonly device: string };
  call(request: Request): Promise<Json>;
  /** Stores what is under way and ends it. */
  close(): Promise<void>;
}

export interface EngineOptions { storage: 'indexeddb' | 'memory'; database: string; wasm?: OpenOptions['wasm'] }

interface Core {
  default(source: { module_or_path: unknown }): Promise<unknown>;
  open(store: unknown, identity: Uint8Array, notify: (event: string) => void): Promise<{ call(request: string): Promise<string>; me(): string }>;
}

let loading: Promise<Core> | undefined;

/** Loads the wasm, once a page. */
function load(wasm: OpenOptions['wasm']): Promise<Core> {
  loading ??= start(wasm).catch((error: unknown) => {
    // The next open may have a better network, or another source.
    loading = undefined;
    throw error;
  });
  return loading;
}

async function start(wasm: OpenOptions['wasm']): Promise<Core> {
  const core = (await import('./core.js')) as unknown as Core;
  try {
    await core.default({ module_or_path: await source(wasm) });
  } catch (error) {
    if (ForeshoreError.is(error)) throw error;
    throw ForeshoreError.make('WASM_LOAD', `the engine does not load: ${String((error as Error)?.message ?? error)}`, { hint: 'serve core.wasm beside the package, or pass `wasm`', retryable: true, cause: error });
  }
  return core;
}

/** What WebAssembly can be made of. */
async function source(wasm: OpenOptions['wasm']): Promise<unknown> {
  const given = await wasm;
  if (given !== undefined && typeof given !== 'string' && !(given instanceof URL) && !(given instanceof Response)) return given;
  if (given === undefined && typeof process !== 'undefined' && process.versions?.node) {
    const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ 'node:' + 'fs/promises') as { readFile(path: URL): Promise<Uint8Array> };
    return readFile(new URL('./core.wasm', import.meta.url));
  }
  const response = given instanceof Response ? given : await (given === undefined ? fetch(new URL('./core.wasm', import.meta.url)) : fetch(given));
  const type = response.headers.get('content-type') ?? '';
  if (!response.ok || type.startsWith('text/html')) {
    throw ForeshoreError.make('WASM_LOAD', `core.wasm: the server answered ${response.status} ${type}`, { hint: 'serve core.wasm beside the package as application/wasm, or pass `wasm`', retryable: true });
  }
  // Instantiating while streaming wants the right type; bytes serve with any.
  return type.startsWith('application/wasm') ? response : response.arrayBuffer();
}

declare const process: { versions?: { node?: string } } | undefined;

/** An engine in this very context. */
export async function inline(options: EngineOptions, listen: (event: EngineEvent) => void): Promise<Engine> {
  const core = await load(options.wasm);
  if (options.storage !== 'indexeddb' && options.storage !== 'memory') {
    throw ForeshoreError.make('UNSUPPORTED', 'storage adapters are not in this version', { hint: "use 'indexeddb' or 'memory'" });
  }
  const store = options.storage === 'indexeddb' ? await IndexedDbStore.open(options.database) : undefined;
  let crash: ForeshoreError | undefined;
  const notify = (text: string): void => {
    const event = JSON.parse(text) as EngineEvent;
    if (event.event === 'panic') {
      crash = ForeshoreError.make('CRASHED', String(event.message), { hint: 'open the space again', retryable: true });
      loading = undefined;
    }
    listen(event);
  };
  let host: Awaited<ReturnType<Core['open']>>;
  try {
    host = await core.open(store, crypto.getRandomValues(new Uint8Array(32)), notify);
  } catch (error) {
    store?.close();
    throw crash ?? fromEngine(error);
  }
  return {
    me: JSON.parse(host.me()) as Engine['me'],
    call: async request => {
      if (crash) throw crash;
      let text: string;
      try {
        text = JSON.stringify(request);
      } catch (error) {
        throw invalid(`not JSON: ${String(error)}`);
      }
      try {
        return JSON.parse(await host.call(text)) as Json;
      } catch (error) {
        throw crash ?? fromEngine(error);
      }
    },
    close: async () => {
      try {
        if (!crash) await host.call('{"do":"shutdown"}');
      } finally {
        store?.close();
      }
    },
  };
}
