// The way to an engine: requests and events, wherever it runs.
import { ForeshoreError, fromEngine, invalid } from './errors.js';
import { IndexedDbStore } from './store.js';
import type { Code, OpenOptions, Path, Status } from './types.js';
import type { Json } from './values.js';

export interface Request { do: string; [field: string]: unknown }
export interface EngineEvent { event: string; [field: string]: Json }

/** An engine: one peer, its store and its network. */
export interface Engine {
  readonly me: { readonly peer: string; readonly device: string };
  /** Whether it runs here, or in another tab. */
  readonly role: Status['role'];
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
  // Not an import: bundlers for browsers would look for it.
  const files = given === undefined && typeof process !== 'undefined' ? process.getBuiltinModule?.('node:fs/promises') : undefined;
  if (files) return files.readFile(new URL('./core.wasm', import.meta.url));
  const response = given instanceof Response ? given : await (given === undefined ? fetch(new URL('./core.wasm', import.meta.url)) : fetch(given));
  const type = response.headers.get('content-type') ?? '';
  if (!response.ok || type.startsWith('text/html')) {
    throw ForeshoreError.make('WASM_LOAD', `core.wasm: the server answered ${response.status} ${type}`, { hint: 'serve core.wasm beside the package as application/wasm, or pass `wasm`', retryable: true });
  }
  // Instantiating while streaming wants the right type; bytes serve with any.
  return type.startsWith('application/wasm') ? response : response.arrayBuffer();
}

declare const process: { getBuiltinModule?(name: string): { readFile(path: URL): Promise<Uint8Array> } } | undefined;

/** An error as it crosses to another context. */
export interface WireError { code: Code; message: string; hint: string; retryable: boolean; missing?: readonly Path[] | undefined }

export type WireAnswer = { ok: Json } | { error: WireError };

/** What becomes of a call, in a form that can be posted. */
export async function answerOf(call: () => Promise<Json>): Promise<WireAnswer> {
  try {
    return { ok: await call() };
  } catch (reason) {
    const { code, message, hint, retryable, missing } = fromEngine(reason);
    return { error: { code, message, hint, retryable, missing } };
  }
}

export function errorOf({ code, message, ...more }: WireError): ForeshoreError {
  return ForeshoreError.make(code, message, more);
}

/** A page's own way to make the worker, for bundlers and strict policies. */
export type MakeWorker = () => { postMessage(message: unknown): void; terminate(): void };

/** An engine in a worker of its own, so that nothing it does holds up the page. */
export async function inWorker(options: EngineOptions, make: MakeWorker | undefined, listen: (event: EngineEvent) => void): Promise<Engine> {
  const worker = (make ? make() : new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'foreshore' })) as Worker;
  const calls = new Map<number, { resolve: (value: Json) => void; reject: (reason: ForeshoreError) => void }>();
  let next = 0;
  let dead: ForeshoreError | undefined;
  const die = (message: string): void => {
    dead ??= ForeshoreError.make('CRASHED', message, { hint: 'open the space again', retryable: true });
    for (const { reject } of calls.values()) reject(dead);
    calls.clear();
  };
  worker.onmessage = ({ data }: MessageEvent<{ event: EngineEvent } | ({ id: number } & WireAnswer)>) => {
    if ('event' in data) {
      if (data.event.event === 'panic') die(String(data.event.message));
      return listen(data.event);
    }
    const call = calls.get(data.id);
    calls.delete(data.id);
    if ('error' in data) call?.reject(errorOf(data.error));
    else call?.resolve(data.ok);
  };
  worker.onerror = event => {
    event.preventDefault?.();
    const opened = me !== undefined;
    die(`the engine's worker failed: ${event.message || 'it did not load'}`);
    if (opened) listen({ event: 'panic', message: String(dead?.message) });
  };
  const ask = (message: object): Promise<Json> => new Promise((resolve, reject) => {
    if (dead) return reject(dead);
    const id = ++next;
    calls.set(id, { resolve, reject });
    try {
      worker.postMessage({ id, ...message });
    } catch (error) {
      calls.delete(id);
      reject(invalid(`not to be sent to a worker: ${String(error)}`));
    }
  });
  let me: Engine['me'] | undefined;
  try {
    me = (await ask({ open: { ...options, wasm: await portable(options.wasm) } })) as unknown as Engine['me'];
  } catch (error) {
    worker.terminate();
    throw error;
  }
  return {
    me,
    role: 'host-tab',
    call: request => ask({ request }),
    close: async () => {
      try {
        if (!dead) await ask({ close: true });
      } finally {
        worker.terminate();
      }
    },
  };
}

/** What a page gave as wasm, in a form that can be posted. */
async function portable(wasm: OpenOptions['wasm']): Promise<OpenOptions['wasm']> {
  const given = await wasm;
  if (given instanceof URL) return given.href;
  if (typeof given === 'string') return new URL(given, location.href).href;
  return given instanceof Response ? new Uint8Array(await given.arrayBuffer()) : given;
}

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
    role: 'host-tab',
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
