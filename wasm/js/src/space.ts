// Spaces on a page.
import { ASYNC_DISPOSE, DISPOSE } from './dispose.js';
import { type Home, Mirror, PageDoc, Together } from './doc.js';
import { Emitter } from './emitter.js';
import type { Engine, EngineEvent, EngineOptions } from './engine.js';
import { abortable, ForeshoreError, fromEngine, invalid } from './errors.js';
import { Kept, type Live, PageCollection, PageTopic } from './live.js';
import { PageElections, PageLocks } from './locks.js';
import { PageQueue } from './queue.js';
import { type Harbour, Sessions } from './sessions.js';
import { PagePresence, PageSoft } from './soft.js';
import { hasMoved } from './tabs.js';
import { PageTree } from './tree.js';
import type { Author, Collection, Commit, Doc, DocInfo, Elections, Locks, Member, Path, Presence, Queue, Snapshot, Soft, Space, SpaceEvents, Status, StorageInfo, Storable, Template, Topic, Tree, Unsubscribe, Wait } from './types.js';
import { decode, fromBase64, type Json, snapshot, toBase64 } from './values.js';

interface WireStatus { pending: number; root: string | null; quorum: Status['quorum']; links: { id: string; address: string; rtt: number | null; inStep: boolean; member: boolean }[]; offline: boolean }
interface WireMember { id: string; me: boolean; roles: { role: Member['role']; prefix: Path; expires: number | null }[] }

/** A path as the engine parses it; what is plainly none is refused here. */
function checked(path: Path): Path {
  if (typeof path !== 'string' || !path.startsWith('/')) throw invalid(`${JSON.stringify(path)} is not a path: it begins with a slash`);
  return path;
}

/** How much of a copy goes to the engine at once, in bytes. */
const PIECE = 1 << 20;

/** An open space. */
export class PageSpace implements Space, Home, Harbour {
  readonly #close = new AbortController();
  readonly #mirrors = new Map<Path, Promise<Mirror>>();
  readonly #byId = new Map<number, Mirror>();
  readonly #softs = new Map<number, PageSoft<never>>();
  readonly #lives = new Map<number, Live>();
  readonly #events = { status: new Emitter<Status>(), error: new Emitter<ForeshoreError>(), storage: new Emitter<StorageInfo>(), members: new Emitter<readonly Member[]>() };
  #status: Status = { network: 'connecting', quorum: 'none', role: 'host-tab', pendingChanges: 0, caughtUp: false, peers: [] };
  #lastSync: Status['lastSync'];
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #dials: boolean;
  #stops: (() => void)[] = [];
  #member: Member;
  together: Together | null = null;

  constructor(readonly engine: Engine, readonly id: string, readonly kept: EngineOptions['storage'], dials: boolean) {
    this.#dials = dials;
    this.#member = { id: engine.me.device, role: 'writer', prefix: '/' };
  }

  /** Looks at who is who before the space is handed out, and says what is kept here. */
  async ready(keep: readonly Path[] = ['/']): Promise<this> {
    await Promise.all(keep.map(prefix => this.replicate(prefix)));
    await this.#lookAtMembers();
    await this.#look();
    this.#listen();
    return this;
  }

