// What a page follows besides documents and soft state: topics, windows on many documents, and prefixes that are kept here.
import { DISPOSE } from './dispose.js';
import type { Home } from './doc.js';
import { Emitter } from './emitter.js';
import type { EngineEvent } from './engine.js';
import { ForeshoreError, fromEngine } from './errors.js';
import { hasMoved } from './tabs.js';
import type { Author, Collection, Heads, Path, Snapshot, Topic, Unsubscribe } from './types.js';
import { decode, encode, type Json, snapshot, toNode } from './values.js';

/** Something that the engine tells of by a number of its own. */
export interface Live {
  readonly live: number;
  hear(event: EngineEvent): void;
  /** Another tab hosts the engine: it is asked again. */
  moved(): Promise<unknown>;
}

/** Where such things are known by their numbers. */
export interface Register extends Home {
  register(live: Live): void;
  forget(live: Live): void;
}

/** The part that all of them have: asked for once, again after a move, and ended once. */
abstract class Followed implements Live, Disposable {
  readonly live: number;
  #gone = false;

  constructor(protected readonly home: Register) {
    this.live = home.number();
    home.register(this);
  }

  protected abstract ask(): Promise<unknown>;
  abstract hear(event: EngineEvent): void;

  moved(): Promise<unknown> {
    return this.ask();
  }

  protected call(request: { do: string; [field: string]: unknown }): Promise<Json> {
    if (this.#gone) return Promise.reject(ForeshoreError.make('CLOSED', 'it was disposed'));
    return this.home.engine.call({ ...request, space: this.home.id, live: this.live });
  }

  /** Nobody waits for it: what goes wrong is the space's `error` event. */
  protected send(call: Promise<unknown>): void {
    call.catch((error: unknown) => { if (!hasMoved(error)) this.home.fail(fromEngine(error)); });
  }

  [DISPOSE](): void {
    if (this.#gone) return;
    this.#gone = true;
    this.home.forget(this);
    void this.home.engine.call({ do: 'closeLive', live: this.live }).catch(() => {});
  }
}

/** A prefix that is kept here whole. */
export class Kept extends Followed {
  constructor(home: Register, private readonly prefix: Path) {
    super(home);
  }

  ask(): Promise<unknown> {
    return this.call({ do: 'keep', prefix: this.prefix });
  }

  hear(): void {}
}

/** Signals at a path. */
export class PageTopic<T> extends Followed implements Topic<T> {
  readonly #heard = new Emitter<{ value: Snapshot<T>; from: Author }>();
  readonly #asked: Promise<unknown>;

  constructor(home: Register, private readonly path: Path) {
    super(home);
    this.#asked = this.ask();
    this.send(this.#asked);
  }

  ask(): Promise<unknown> {
    return this.call({ do: 'topic', path: this.path });
  }

  hear(event: EngineEvent): void {
    this.#heard.emit({ value: snapshot(decode(event.value as Json)) as Snapshot<T>, from: { peer: String(event.peer), member: String(event.member) } });
  }

  publish(value: T): void {
    const json = encode(toNode(value));
    this.send(this.#asked.then(() => this.call({ do: 'publish', value: json }), () => {}));
  }

  subscribe(listener: (value: Snapshot<T>, from: Author) => void): Unsubscribe {
    return this.#heard.on(({ value, from }) => listener(value, from));
  }
}

interface Listed { path: Path; heads: Heads }
interface Item { readonly path: Path; readonly value: Snapshot<unknown> }

/** How many documents are read at once. */
const AT_ONCE = 16;

/** A window on the documents under a prefix. The engine tells which there are; what is new or has changed is read. */
export class PageCollection<T> extends Followed implements Collection<T> {
  #items: readonly Item[] = [];
  #more = false;
  #heads = new Map<Path, string>();
  /** What was told last, and is to be read; the newest counts. */
  #told: readonly Listed[] | undefined;
  #reading: Promise<void> | undefined;
  readonly #changes = new Emitter<void>();

  private constructor(home: Register, private readonly prefix: Path, private limit: number) {
    super(home);
  }

  static async open<T>(home: Register, prefix: Path, limit: number): Promise<PageCollection<T>> {
    const collection = new PageCollection<T>(home, prefix, limit);
    try {
      await collection.#next(() => collection.ask());
    } catch (error) {
      collection[DISPOSE]();
      throw error;
    }
    return collection;
  }

  // One more than is shown: whether there are more.
  ask(): Promise<unknown> {
    return this.call({ do: 'window', prefix: this.prefix, limit: this.limit + 1 });
  }

  /** Waits until what the engine tells next is shown. */
  async #next(ask: () => Promise<unknown>): Promise<void> {
    const told = new Promise<void>(resolve => {
      const stop = this.#arrived.on(() => { stop(); resolve(); });
    });
    await ask();
    await told;
    await this.#reading;
  }

  readonly #arrived = new Emitter<void>();

  hear(event: EngineEvent): void {
    this.#told = event.items as unknown as readonly Listed[];
    this.#reading ??= this.#read().finally(() => { this.#reading = undefined; });
    this.#arrived.emit();
  }

  async #read(): Promise<void> {
    try {
      while (this.#told) {
        const told = this.#told;
        this.#told = undefined;
        const listed = told.slice(0, this.limit);
        const before = new Map(this.#items.map(item => [item.path, item]));
        const heads = new Map(listed.map(({ path, heads }) => [path, heads.join()]));
        const items: Item[] = [];
        for (let at = 0; at < listed.length; at += AT_ONCE) {
          items.push(...await Promise.all(listed.slice(at, at + AT_ONCE).map(async ({ path }) => {
            const known = before.get(path);
            if (known && this.#heads.get(path) === heads.get(path)) return known;
            const read = (await this.call({ do: 'read', path, bookmark: null, wait: null })) as { value: Json };
            return Object.freeze({ path, value: snapshot(decode(read.value)) as Snapshot<unknown> });
          })));
        }
        const same = items.length === this.#items.length && items.every((item, i) => item === this.#items[i]);
        this.#heads = heads;
        this.#more = told.length > listed.length;
        if (same) continue;
        this.#items = Object.freeze(items);
        this.#changes.emit();
      }
    } catch (error) {
      if (!hasMoved(error) && !ForeshoreError.is(error, 'CLOSED')) this.home.fail(fromEngine(error));
    }
  }

  get items(): readonly { readonly path: Path; readonly value: Snapshot<T> }[] {
    return this.#items as readonly { readonly path: Path; readonly value: Snapshot<T> }[];
  }

  get hasMore(): boolean {
    return this.#more;
  }

  async more(count = this.limit): Promise<void> {
    this.limit += Math.max(1, Math.floor(count));
    await this.#next(() => this.ask());
  }

  subscribe(listener: () => void): Unsubscribe {
    return this.#changes.on(listener);
  }
}
