// Listeners, and streams of what they hear.
import { DISPOSE } from './dispose.js';
import { abortable } from './errors.js';
import type { Unsubscribe, Wait } from './types.js';

export function unsubscribe(stop: () => void): Unsubscribe {
  return Object.assign(() => stop(), { [DISPOSE]: () => stop() }) as Unsubscribe;
}

/** Tells listeners; one that throws is reported and does not keep the others from hearing. */
export class Emitter<E> {
  readonly #listeners = new Set<{ hear: (event: E) => void }>();

  on(hear: (event: E) => void): Unsubscribe {
    const listener = { hear };
    this.#listeners.add(listener);
    return unsubscribe(() => this.#listeners.delete(listener));
  }

  emit(event: E): void {
    for (const { hear } of [...this.#listeners]) {
      try {
        hear(event);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }

  get size(): number {
    return this.#listeners.size;
  }
}

/** What is heard as a stream; what a slow reader has not taken is merged into one. */
export async function* stream<E>(from: Emitter<E>, ended: AbortSignal, merge: (before: E, next: E) => E, options?: Wait): AsyncGenerator<E, void, undefined> {
  let waiting: E | undefined;
  let wake: () => void = () => {};
  const stop = from.on(event => {
    waiting = waiting === undefined ? event : merge(waiting, event);
    wake();
  });
  const end = () => wake();
  ended.addEventListener('abort', end, { once: true });
  try {
    for (;;) {
      if (waiting !== undefined) {
        const event = waiting;
        waiting = undefined;
        yield event;
      } else if (ended.aborted) return;
      else await abortable(new Promise<void>(resolve => { wake = resolve; if (waiting !== undefined || ended.aborted) resolve(); }), options?.signal);
    }
  } finally {
    stop();
    ended.removeEventListener('abort', end);
  }
}
