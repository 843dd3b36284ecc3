// The watched tree on a page.
import { abortable, ForeshoreError, invalid } from './errors.js';
import { strongPath } from './locks.js';
import type { Sessions, Watcher } from './sessions.js';
import type { Path, Stat, Tree, TreeOp, Wait } from './types.js';
import { fromBase64, type Json, toBase64 } from './values.js';

type NodeEvent = { readonly type: 'created' | 'changed' | 'deleted' | 'children' | 'resync'; readonly path: Path; readonly zxid: number };
type Consistency = { consistency?: 'sequential' | 'linearizable' };
type Outcome = { path?: Path; stat: Stat } | null;

/** Events that wait for a reader; beyond it they are one `resync`. */
const MAX_WAITING = 1024;

function wire(op: TreeOp): Json {
  if ('create' in op) {
    const mode = op.ephemeral ? 'ephemeral' : 'persistent';
    return { op: 'create', path: strongPath(op.create), data: toBase64(op.data ?? new Uint8Array()), mode, sequential: op.sequential ?? false };
  }
  if ('set' in op) return { op: 'set', path: strongPath(op.set), data: toBase64(op.data), version: op.version ?? null };
  if ('delete' in op) return { op: 'delete', path: strongPath(op.delete), version: op.version ?? null };
  if ('check' in op) return { op: 'check', path: strongPath(op.check), version: op.version };
  throw invalid('an operation creates, sets, deletes or checks');
}

export class PageTree implements Tree {
  constructor(readonly sessions: Sessions) {}

  async #multi(ops: readonly Json[], options?: Wait, path?: Path): Promise<readonly Outcome[]> {
    return (await this.sessions.ask({ op: 'multi', ops }, false, options, path)) as unknown as readonly Outcome[];
  }

  /** One operation: its error is its own, not that of the first of several. */
  async #one(op: Json, path: Path, options?: Wait): Promise<Outcome> {
    try {
      return (await this.#multi([op], options, path))[0] ?? null;
    } catch (error) {
      if (!ForeshoreError.is(error) || !error.message.startsWith(ALONE)) throw error;
      const { code, message, hint, retryable } = error;
      throw ForeshoreError.make(code, message.slice(ALONE.length), { hint, retryable, path });
    }
  }

  async create(path: Path, data = new Uint8Array(), options: Wait & { ephemeral?: boolean; sequential?: boolean; container?: boolean; ttlMs?: number; parents?: boolean } = {}): Promise<{ path: Path; stat: Stat }> {
    strongPath(path);
    const { ephemeral, container, ttlMs, sequential, parents } = options;
    if (Number(ephemeral ?? false) + Number(container ?? false) + Number(ttlMs !== undefined) > 1) throw invalid('a node is ephemeral, a container, or has a TTL', path);
    const mode: Json = ephemeral ? 'ephemeral' : container ? 'container' : ttlMs === undefined ? 'persistent' : { ttl: Math.round(ttlMs) };
    if (parents) await this.#parents(path, options);
    const made = await this.#one({ op: 'create', path, data: toBase64(data), mode, sequential: sequential ?? false }, path, options);
    return made as { path: Path; stat: Stat };
  }

  async #parents(path: Path, options: Wait): Promise<void> {
    const steps = path.split('/').slice(1, -1);
    for (let n = 1; n <= steps.length; n++) {
      const parent: Path = `/${steps.slice(0, n).join('/')}`;
      try {
        await this.#one({ op: 'create', path: parent, data: '', mode: 'persistent', sequential: false }, parent, options);
      } catch (error) {
        if (!ForeshoreError.is(error, 'EXISTS')) throw error;
      }
    }
  }

  async get(path: Path, options: Wait & Consistency = {}): Promise<{ data: Uint8Array; stat: Stat } | null> {
    const found = (await this.sessions.ask({ op: 'get', path: strongPath(path), linear: options.consistency === 'linearizable' }, true, options, path)) as { data: string; stat: Json } | null;
    return found && { data: fromBase64(found.data), stat: found.stat as unknown as Stat };
  }

  async children(path: Path, options: Wait & Consistency = {}): Promise<readonly string[]> {
    return (await this.sessions.ask({ op: 'children', path: strongPath(path), linear: options.consistency === 'linearizable' }, true, options, path)) as readonly string[];
  }

  async set(path: Path, data: Uint8Array, options: Wait & { version?: number } = {}): Promise<Stat> {
    const set = await this.#one(wire({ set: path, data, version: options.version }), path, options);
    return (set as { stat: Stat }).stat;
  }

  async delete(path: Path, options: Wait & { version?: number } = {}): Promise<void> {
    await this.#one(wire({ delete: path, version: options.version }), path, options);
  }

  async multi(ops: readonly TreeOp[], options?: Wait): Promise<readonly (Stat | null)[]> {
    return (await this.#multi(ops.map(wire), options)).map(outcome => outcome?.stat ?? null);
  }

  watch(path: Path, options: Wait & { recursive?: boolean } = {}): AsyncIterableIterator<NodeEvent> {
    return new NodeEvents(this.sessions, strongPath(path), options.recursive ? 'tree' : 'node', options.signal);
  }
}

const ALONE = 'operation 0 failed: ';

/** What happens at a path. It is watched from the call of `watch` on, whenever the first event is asked for. */
class NodeEvents implements AsyncIterableIterator<NodeEvent>, Watcher {
  #waiting: NodeEvent[] = [];
  #wake: () => void = () => {};
  #over = false;
  readonly #set: Promise<void>;

  constructor(readonly sessions: Sessions, readonly path: Path, readonly kind: 'node' | 'tree', readonly signal: AbortSignal | undefined) {
    this.#set = sessions.watch(this);
    // Whoever asks for an event is told.
    this.#set.catch(() => {});
  }

  hear(type: string, path: Path, zxid: number): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push({ type: type as NodeEvent['type'], path, zxid });
    else this.#waiting = [{ type: 'resync', path: this.path, zxid }];
    this.#wake();
  }

  async next(): Promise<IteratorResult<NodeEvent, undefined>> {
    const { closed } = this.sessions.home;
    try {
      await abortable(this.#set, this.signal);
      for (;;) {
        const value = this.#waiting.shift();
        if (value) return { done: false, value };
        if (this.#over || closed.aborted) return { done: true, value: undefined };
        const told = new Promise<void>(resolve => { this.#wake = resolve; });
        closed.addEventListener('abort', this.#wake, { once: true });
        await abortable(told, this.signal).finally(() => closed.removeEventListener('abort', this.#wake));
      }
    } catch (error) {
      await this.return();
      throw error;
    }
  }

  async return(): Promise<IteratorResult<NodeEvent, undefined>> {
    this.#over = true;
    this.#wake();
    await this.sessions.unwatch(this);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
