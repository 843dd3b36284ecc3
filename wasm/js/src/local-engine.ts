// An engine in this very context, over the wasm.
import { AdapterStore } from './adapter.js';
import * as core from './core.js';
import type { Engine, EngineEvent, EngineOptions } from './engine.js';
import { ForeshoreError, fromEngine, invalid } from './errors.js';
import { PIECE, pieces } from './slices.js';
import type { WasmSource } from './platform.js';
import { IndexedDbStore } from './store.js';
import type { OpenOptions } from './types.js';
import type { Json } from './values.js';

interface Host { call(request: string): Promise<string>; me(): string }
interface Core {
  default(source: { module_or_path: unknown }): Promise<unknown>;
  open(store: unknown, identity: Uint8Array, notify: (event: string) => void, listen: string | undefined, votes: boolean): Promise<Host>;
}

let loading: Promise<Core> | undefined;

/** Loads the wasm, once a page; `own` says where the package's own comes from. */
function load(wasm: OpenOptions['wasm'], own: WasmSource): Promise<Core> {
  loading ??= start(wasm, own).catch((error: unknown) => {
    // The next open may have a better network, or another source.
    loading = undefined;
    throw error;
  });
  return loading;
}

async function start(wasm: OpenOptions['wasm'], own: WasmSource): Promise<Core> {
  const bound = core as unknown as Core;
  try {
    const given = (await wasm) ?? (await own());
    const fetched = typeof given === 'string' || given instanceof URL ? await fetch(given) : given;
    await bound.default({ module_or_path: isResponse(fetched) ? await checked(fetched) : fetched });
  } catch (error) {
    if (ForeshoreError.is(error)) throw error;
    throw ForeshoreError.make('WASM_LOAD', `the engine does not load: ${String((error as Error)?.message ?? error)}`, { hint: 'serve core.wasm beside the package, pass `wasm`, or import foreshore/inline', retryable: true, cause: error });
  }
  return bound;
}

function isResponse(value: unknown): value is Response {
  return typeof Response !== 'undefined' && value instanceof Response;
}

/** A server's answer in a form that instantiates. */
async function checked(response: Response): Promise<unknown> {
  const type = response.headers.get('content-type') ?? '';
  if (!response.ok || type.startsWith('text/html')) {
    throw ForeshoreError.make('WASM_LOAD', `core.wasm: the server answered ${response.status} ${type}`, { hint: 'serve core.wasm beside the package as application/wasm, pass `wasm`, or import foreshore/inline', retryable: true });
  }
  // Instantiating while streaming wants the right type; bytes serve with any.
  return type.startsWith('application/wasm') ? response : response.arrayBuffer();
}

/** An engine in this very context. */
export async function inPlace(options: EngineOptions, own: WasmSource, listen: (event: EngineEvent) => void): Promise<Engine> {
  const core = await load(options.wasm, own);
  const store = await stored(options);
  const made = options.made === undefined ? undefined : new BroadcastChannel(options.made);
  let crash: ForeshoreError | undefined;
  const notify = (text: string): void => {
    const event = JSON.parse(text) as EngineEvent;
    if (event.event === 'panic') {
      crash = ForeshoreError.make('CRASHED', String(event.message), { hint: 'open the space again', retryable: true });
      loading = undefined;
    }
    if (event.event === 'made') made?.postMessage(event);
    listen(event);
  };
  let host: Host;
  try {
    host = await core.open(store, crypto.getRandomValues(new Uint8Array(32)), notify, options.listen, options.votes ?? false);
  } catch (error) {
    made?.close();
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
        const answer = await host.call(text);
        const said = JSON.parse(answer) as Json;
        return request.do === 'open' && answer.length > PIECE ? inPieces(request.doc as number, said as unknown as Opened, listen) : said;
      } catch (error) {
        throw crash ?? fromEngine(error);
      }
    },
    close: async () => {
      try {
        if (!crash) await host.call('{"do":"shutdown"}');
      } finally {
        made?.close();
        store?.close();
      }
    },
  };
}

async function stored({ storage, database }: EngineOptions): Promise<IndexedDbStore | AdapterStore | undefined> {
  if (storage === 'memory') return undefined;
  if (storage === 'indexeddb') return IndexedDbStore.open(database);
  if (typeof storage?.list === 'function') return AdapterStore.open(storage);
  throw invalid(`${JSON.stringify(storage)} is no storage: 'indexeddb', 'memory' or an adapter`);
}

interface Opened { value: Json }

/** A large document goes ahead of the answer that opens it, in pieces that hold nobody up. */
function inPieces(doc: number, { value, ...rest }: Opened, listen: (event: EngineEvent) => void): Json {
  for (const piece of pieces(value)) listen({ event: 'piece', doc, piece });
  return { ...rest, value: null, inPieces: true };
}
