// An engine in a worker: what is asked goes there as messages, what it tells comes back.
import { type Engine, type EngineEvent, type EngineOptions, errorOf, type WireAnswer } from './engine.js';
import { ForeshoreError, invalid } from './errors.js';
import type { OpenOptions } from './types.js';
import type { Json } from './values.js';

/** A page's own way to make the worker, for bundlers and strict policies. */
export type MakeWorker = () => { postMessage(message: unknown): void; terminate(): void };

/** An engine in a worker of its own, so that nothing it does holds up the page. */
export async function inWorker(options: EngineOptions, make: MakeWorker, listen: (event: EngineEvent) => void): Promise<Engine> {
  const worker = make() as Worker;
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
