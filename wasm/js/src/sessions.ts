// Sessions with a space's voters: one for each lease that this tab asks for, opened when it is first needed.
//
// A session is the engine's; what it holds is this tab's, and goes when this tab does. The engine says how each stands a few
// times in its time; a tab that hears nothing for a third of it takes what it holds for lost, since whatever ran the engine may
// be gone. Should another tab host from here on, sessions of before are over, and others are opened.
import { Emitter } from './emitter.js';
import type { EngineEvent } from './engine.js';
import type { Engine } from './engine.js';
import { abortable, ForeshoreError, fromEngine } from './errors.js';
import { hasMoved } from './tabs.js';
import type { HeldLock, LockHandle, Path, Status, Wait } from './types.js';
import { ASYNC_DISPOSE } from './dispose.js';
import type { Json } from './values.js';

/** How long a session outlives its last sign of life where nothing else is said, in ms. */
export const LEASE = 10_000;

/** What is asked again after a failure that passes waits so long before, in ms. */
export const PAUSE = 500;

/** What strong state needs of its space. */
export interface Harbour {
  readonly id: string;
  readonly engine: Engine;
  readonly closed: AbortSignal;
  readonly status: Status;
  number(): number;
  fail(error: ForeshoreError): void;
}

export interface Ask { op: string; [field: string]: unknown }

/** Something that is watched, and told by whatever session there is. */
export interface Watcher {
  readonly kind: 'node' | 'tree' | 'leader' | 'queue';
  readonly path: Path;
  /** Something happened, or may have. */
  hear(kind: string, path: Path, zxid: number): void;
  /** No voter serves the session at the moment: what is known of the watched thing may be old. */
  doubt?(): void;
}

export function noQuorum(): ForeshoreError {
  return ForeshoreError.make('NO_QUORUM', 'locks, elections and the tree need a quorum of voting peers, and this space has no voters', { hint: 'join the space of a native peer, or use documents and soft state' });
}

export function leaseLost(path: Path, cause?: unknown): ForeshoreError {
  return ForeshoreError.make('LEASE_LOST', `${path} was lost: the lease could have ended`, { path, cause, hint: 'somebody else may hold it now; let whatever is written in its name check the token' });
}

/** Waits, without keeping a program alive for it. */
export function pause(ms: number): Promise<void> {
  return new Promise(resolve => {
    const timer: unknown = setTimeout(resolve, ms);
    (timer as { unref?: () => void }).unref?.();
  });
}

/** What this tab holds. */
export class Grant implements LockHandle {
  readonly #lost = new AbortController();
  #over = false;

  constructor(readonly session: Session, readonly held: number, readonly path: Path, readonly mode: HeldLock['mode'], readonly token: number) {}

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  get lost(): boolean {
    return this.#lost.signal.aborted;
  }

