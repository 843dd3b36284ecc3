// Locks and elections on a page.
import { DISPOSE } from './dispose.js';
import { Emitter } from './emitter.js';
import { abortable, aborted, ForeshoreError, fromEngine, invalid } from './errors.js';
import { type Ask, Grant, leaseLost, pause, PAUSE, type Sessions, type Watcher } from './sessions.js';
import { hasMoved } from './tabs.js';
import type { Elections, HeldLock, LockHandle, LockInfo, LockOptions, Locks, Path, Unsubscribe, Wait } from './types.js';

type Wanted = LockOptions & { ifAvailable?: boolean; value?: string };

interface WireHolders { held: { owner: string; shared: boolean; token: number }[]; waiting: number }
interface WireLeader { owner: string; token: number; value: string }

/** A path of the strong path; its namespace is not that of documents. */
export function strongPath(path: Path): Path {
  if (typeof path !== 'string' || !path.startsWith('/')) throw invalid(`${JSON.stringify(path)} is not a path: it begins with a slash`);
  return path;
}

function wish(path: Path, held: number, election: boolean, options: Wanted): Ask {
  const { mode = 'exclusive', ifAvailable, deadlineMs, delayMs, value } = options;
  if (mode !== 'exclusive' && mode !== 'shared') throw invalid(`${JSON.stringify(mode)} is no mode of a lock`);
  const whole = (ms: number | undefined): number | null => {
    if (ms === undefined) return null;
    if (!(ms >= 0) || !Number.isFinite(ms)) throw invalid(`${ms} is no number of milliseconds`);
    return Math.round(ms);
  };
  const wait = ifAvailable ? 0 : whole(deadlineMs === undefined ? undefined : Math.max(1, deadlineMs));
  return { op: 'acquire', held, path, election, shared: mode === 'shared', wait, delay: whole(delayMs) ?? 0, value: value ?? '' };
}

/** Asks for a grant until there is one, or it is refused or given up. `null`: it is taken, and was to be had at once. */
async function acquire(sessions: Sessions, path: Path, election: boolean, options: Wanted): Promise<Grant | null> {
  strongPath(path);
  const { signal } = options;
  if (signal?.aborted) throw aborted(signal);
  for (;;) {
    const session = await abortable(sessions.open(options.leaseMs), signal);
    const held = sessions.home.number();
    const asked = session.call(wish(path, held, election, options));
    let answer: { token: number } | null;
    try {
      answer = (await abortable(asked, signal)) as { token: number } | null;
    } catch (error) {
      if (signal?.aborted) {
        // The wish is taken back; a grant that crosses that is given back.
        const back = () => session.call({ op: 'release', held }).catch(() => {});
        void back();
        asked.then(granted => { if (granted) void back(); }, () => {});
        throw error;
      }
      // Whoever asked for it is gone, and the wish with it.
      if (hasMoved(error) || (session.gone && ForeshoreError.is(error, 'SESSION_EXPIRED'))) continue;
      throw fromEngine(error, path);
    }
    if (answer === null) return null;
    const grant = new Grant(session, held, path, options.mode ?? 'exclusive', answer.token);
    if (session.gone || session.early.delete(held)) continue;
    session.grants.set(held, grant);
    return grant;
  }
}

/** What a body makes of a grant. `LEASE_LOST` where the lease could have ended before it settled. */
async function holding<R>(grant: Grant, body: (lock: HeldLock) => R): Promise<Awaited<R>> {
  try {
    const result = await body(grant);
    if (grant.lost) throw leaseLost(grant.path);
    return result;
  } catch (error) {
    throw grant.lost && !ForeshoreError.is(error, 'LEASE_LOST') ? leaseLost(grant.path, error) : error;
  } finally {
    // What the body made of it stands; the lock goes with the session at the latest.
    await grant.release().catch(() => {});
  }
}

export class PageLocks implements Locks {
  constructor(readonly sessions: Sessions) {}

  request<R>(path: Path, body: (lock: HeldLock) => R): Promise<Awaited<R>>;
  request<R>(path: Path, options: LockOptions & { ifAvailable?: false }, body: (lock: HeldLock) => R): Promise<Awaited<R>>;
  request<R>(path: Path, options: LockOptions & { ifAvailable?: boolean }, body: (lock: HeldLock | null) => R): Promise<Awaited<R>>;
  async request<R>(path: Path, first: ((lock: HeldLock) => R) | Wanted, second?: (lock: never) => R): Promise<Awaited<R>> {
    const [options, body] = (typeof first === 'function' ? [{}, first] : [first, second]) as [Wanted, (lock: HeldLock | null) => R];
    if (typeof body !== 'function') throw invalid('a lock is requested for a function to run');
    const grant = await acquire(this.sessions, path, false, options);
    return grant ? holding(grant, body) : await body(null);
  }

