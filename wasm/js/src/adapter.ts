// A program's own store as the engine's: tables and binary keys become text, and the keys are kept in memory, sorted, since
// an adapter lists them in no particular order.
import { ForeshoreError } from './errors.js';
import { compare, equal, EPOCH, type Read, StoreError, TABLES, type Write } from './store.js';
import type { StorageAdapter } from './types.js';

const hex = (bytes: Uint8Array): string => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');
const unhex = (text: string): Uint8Array => Uint8Array.from(text.match(/../g) ?? [], pair => parseInt(pair, 16));

/** `chunks/00ff…`: table and key. Hexadecimal digits sort as the bytes do. */
const name = (table: string, key: Uint8Array): string => `${table}/${hex(key)}`;

/** The place of a key in a sorted list, or where it would be. */
function place(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class AdapterStore {
  #closed = false;

  private constructor(private readonly adapter: StorageAdapter, private readonly keys: ReadonlyMap<string, string[]>) {}

  static async open(adapter: StorageAdapter): Promise<AdapterStore> {
    const keys = new Map<string, string[]>();
    try {
      for (const table of TABLES) {
        const found: string[] = [];
        for await (const [key] of adapter.list(`${table}/`)) {
          const own = key.slice(table.length + 1);
          if (key.startsWith(`${table}/`) && /^([0-9a-f]{2})*$/.test(own)) found.push(own);
        }
        keys.set(table, found.sort());
      }
    } catch (error) {
      throw ForeshoreError.make('STORAGE', `the storage adapter does not list its keys: ${String((error as Error)?.message ?? error)}`, { hint: 'list(prefix) gives each key that begins so, with the length of its value', cause: error });
    }
    return new AdapterStore(adapter, keys);
  }

  #table(table: string): string[] {
    return this.keys.get(table) as string[];
  }

  /** Keys from one to another, the second not included. */
  #range(table: string, from: Uint8Array, to: Uint8Array | null, limit = Infinity): string[] {
    const keys = this.#table(table);
    const first = place(keys, hex(from));
    const end = to ? place(keys, hex(to)) : keys.length;
    return keys.slice(first, Math.min(end, first + limit));
  }

  async #values(keys: readonly string[]): Promise<readonly (Uint8Array | null)[]> {
    if (this.#closed) throw new StoreError('io', 'the store is closed');
    if (keys.length === 0) return [];
    try {
      const values = await this.adapter.read(keys);
      if (values.length === keys.length && values.every(value => value === null || value instanceof Uint8Array)) return values;
    } catch (error) {
      throw failed(error);
    }
    throw new StoreError('io', 'the adapter\'s read() answers one Uint8Array or null for each key');
  }

  /** Everything or nothing, which the adapter promises. */
  async write(ops: Write[], epoch?: Uint8Array): Promise<void> {
    if (epoch) {
      const [found] = await this.#values([name('meta', EPOCH)]);
      if (!found || !equal(found, epoch)) throw new StoreError('epoch', 'another host has taken the store over');
    }
    // The last word on a key counts.
    const batch = new Map<string, Uint8Array | null>();
    for (const op of ops) {
      if (op[0] === 'put') batch.set(name(op[1], op[2]), op[3]);
      else if (op[0] === 'delete') batch.set(name(op[1], op[2]), null);
      else {
        for (const key of this.#range(op[1], op[2], op[3])) batch.set(`${op[1]}/${key}`, null);
        // What this very write has put there goes as well.
        for (const key of batch.keys()) {
          const [table, own] = key.split('/') as [string, string];
          if (table === op[1] && compare(unhex(own), op[2]) >= 0 && compare(unhex(own), op[3]) < 0) batch.set(key, null);
        }
      }
    }
    if (this.#closed) throw new StoreError('io', 'the store is closed');
    try {
      await this.adapter.write([...batch], 'strict');
    } catch (error) {
      throw failed(error);
    }
    for (const [key, value] of batch) {
      const [table, own] = key.split('/') as [string, string];
      const keys = this.#table(table);
      const at = place(keys, own);
      const there = keys[at] === own;
      if (value && !there) keys.splice(at, 0, own);
      else if (!value && there) keys.splice(at, 1);
    }
  }

  /** One list of keys and values in turn for each look. */
  async read(ops: Read[]): Promise<Uint8Array[][]> {
    const wanted = ops.map(op => {
      if (op[0] === 'get') return [hex(op[2])];
      return this.#range(op[1], op[2], op[3], op[4]);
    });
    const values = await this.#values(ops.flatMap((op, i) => (wanted[i] as string[]).map(key => `${op[1]}/${key}`)));
    let at = 0;
    return wanted.map(keys => keys.flatMap(key => {
      const value = values[at++];
      return value ? [unhex(key), value] : [];
    }));
  }

  close(): void {
    this.#closed = true;
    void this.adapter.close().catch(() => {});
  }
}

/** A full store is one that may be emptied: the engine waits for that. */
function failed(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const { name = 'Error', message = String(error), code } = (error ?? {}) as { name?: string; message?: string; code?: string };
  return new StoreError(name === 'QuotaExceededError' || code === 'ENOSPC' ? 'full' : 'io', `${name}: ${message}`);
}
