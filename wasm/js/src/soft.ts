// Soft state on a page: entries that live as long as their owner's lease.
import { DISPOSE } from './dispose.js';
import { Emitter } from './emitter.js';
import type { Home } from './doc.js';
import { ForeshoreError, fromEngine } from './errors.js';
import { hasMoved } from './tabs.js';
import type { Path, Presence, Snapshot, Soft, SoftEntry, Unsubscribe } from './types.js';
import { decode, encode, type Json, snapshot, toNode } from './values.js';

interface WireEntry { key: string; value: Json; peer: string; member: string; mine: boolean; away: boolean; expiresIn: number }
type Entry = SoftEntry<unknown> & { readonly mine: boolean };
type SoftEvents = readonly { readonly type: 'set' | 'delete' | 'expire'; readonly entry: SoftEntry<unknown> }[];

/** Tabs of one browser are one owner: each shows itself under a key of its own. */
const TAB = 'tab-';
const OWN = `${TAB}${Math.random().toString(36).slice(2, 10)}`;

/** The entries under a path. */
export class PageSoft<T> implements Soft<T> {
  #entries: readonly Entry[] = [];
  readonly #byKey = new Map<string, readonly Entry[]>();
  readonly #events = new Emitter<SoftEvents>();
  /** What this page has set, and as `undefined` what it is about to delete, for a host that takes over. */
  readonly #own = new Map<string, Json | undefined>();
  #closed = false;

  private constructor(readonly home: Home, readonly id: number, private readonly path: Path, private readonly release: () => void) {}

  static async open<T>(home: Home, path: Path, register: (id: number, soft: PageSoft<never>) => () => void): Promise<PageSoft<T>> {
    const id = home.number();
    const soft: PageSoft<T> = new PageSoft<T>(home, id, path, () => release());
    const release = register(id, soft as unknown as PageSoft<never>);
    await soft.#follow();
    return soft;
  }

  async #follow(): Promise<void> {
    this.hear((await this.home.engine.call({ do: 'soft', space: this.home.id, prefix: this.path, soft: this.id })) as unknown as WireEntry[]);
  }

  /** Another tab hosts the engine: it is told what this page shows. */
  async moved(): Promise<void> {
    await this.#follow();
    for (const [key, value] of this.#own) {
      if (value === undefined) this.#drop(key);
      else this.#call({ do: 'softSet', soft: this.id, key, value });
    }
  }

  /** All entries, as they are now. */
  hear(wire: readonly WireEntry[]): void {
    const now = Date.now();
    const name = (entry: { key: string; owner?: { peer: string }; peer?: string }) => `${entry.owner?.peer ?? entry.peer} ${entry.key}`;
    const before = new Map(this.#entries.map(entry => [name(entry), entry]));
    const events: { type: 'set' | 'delete' | 'expire'; entry: Entry }[] = [];
    this.#entries = wire.map(w => {
      const old = before.get(name(w));
      before.delete(name(w));
      const node = decode(w.value);
      const same = old && old.away === w.away && JSON.stringify(encode(toNode(old.value))) === JSON.stringify(w.value);
      if (same) return old;
      const entry: Entry = Object.freeze({ key: w.key, value: snapshot(node), owner: { peer: w.peer, member: w.member }, away: w.away, expiresAt: now + w.expiresIn, mine: w.mine }) as Entry;
      events.push({ type: 'set', entry });
      return entry;
    });
    for (const entry of before.values()) events.push({ type: entry.away ? 'expire' : 'delete', entry });
    this.#byKey.clear();
    if (events.length > 0) this.#events.emit(events);
  }

  entries(key?: string): readonly SoftEntry<T>[] {
    if (key === undefined) return this.#entries as readonly SoftEntry<T>[];
    const known = this.#byKey.get(key) ?? this.#entries.filter(entry => entry.key === key);
    this.#byKey.set(key, known);
    return known as readonly SoftEntry<T>[];
  }

  /** Whoever shows itself at this place, but for one key of this peer's own. */
  others(own: string): readonly SoftEntry<T>[] {
    const here = (entry: Entry) => (entry.key === '' || entry.key.startsWith(TAB)) && !(entry.mine && entry.key === own);
    return this.#entries.filter(here) as unknown as readonly SoftEntry<T>[];
  }

  set(key: string, value: T): void {
    const json = encode(toNode(value));
    this.#own.set(key, json);
    this.#call({ do: 'softSet', soft: this.id, key, value: json });
  }

  delete(key: string): void {
    this.#own.set(key, undefined);
    this.#drop(key);
  }

  #drop(key: string): void {
    const dropped = () => { if (this.#own.get(key) === undefined) this.#own.delete(key); };
    this.#call({ do: 'softDelete', soft: this.id, key }, dropped);
  }

  #call(request: { do: string; [field: string]: unknown }, then = () => {}): void {
    if (this.#closed) throw ForeshoreError.make('CLOSED', 'these entries were disposed');
    this.home.engine.call(request).then(then, (error: unknown) => { if (!hasMoved(error)) this.home.fail(fromEngine(error)); });
  }

  subscribe(listener: (events: readonly { readonly type: 'set' | 'delete' | 'expire'; readonly entry: SoftEntry<T> }[]) => void): Unsubscribe {
    return this.#events.on(listener as (events: SoftEvents) => void);
  }

  [DISPOSE](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.release();
    void this.home.engine.call({ do: 'softClose', soft: this.id }).catch(() => {});
  }
}

/** Who is at a place. It is usable at once; who else is here comes when the engine has said so. */
export class PagePresence<T> implements Presence<T> {
  #soft: PageSoft<T> | undefined;
  #mine: T;
  #others: readonly SoftEntry<T>[] = [];
  #gone = false;
  readonly #changes = new Emitter<void>();

  constructor(open: Promise<PageSoft<T>>, initial: T, fail: (error: ForeshoreError) => void) {
    this.#mine = initial;
    open.then(soft => {
      if (this.#gone) return soft[DISPOSE]();
      this.#soft = soft;
      soft.subscribe(() => this.#look());
      soft.set(OWN, this.#mine);
      this.#look();
    }).catch((error: unknown) => fail(fromEngine(error)));
  }

  #look(): void {
    this.#others = this.#soft?.others(OWN) ?? [];
    this.#changes.emit();
  }

  get mine(): Snapshot<T> {
    return this.#mine as unknown as Snapshot<T>;
  }

  set(value: Partial<T>): void {
    this.#mine = { ...this.#mine, ...value };
    this.#soft?.set(OWN, this.#mine);
  }

  get others(): readonly SoftEntry<T>[] {
    return this.#others;
  }

  subscribe(listener: () => void): Unsubscribe {
    return this.#changes.on(listener);
  }

  [DISPOSE](): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#soft?.delete(OWN);
    this.#soft?.[DISPOSE]();
  }
}