  async acquire(path: Path, options: LockOptions = {}): Promise<LockHandle> {
    return (await acquire(this.sessions, path, false, { ...options, ifAvailable: false } as Wanted)) as Grant;
  }

  tryAcquire(path: Path, options: LockOptions = {}): Promise<LockHandle | null> {
    return acquire(this.sessions, path, false, { ...options, ifAvailable: true });
  }

  async query(path: Path, options?: Wait): Promise<{ readonly held: readonly LockInfo[]; readonly waiting: number }> {
    const found = (await this.sessions.ask({ op: 'holders', path: strongPath(path) }, true, options, path)) as unknown as WireHolders;
    const held = found.held.map(({ owner, shared, token }): LockInfo => ({ path, mode: shared ? 'shared' : 'exclusive', owner: { peer: owner }, token }));
    return { held, waiting: found.waiting };
  }
}

export class PageElections implements Elections {
  constructor(readonly sessions: Sessions) {}

  async lead<R>(path: Path, body: (term: HeldLock) => R, options: Wait & { leaseMs?: number; value?: string } = {}): Promise<Awaited<R>> {
    let led = false;
    for (;;) {
      let term: Grant;
      try {
        term = (await acquire(this.sessions, path, true, options)) as Grant;
      } catch (error) {
        // Whoever has led goes on standing through a bad moment of the voters.
        if (!led || !ForeshoreError.is(error) || !error.retryable) throw error;
        await abortable(pause(PAUSE), options.signal);
        continue;
      }
      led = true;
      try {
        return await holding(term, body);
      } catch (error) {
        // The term ended early; what the body made of that is over with it.
        if (!term.lost) throw error;
      }
    }
  }

  observe(path: Path): Observed {
    return new Observed(this.sessions, strongPath(path));
  }
}

type Leader = { readonly owner: { readonly peer: string }; readonly token: number; readonly value: string };

/** Who leads, as long as somebody looks. */
class Observed implements Watcher {
  readonly kind = 'leader';
  readonly #changes = new Emitter<void>();
  #leader: Leader | null = null;
  #known = false;
  #gone = false;
  #looking = false;
  #again = false;

  constructor(readonly sessions: Sessions, readonly path: Path) {
    void this.#begin();
  }

  async #begin(): Promise<void> {
    while (!this.#over) {
      try {
        await this.sessions.watch(this);
        return void this.#look();
      } catch {
        // No voter answers, or there is none yet.
        await pause(PAUSE);
      }
    }
  }

  get #over(): boolean {
    return this.#gone || this.sessions.home.closed.aborted;
  }

  get leader(): Leader | null {
    return this.#leader;
  }

  get known(): boolean {
    return this.#known;
  }

  hear(): void {
    void this.#look();
  }

  doubt(): void {
    if (!this.#known) return;
    this.#known = false;
    this.#changes.emit();
    void this.#look();
  }

  async #look(): Promise<void> {
    this.#again = true;
    if (this.#looking) return;
    this.#looking = true;
    try {
      while (this.#again && !this.#over) {
        this.#again = false;
        try {
          const found = (await this.sessions.ask({ op: 'leader', path: this.path }, true, {}, this.path)) as unknown as WireLeader | null;
          const leader = found && { owner: { peer: found.owner }, token: found.token, value: found.value };
          const same = this.#known && leader?.token === this.#leader?.token && leader?.value === this.#leader?.value;
          if (same) continue;
          [this.#leader, this.#known] = [leader && Object.freeze(leader), true];
          this.#changes.emit();
        } catch {
          if (this.#known) {
            this.#known = false;
            this.#changes.emit();
          }
          await pause(PAUSE);
          this.#again = true;
        }
      }
    } finally {
      this.#looking = false;
    }
  }

  subscribe(listener: () => void): Unsubscribe {
    return this.#changes.on(listener);
  }

  [DISPOSE](): void {
    if (this.#gone) return;
    this.#gone = true;
    void this.sessions.unwatch(this);
  }
}
