// IndexedDB as the engine's store: six object stores with binary keys, which sort as the engine's own do. The engine's seventh
// table is a voter's, which a browser is not.
//
// A write is one transaction with strict durability, so that what is answered survives the browser's death. It aborts if the
// epoch row is not what the write names: a frozen former host cannot write over its successor.
import { ForeshoreError } from './errors.js';

export const TABLES = ['meta', 'facts', 'index', 'chunks', 'endorsements', 'roots'];
export const EPOCH = new TextEncoder().encode('epoch');
const VERSION = 1;

type Bytes = Uint8Array<ArrayBuffer>;
export type Write = ['put', string, Bytes, Bytes] | ['delete', string, Bytes] | ['clear', string, Bytes, Bytes];
export type Read = ['get', string, Bytes] | ['scan', string, Bytes, Bytes | null, number];

/** What the engine understands of a failure. */
export class StoreError extends Error {
  constructor(readonly kind: 'full' | 'epoch' | 'corrupt' | 'io', message: string) {
    super(message);
  }
}

export class IndexedDbStore {
  #db: IDBDatabase | null;
  #closed = false;

  private constructor(private readonly name: string, db: IDBDatabase) {
    this.#db = this.#watched(db);
  }

  static async open(name: string): Promise<IndexedDbStore> {
    if (typeof indexedDB === 'undefined') {
      throw ForeshoreError.make('STORAGE', 'there is no IndexedDB here', { hint: "pass storage: 'memory'" });
    }
    try {
      return new IndexedDbStore(name, await connect(name));
    } catch (error) {
      throw ForeshoreError.make('STORAGE', `the browser gives no storage: ${String((error as Error)?.message ?? error)}`, { hint: "private windows may refuse storage; pass storage: 'memory' to go on without", cause: error });
    }
  }

  /** Everything or nothing, durable when the promise resolves. */
  async write(ops: Write[], epoch?: Uint8Array): Promise<void> {
    const transaction = await this.#begin('readwrite');
    let moved = false;
    let thrown: DOMException | undefined;
    const done = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(moved ? new StoreError('epoch', 'another host has taken the store over') : named(thrown ?? transaction.error));
    });
    const put = () => {
      try {
        for (const op of ops) {
          const table = transaction.objectStore(op[1]);
          if (op[0] === 'put') table.put(op[3], op[2]);
          else if (op[0] === 'delete') table.delete(op[2]);
          // An empty range is none that IndexedDB takes.
          else if (compare(op[2], op[3]) < 0) table.delete(IDBKeyRange.bound(op[2], op[3], false, true));
        }
      } catch (error) {
        thrown = error as DOMException;
        transaction.abort();
      }
    };
    if (epoch) {
      const found = transaction.objectStore('meta').get(EPOCH);
      found.onsuccess = () => {
        if (equal(found.result as Uint8Array | undefined, epoch)) return put();
        moved = true;
        transaction.abort();
      };
    } else put();
    return done;
  }

  /** One list of keys and values in turn for each look. */
  async read(ops: Read[]): Promise<Uint8Array[][]> {
    const transaction = await this.#begin('readonly');
    return Promise.all(ops.map(async op => {
      const table = transaction.objectStore(op[1]);
      if (op[0] === 'get') {
        const value = await answer(table.get(op[2]) as IDBRequest<Uint8Array | undefined>);
        return value ? [op[2], value] : [];
      }
      const [, , from, to, limit] = op;
      if (to && compare(from, to) >= 0) return [];
      const range = to ? IDBKeyRange.bound(from, to, false, true) : IDBKeyRange.lowerBound(from);
      const [keys, values] = await Promise.all([answer(table.getAllKeys(range, limit)), answer(table.getAll(range, limit) as IDBRequest<Uint8Array[]>)]);
      return keys.flatMap((key, i) => [new Uint8Array(key as ArrayBuffer), values[i] as Uint8Array]);
    }));
  }

  close(): void {
    this.#closed = true;
    this.#db?.close();
    this.#db = null;
  }

  /** A transaction; browsers lose connections (WebKit does), and a new one serves as well. */
  async #begin(mode: IDBTransactionMode): Promise<IDBTransaction> {
    if (this.#closed) throw new StoreError('io', 'the store is closed');
    try {
      return this.#transaction(mode);
    } catch {
      this.#db?.close();
      this.#db = this.#watched(await connect(this.name));
      return this.#transaction(mode);
    }
  }

  #transaction(mode: IDBTransactionMode): IDBTransaction {
    if (!this.#db) throw new StoreError('io', 'the connection is gone');
    return this.#db.transaction(TABLES, mode, { durability: 'strict' });
  }

  #watched(db: IDBDatabase): IDBDatabase {
    // A newer version of the package wants to change the stores: it may.
    db.onversionchange = () => db.close();
    db.onclose = () => { if (this.#db === db) this.#db = null; };
    return db;
  }
}

function connect(name: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, VERSION);
    request.onupgradeneeded = () => {
      for (const table of TABLES) request.result.createObjectStore(table);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(named(request.error));
  });
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(named(request.error));
  });
}

function named(error: DOMException | null): StoreError {
  const message = error ? `${error.name}: ${error.message}` : 'the transaction was given up';
  if (error?.name === 'QuotaExceededError') return new StoreError('full', message);
  if (error?.name === 'DataError' || error?.name === 'NotReadableError') return new StoreError('corrupt', message);
  return new StoreError('io', message);
}

export function equal(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && a.length === b.length && compare(a, b) === 0;
}

export function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const by = (a[i] as number) - (b[i] as number);
    if (by !== 0) return by;
  }
  return a.length - b.length;
}