  #listen(): void {
    if (typeof addEventListener !== 'function') return;
    const hurry = () => void this.engine.call({ do: 'hurry' }).catch(() => {});
    const seen = () => { if (document.visibilityState === 'visible') hurry(); };
    addEventListener('online', hurry);
    this.#stops.push(() => removeEventListener('online', hurry));
    if (typeof document === 'undefined') return;
    document.addEventListener('visibilitychange', seen);
    this.#stops.push(() => document.removeEventListener('visibilitychange', seen));
  }

  // ── what documents and soft state ask of it ──

  get author(): Author {
    return { peer: this.engine.me.peer, member: this.engine.me.device };
  }

  number(): number {
    // Unique among the tabs that share an engine, but for one chance in billions.
    return crypto.getRandomValues(new Uint32Array(1))[0] as number;
  }

  fail(error: ForeshoreError): void {
    this.#events.error.emit(error);
  }

  changed(): void {
    void this.#look();
  }

  follow(mirror: Mirror): void {
    this.#byId.set(mirror.id, mirror);
  }

  unfollow(mirror: Mirror): void {
    this.#byId.delete(mirror.id);
  }

  register(live: Live): void {
    this.#lives.set(live.live, live);
  }

  forget(live: Live): void {
    this.#lives.delete(live.live);
  }

  /** An event of the engine. */
  hear(event: EngineEvent): void {
    switch (event.event) {
      case 'doc':
        this.#byId.get(event.doc as number)?.hear(event as never);
        return void this.#look();
      case 'piece': return this.#byId.get(event.doc as number)?.piece(event.piece as string);
      case 'made': return this.#byId.get(event.doc as number)?.made(event.seq as number, event.hash as string | null);
      case 'moved': return this.#moved();
      case 'docFailed': return this.fail(fromEngine(JSON.stringify(event.failure)));
      case 'soft': return this.#softs.get(event.soft as number)?.hear(event.entries as never);
      case 'signal': case 'window': return this.#lives.get(event.live as number)?.hear(event);
      case 'session': case 'lost': case 'changed': return this.#sessions.hear(event);
      case 'members':
        void this.#lookAtMembers().catch(() => {});
        return void this.#look();
      case 'storage':
        if (event.failure) this.fail(fromEngine(JSON.stringify(event.failure)));
        return void this.storage().then(info => this.#events.storage.emit(info)).catch(() => {});
      case 'panic':
        this.fail(ForeshoreError.make('CRASHED', String(event.message), { hint: 'open the space again', retryable: true }));
        return this.#end();
      case 'outdated':
        this.fail(ForeshoreError.make('INCOMPATIBLE', 'a newer version of this app is open in another tab', { hint: 'reload this tab' }));
        return this.#end();
      case 'closed': return this.#end();
      case 'status':
        if (event.lastSync) this.#lastSync = Object.freeze(event.lastSync) as unknown as Status['lastSync'];
        return void this.#look();
      default: return void this.#look();
    }
  }

  /** Another tab hosts the engine from here on. */
  #moved(): void {
    for (const mirror of this.#byId.values()) void mirror.moved();
    this.#sessions.moved();
    for (const other of [...this.#softs.values(), ...this.#lives.values()]) {
      other.moved().catch((error: unknown) => { if (!hasMoved(error)) this.fail(fromEngine(error)); });
    }
    void this.#look();
  }

  /** Asks for the figures, and waits until there are some; many calls at once are one, and one more after it. */
  #look(): Promise<void> {
    if (this.#looking) {
      this.#lookAgain = true;
      return this.#looking;
    }
    // The engine may be gone; whoever calls it is told.
    this.#looking = this.#figures().catch(() => {}).finally(() => {
      this.#looking = null;
      if (!this.#lookAgain) return;
      this.#lookAgain = false;
      void this.#look();
    });
    return this.#looking;
  }

  async #figures(): Promise<void> {
    const wire = (await this.engine.call({ do: 'status', space: this.id })) as unknown as WireStatus;
    const members = wire.links.filter(link => link.member);
    const cut = wire.offline || (typeof navigator !== 'undefined' && navigator.onLine === false) || !this.#dials;
    const network = members.length > 0 ? 'online' : cut ? 'offline' : 'connecting';
    const unsaved = [...this.#byId.values()].reduce((sum, mirror) => sum + mirror.pending, 0);
    const peers = members.map(link => ({ id: link.id, transport: link.address.includes('/p2p-circuit') ? ('relay' as const) : ('ws' as const), ...(link.rtt === null ? {} : { rttMs: link.rtt }) }));
    this.#status = Object.freeze({ network, quorum: wire.quorum, role: this.engine.role, pendingChanges: wire.pending + unsaved, caughtUp: members.some(link => link.inStep), peers, ...(this.#lastSync ? { lastSync: this.#lastSync } : {}), ...(wire.root === null ? {} : { root: wire.root }) });
    this.#events.status.emit(this.#status);
  }

  async #lookAtMembers(): Promise<void> {
    const members = await this.members();
    const own = members.filter(member => member.id === this.engine.me.device);
    const order: Member['role'][] = ['admin', 'writer', 'reader', 'voter'];
    const best = order.map(role => own.find(member => member.role === role)).find(member => member);
    if (best) this.#member = best;
    this.#events.members.emit(members);
  }

  // ── the face ──

  get me(): Author & Member {
    return { ...this.author, ...this.#member };
  }

  get status(): Status {
    return this.#status;
  }

  get closed(): AbortSignal {
    return this.#close.signal;
  }

  on<K extends keyof SpaceEvents>(type: K, listener: (event: SpaceEvents[K]) => void): Unsubscribe {
    const events = this.#events[type] as unknown as Emitter<SpaceEvents[K]> | undefined;
    if (!events) throw invalid(`there is no event ${JSON.stringify(type)}`);
    return events.on(listener);
  }

  #open(): void {
    if (this.closed.aborted) throw ForeshoreError.make('CLOSED', 'the space is closed', { hint: 'open it again' });
  }

  async #call(request: { do: string; [field: string]: unknown }, options?: Wait): Promise<Json> {
    this.#open();
    return abortable(this.engine.call({ ...request, space: this.id }), options?.signal);
  }

  async document<T>(path: Path, template: Template<T>, options: Wait & { wait?: 'local' | 'caught-up' } = {}): Promise<Doc<T>> {
    checked(path);
    this.#open();
    if (options.wait === 'caught-up') await this.#caughtUp(options);
    const mirror = await abortable(this.#mirror(path, template as unknown as Template<never>), options.signal);
    mirror.users++;
    return new PageDoc<T>(mirror, template, () => this.#release(mirror));
  }

  async #mirror(path: Path, template: Template<never>): Promise<Mirror> {
    const known = this.#mirrors.get(path);
    // A deleted document stays as it is for those who hold it; the path's next life is another mirror.
    if (known && !(await known).deleted) return known;
    const opening = Mirror.open(this, path, template);
    this.#mirrors.set(path, opening);
    try {
      return await opening;
    } catch (error) {
      if (this.#mirrors.get(path) === opening) this.#mirrors.delete(path);
      throw error;
    }
  }

  #release(mirror: Mirror): void {
    if (--mirror.users > 0) return;
    // What is on its way is stored first: its answer comes by the same mirror.
    void mirror.flushed().catch(() => {}).then(() => {
      if (mirror.users > 0) return;
      this.#byId.delete(mirror.id);
      const known = this.#mirrors.get(mirror.path);
      void known?.then(found => { if (found === mirror) this.#mirrors.delete(mirror.path); }, () => {});
      mirror.close();
    });
  }

  async #caughtUp(options: Wait): Promise<void> {
    if (this.#status.caughtUp) return;
    let stop: Unsubscribe | undefined;
    const reached = new Promise<void>(resolve => { stop = this.on('status', status => { if (status.caughtUp) resolve(); }); });
    try {
      await abortable(reached, options.signal);
    } finally {
      stop?.();
    }
  }

  async read<T>(path: Path, _template: Template<T>, options: Wait & { atLeast?: string } = {}): Promise<Snapshot<T> | null> {
    const found = (await this.#call({ do: 'read', path: checked(path), bookmark: options.atLeast ?? null, wait: null }, options)) as { value: Json; heads: string[] };
    return found.value === null && found.heads.length === 0 ? null : (snapshot(decode(found.value)) as Snapshot<T>);
  }

  async list(prefix: Path, options: Wait & { limit?: number; after?: Path } = {}): Promise<{ readonly items: readonly DocInfo[]; readonly next: Path | null }> {
    return (await this.#call({ do: 'list', prefix: checked(prefix), after: options.after ?? null, limit: options.limit ?? 1000 }, options)) as never;
  }

  async collection<T>(prefix: Path, _template: Template<T>, options: Wait & { limit?: number } = {}): Promise<Collection<T>> {
    this.#open();
    return abortable(PageCollection.open<T>(this, checked(prefix), options.limit ?? 100), options.signal);
  }

  async remove(path: Path, options?: Wait): Promise<void> {
    const mirror = this.#mirrors.get(checked(path));
    await (await mirror)?.flushed();
    if (!(await this.#call({ do: 'remove', path }, options))) throw ForeshoreError.make('NOT_FOUND', `no document at ${path}`, { path });
  }

  async replicate(prefix: Path, options?: Wait): Promise<Disposable> {
    this.#open();
    const kept = new Kept(this, checked(prefix));
    try {
      await abortable(kept.ask(), options?.signal);
    } catch (error) {
      kept[DISPOSE]();
      throw error;
    }
    return kept;
  }

  batch(body: () => void): Commit {
    this.#open();
    if (this.together) {
      // Within another one it is part of that.
      body();
      return { saved: this.together.saved };
    }
    const together = (this.together = new Together());
    try {
      const result: unknown = body();
      if (typeof (result as { then?: unknown } | undefined)?.then === 'function') throw ForeshoreError.make('INVALID', 'the body of a batch is synchronous', { hint: 'await first, then batch' });
    } catch (error) {
      together.takeBack();
      throw error;
    } finally {
      this.together = null;
    }
    return together.post();
  }

  async soft<T extends Storable<T>>(path: Path, options: Wait & { prefix?: string } = {}): Promise<Soft<T>> {
    return abortable(this.#soft<T>(checked(path)), options.signal);
  }

  #soft<T>(path: Path): Promise<PageSoft<T>> {
    return PageSoft.open<T>(this, path, (id, soft) => {
      this.#softs.set(id, soft);
      return () => this.#softs.delete(id);
    });
  }

  presence<T extends Storable<T>>(path: Path, initial: T): Presence<T> {
    return new PagePresence<T>(this.#soft<T>(checked(path)), initial, error => this.fail(error));
  }

  topic<T extends Storable<T>>(path: Path): Topic<T> {
    this.#open();
    return new PageTopic<T>(this, checked(path));
  }

  async bookmark(): Promise<string> {
    return String(await this.#call({ do: 'bookmark' }));
  }

  async reach(bookmark: string, options?: Wait): Promise<void> {
    await this.#call({ do: 'reach', bookmark }, options);
  }

  async members(): Promise<readonly Member[]> {
    const wire = (await this.#call({ do: 'members' })) as unknown as WireMember[];
    return wire.flatMap(({ id, roles }) => roles.map(({ role, prefix, expires }) => ({ id, role, prefix, ...(expires === null ? {} : { expires: new Date(expires) }) })));
  }

  async invite(options: { role: Member['role']; prefix?: Path; expires?: Date }): Promise<string> {
    return String(await this.#call({ do: 'invite', role: options.role, prefix: options.prefix ?? null, expires: options.expires?.getTime() ?? null }));
  }

  async revoke(member: string): Promise<void> {
    await this.#call({ do: 'revoke', member });
  }

  goOffline(): Disposable {
    const set = (offline: boolean) => this.engine.call({ do: 'offline', offline }).catch((error: unknown) => this.fail(fromEngine(error)));
    const cut = set(true);
    return { [DISPOSE]: () => void cut.then(() => set(false)) };
  }

  async storage(): Promise<StorageInfo> {
    if (typeof this.kept !== 'string') {
      let usage = 0;
      for await (const [, bytes] of this.kept.list('')) usage += bytes;
      return { kind: 'adapter', durability: 'strict', persisted: true, usage, quota: Infinity };
    }
    const manager = typeof navigator === 'undefined' ? undefined : navigator.storage;
    const [estimate, persisted] = await Promise.all([(manager?.estimate?.() ?? {}) as StorageEstimate | Promise<StorageEstimate>, manager?.persisted?.() ?? false]);
    const durability = this.kept === 'memory' ? 'none' : 'strict';
    return { kind: this.kept, durability, persisted, usage: estimate.usage ?? 0, quota: estimate.quota ?? 0 };
  }

  async requestPersistence(): Promise<boolean> {
    return typeof navigator !== 'undefined' && ((await navigator.storage?.persist?.()) ?? false);
  }

  #end(): void {
    if (this.closed.aborted) return;
    for (const stop of this.#stops) stop();
    this.#close.abort(ForeshoreError.make('CLOSED', 'the space was closed'));
    // What is held is not any more; should the engine be gone, there is nobody to tell.
    void this.#sessions.close();
  }

  /** Waits until every edit made here is stored. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#byId.values()].map(mirror => mirror.flushed()));
  }

  /** Waits until every open document shows all that the engine has. */
  async told(): Promise<void> {
    await Promise.all([...this.#byId.values()].map(mirror => this.engine.call({ do: 'fence', doc: mirror.id })));
  }

  async close(): Promise<void> {
    if (this.closed.aborted) return;
    await Promise.allSettled([...this.#byId.values()].map(mirror => mirror.flushed()));
    const left = this.#sessions.close();
    this.#end();
    await left;
    await this.engine.close();
  }

  [ASYNC_DISPOSE](): Promise<void> {
    return this.close();
  }

  export(options?: Wait): ReadableStream<Uint8Array> {
    this.#open();
    const live = this.number();
    const end = () => void this.engine.call({ do: 'closeLive', live }).catch(() => {});
    return new ReadableStream<Uint8Array>({
      // A page of the copy is made when it is asked for.
      pull: async controller => {
        try {
          const piece = (await this.#call({ do: 'export', live }, options)) as string | null;
          if (piece === null) controller.close();
          else controller.enqueue(fromBase64(piece));
        } catch (error) {
          end();
          throw error;
        }
      },
      cancel: end,
    }, { highWaterMark: 0 });
  }

  async import(source: ReadableStream<Uint8Array>, options?: Wait): Promise<void> {
    const live = this.number();
    const reader = source.getReader();
    try {
      for (;;) {
        const { done, value } = await abortable(reader.read(), options?.signal);
        if (done) break;
        for (let from = 0; from < value.length; from += PIECE) await this.#call({ do: 'import', live, bytes: toBase64(value.subarray(from, from + PIECE)) }, options);
      }
      await this.#call({ do: 'import', live, bytes: null }, options);
    } catch (error) {
      void this.engine.call({ do: 'closeLive', live }).catch(() => {});
      void reader.cancel(error).catch(() => {});
      throw error;
    }
  }

  // ── strong state ──

  readonly #sessions = new Sessions(this);
  readonly locks: Locks = new PageLocks(this.#sessions);
  readonly elections: Elections = new PageElections(this.#sessions);
  readonly tree: Tree = new PageTree(this.#sessions);

  queue(path: Path): Queue {
    return new PageQueue(this.#sessions, path);
  }
}
