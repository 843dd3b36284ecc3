// Queues of work on a page.
import { abortable, ForeshoreError, invalid } from './errors.js';
import { strongPath } from './locks.js';
import type { Sessions, Watcher } from './sessions.js';
import { fromBase64, toBase64 } from './values.js';
import type { Path, Queue, QueueItem, Wait } from './types.js';

interface WireItem { item: number; body: string; attempt: number; token: number }

/** How long an item is its taker's alone where nothing else is said, in ms. */
const VISIBILITY = 30_000;

/** How often an item is tried where nothing else is said. */
const ATTEMPTS = 5;

/** Whoever waits for an item looks again after so long, since an item whose time ran out tells nobody. */
const LOOK = 1000;

export class PageQueue implements Queue {
  constructor(readonly sessions: Sessions, readonly path: Path) {
    strongPath(path);
  }

  async put(body: Uint8Array, options: Wait & { maxAttempts?: number } = {}): Promise<number> {
    const attempts = options.maxAttempts ?? ATTEMPTS;
    if (!Number.isSafeInteger(attempts) || attempts < 1) throw invalid('an item is tried 1 to 1000 times', this.path);
    return (await this.#ask({ op: 'put', body: toBase64(body), attempts }, options)) as number;
  }

  async claim(options: Wait & { visibilityMs?: number } = {}): Promise<QueueItem | null> {
    const visibility = Math.round(options.visibilityMs ?? VISIBILITY);
    const found = (await this.#ask({ op: 'claim', visibility }, options)) as unknown as WireItem | null;
    if (!found) return null;
    const settle = async (done: boolean, wait?: Wait): Promise<void> => {
      await this.#ask({ op: 'settle', item: found.item, token: found.token, done }, wait);
    };
    return Object.freeze({ item: found.item, body: fromBase64(found.body), attempt: found.attempt, token: found.token, ack: (wait?: Wait) => settle(true, wait), nack: (wait?: Wait) => settle(false, wait) });
  }

  async take(options: Wait & { visibilityMs?: number } = {}): Promise<QueueItem> {
    let wake: () => void = () => {};
    const watcher: Watcher = { kind: 'queue', path: this.path, hear: () => wake() };
    await abortable(this.sessions.watch(watcher), options.signal);
    try {
      for (;;) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        const ready = new Promise<void>(resolve => { wake = resolve; });
        const item = await this.claim(options);
        if (item) return item;
        const again = new Promise<void>(resolve => { timer = setTimeout(resolve, LOOK); });
        await abortable(Promise.race([ready, again]), options.signal).finally(() => clearTimeout(timer));
        if (this.sessions.home.closed.aborted) throw ForeshoreError.make('CLOSED', 'the space is closed', { hint: 'open it again' });
      }
    } finally {
      void this.sessions.unwatch(watcher);
    }
  }

  async state(options?: Wait): Promise<{ readonly ready: number; readonly claimed: number; readonly dead: readonly number[] }> {
    return (await this.sessions.ask({ op: 'queue', path: this.path }, true, options, this.path)) as never;
  }

  async revive(item: number, options?: Wait): Promise<void> {
    await this.#ask({ op: 'dead', item, revive: true }, options);
  }

  async discard(item: number, options?: Wait): Promise<void> {
    await this.#ask({ op: 'dead', item, revive: false }, options);
  }

  #ask(ask: { op: string; [field: string]: unknown }, options?: Wait) {
    return this.sessions.ask({ ...ask, path: this.path }, false, options, this.path);
  }
}