  lose(): void {
    if (this.#over) return;
    this.#over = true;
    this.#lost.abort(leaseLost(this.path));
  }

  async release(): Promise<void> {
    if (this.lost) throw ForeshoreError.make('NOT_HELD', `${this.path} was lost before it was released`, { path: this.path, hint: 'somebody else may hold it now' });
    if (this.#over) return;
    this.#over = true;
    await this.session.release(this);
  }

  async [ASYNC_DISPOSE](): Promise<void> {
    // What was lost is not held any more, which is all that its user wants here.
    if (!this.lost) await this.release();
  }
}

export class Session {
  readonly grants = new Map<number, Grant>();
  /** Lost before the answer that grants them was here. */
  readonly early = new Set<number>();
  readonly watched = new Map<string, number>();
  state = 'opening';
  #gone = false;
  #alarm: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly home: Harbour, readonly number: number, readonly ttl: number) {}

  get gone(): boolean {
    return this.#gone;
  }

  call(ask: Ask): Promise<Json> {
    return this.home.engine.call({ do: 'strong', session: this.number, ask });
  }

  /** The engine says how it stands: from here on it may be silent for a third of the session's time. */
  hear(state: string): void {
    this.state = state;
    clearTimeout(this.#alarm);
    if (this.#gone || state === 'lapsed' || state === 'lost') return;
    const patience = this.ttl / 3;
    const due = Date.now() + patience;
    this.#alarm = setTimeout(() => {
      // A page that was held up itself hears first what has been told meanwhile.
      if (Date.now() < due + 100) return this.#silent();
      this.#alarm = setTimeout(() => this.#silent(), 50);
    }, patience);
    (this.#alarm as unknown as { unref?: () => void }).unref?.();
  }

  #silent(): void {
    for (const grant of [...this.grants.values()]) {
      this.lose(grant.held);
      void this.call({ op: 'release', held: grant.held }).catch(() => {});
    }
  }

  lose(held: number): void {
    const grant = this.grants.get(held);
    if (!grant) return void this.early.add(held);
    this.grants.delete(held);
    grant.lose();
  }

  /** It is over, and with it what it holds. */
  end(): void {
    this.#gone = true;
    clearTimeout(this.#alarm);
    for (const held of [...this.grants.keys()]) this.lose(held);
  }

  async release(grant: Grant): Promise<void> {
    this.grants.delete(grant.held);
    try {
      await this.call({ op: 'release', held: grant.held });
    } catch (error) {
      // With the session it is given back in any case.
      if (this.#gone || hasMoved(error)) return;
      throw fromEngine(error, grant.path);
    }
  }
}

/** All sessions of a tab, and what it watches. */
export class Sessions {
  readonly #byLease = new Map<number, Promise<Session>>();
  readonly #byNumber = new Map<number, Session>();
  readonly #watchers = new Set<Watcher>();
  readonly #states = new Emitter<void>();

  constructor(readonly home: Harbour) {}

  /** The session of a lease. `NO_QUORUM`: the space has no voters. */
  open(lease = LEASE): Promise<Session> {
    if (this.home.closed.aborted) return Promise.reject(ForeshoreError.make('CLOSED', 'the space is closed', { hint: 'open it again' }));
    const ttl = Math.min(3_600_000, Math.max(1000, Math.round(lease)));
    const known = this.#byLease.get(ttl);
    if (known) return known;
    const opening = this.#open(ttl);
    this.#byLease.set(ttl, opening);
    opening.catch(() => { if (this.#byLease.get(ttl) === opening) this.#byLease.delete(ttl); });
    return opening;
  }

  async #open(ttl: number): Promise<Session> {
    for (;;) {
      const { quorum, caughtUp } = this.home.status;
      // Whoever has not caught up may not have heard of the voters yet.
      if (quorum === 'none' && caughtUp) throw noQuorum();
      const session = new Session(this.home, this.home.number(), ttl);
      this.#byNumber.set(session.number, session);
      try {
        await this.home.engine.call({ do: 'openSession', space: this.home.id, session: session.number, ttl });
        session.hear(session.state);
        return session;
      } catch (error) {
        this.#byNumber.delete(session.number);
        if (hasMoved(error)) continue;
        throw ForeshoreError.is(error, 'NO_QUORUM') ? noQuorum() : error;
      }
    }
  }

  /** Asks something. A read is asked again where another tab hosts meanwhile; of anything else it is not known what became of it. */
  async ask(ask: Ask, read: boolean, options: Wait = {}, path?: Path): Promise<Json> {
    for (;;) {
      const session = await abortable(this.open(), options.signal);
      try {
        return await abortable(session.call(ask), options.signal);
      } catch (error) {
        const over = hasMoved(error) || (session.gone && ForeshoreError.is(error, 'SESSION_EXPIRED'));
        if (over && read) continue;
        if (hasMoved(error)) throw ForeshoreError.make('UNKNOWN_OUTCOME', 'the tab that asked the voters went away: it was done, or it was not', { path, hint: 'read before doing it again' });
        throw fromEngine(error, path);
      }
    }
  }

  /** An event of the engine. */
  hear(event: EngineEvent): void {
    const session = this.#byNumber.get(event.session as number);
    if (!session) return;
    switch (event.event) {
      case 'lost': return session.lose(event.held as number);
      case 'changed': return this.#changed(session, String(event.kind), event.path as Path, Number(event.zxid));
      default: {
        const state = String(event.state);
        const before = session.state;
        session.hear(state);
        if (state !== 'connected' && before === 'connected') for (const watcher of this.#watchers) watcher.doubt?.();
        if (state === 'lost') this.#over(session, true);
        if (state !== before) this.#states.emit();
      }
    }
  }

  #changed(session: Session, kind: string, path: Path, zxid: number): void {
    const under = (top: Path) => top === '/' || path === top || path.startsWith(`${top}/`);
    for (const watcher of this.#watchers) {
      if (!session.watched.has(key(watcher))) continue;
      const concerned = kind === 'resync' ? path === '/' || path === watcher.path || under(watcher.path)
        : kind === 'leader' ? watcher.kind === 'leader' && watcher.path === path
        : kind === 'ready' ? watcher.kind === 'queue' && watcher.path === path
        : watcher.kind === 'node' ? watcher.path === path
        : watcher.kind === 'tree' && kind !== 'children' && under(watcher.path);
      if (concerned) watcher.hear(kind, path, zxid);
    }
  }

  /** A session is over: what is watched is watched by another, and may have changed meanwhile. */
  #over(session: Session, expired: boolean): void {
    if (session.gone) return;
    const held = session.grants.size > 0;
    session.end();
    this.#byNumber.delete(session.number);
    // It is the one of its lease: another is opened only after it.
    this.#byLease.delete(session.ttl);
    if (this.home.closed.aborted) return;
    if (expired && held) this.home.fail(ForeshoreError.make('SESSION_EXPIRED', 'the session with the voters is over, and what it held is gone', { hint: 'ask again for what is still wanted', retryable: true }));
    for (const watcher of this.#watchers) {
      if (!session.watched.has(key(watcher))) continue;
      watcher.doubt?.();
      void this.#again(watcher);
    }
  }

  async #again(watcher: Watcher): Promise<void> {
    while (this.#watchers.has(watcher) && !this.home.closed.aborted) {
      try {
        await this.#set(watcher);
        return watcher.hear('resync', watcher.path, 0);
      } catch {
        await pause(PAUSE);
      }
    }
  }

  /** Another tab hosts the engine: sessions of before are over. */
  moved(): void {
    for (const session of [...this.#byNumber.values()]) this.#over(session, false);
  }

  /** From here on a watcher hears; what was before is to be read after this. */
  async watch(watcher: Watcher): Promise<void> {
    this.#watchers.add(watcher);
    try {
      await this.#set(watcher);
    } catch (error) {
      this.#watchers.delete(watcher);
      throw fromEngine(error, watcher.path);
    }
  }

  async #set(watcher: Watcher): Promise<void> {
    for (;;) {
      const session = await this.open();
      const name = key(watcher);
      const count = session.watched.get(name) ?? 0;
      session.watched.set(name, count + 1);
      try {
        // Set again by whoever comes second, so that nobody hears before it is set.
        await session.call({ op: 'watch', kind: watcher.kind, path: watcher.path, on: true });
        if (!session.gone) return;
      } catch (error) {
        this.#less(session, name);
        if (hasMoved(error) || session.gone) continue;
        throw error;
      }
    }
  }

  #less(session: Session, name: string): number {
    const left = (session.watched.get(name) ?? 1) - 1;
    if (left > 0) session.watched.set(name, left);
    else session.watched.delete(name);
    return left;
  }

  async unwatch(watcher: Watcher): Promise<void> {
    if (!this.#watchers.delete(watcher)) return;
    const name = key(watcher);
    for (const session of this.#byNumber.values()) {
      if (!session.watched.has(name) || this.#less(session, name) > 0) continue;
      await session.call({ op: 'watch', kind: watcher.kind, path: watcher.path, on: false }).catch(() => {});
    }
  }

  /** The tab is done: what it holds goes to others at once. */
  async close(): Promise<void> {
    const sessions = [...this.#byNumber.values()];
    for (const session of sessions) session.end();
    this.#byNumber.clear();
    this.#byLease.clear();
    this.#watchers.clear();
    const closing = sessions.map(({ number }) => this.home.engine.call({ do: 'closeSession', session: number }).catch(() => null));
    await Promise.race([Promise.all(closing), pause(PAUSE)]);
  }
}

function key({ kind, path }: Watcher): string {
  return `${kind} ${path}`;
}
