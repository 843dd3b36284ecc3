// The public types of the package: the one source of them. What implements them lies beside; what is synchronous here is
// answered by the page's mirror, and what only the engine can know is a promise.
import type { ForeshoreError } from './errors.js';

// ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Collaborative text. Indexes are UTF-16 code units; an index inside a surrogate pair moves to its end. */
export interface SharedText {
  readonly length: number; toString(): string; splice(index: number, remove: number, insert?: string): void; update(next: string): void;   // update: smallest diff
  mark(from: number, to: number, name: string, value: Scalar, expand?: 'before' | 'after' | 'both' | 'none'): void;   // null: unmark
}
export interface SharedCounter { readonly value: number; add(by: number): void }
/** A register that only the newest lock holder can set: the greatest fencing token wins on every peer; an older token throws FENCED here and loses elsewhere. */
export interface Fenced<V> { readonly value: V; readonly token: number; set(lock: HeldLock, value: V): void }
export type Scalar = null | boolean | number | string | Uint8Array | Date;    // Uint8Array: at most 64 KiB, else TOO_LARGE
export type InPlace = SharedText | SharedCounter | Fenced<unknown> | readonly unknown[];
export type Leaf = Scalar | SharedText | SharedCounter | Fenced<unknown>;
/** T with everything that cannot be stored turned into `never`; interfaces and optional keys are fine. */
export type Storable<T> = { [K in keyof T]: StorableValue<T[K]> };
export type Unstorable<T> = T extends Storable<T> ? [] : [problem: 'holds a value that cannot be stored'];   // a constraint on T would infer literal types
export type StorableValue<V> = V extends Leaf | undefined ? V : V extends bigint | symbol | ((...args: never) => unknown) ? never : Storable<V>;
/** What is read: deeply readonly plain data with structural sharing; text is a string, a counter a number. */
export type Snapshot<T> = T extends SharedText ? string : T extends SharedCounter ? number : T extends Fenced<infer V> ? V : T extends Leaf ? T : { readonly [K in keyof T]: Snapshot<T[K]> };
/** What is edited. Lists, texts and counters are edited in place: replacing one would drop what others do to it meanwhile. `undefined` is INVALID; use `delete`. */
export type Draft<T> = T extends Leaf ? T : T extends readonly (infer U)[] ? DraftList<Draft<U>> : string extends keyof T ? { [K in keyof T]: Draft<T[K]> }
  : { readonly [K in keyof T as T[K] extends InPlace ? K : never]: Draft<T[K]> } & { [K in keyof T as T[K] extends InPlace ? never : K]: Draft<T[K]> };
export interface DraftList<U> extends Iterable<U>, Pick<U[], 'push' | 'pop' | 'shift' | 'unshift' | 'splice' | 'at' | 'find' | 'findIndex' | 'indexOf' | 'includes' | 'filter' | 'map' | 'forEach' | 'some' | 'every' | 'entries'> { readonly length: number; [index: number]: U }
/** What a document is before anyone writes. Each layer is one change, byte-identical on every peer: never edit a shipped layer, add one. */
export interface Template<T> {
  readonly initial: Snapshot<T>; extend<U>(added: U & { readonly [K in keyof T & keyof U]: never }, ...problem: Unstorable<U>): Template<T & U>;   // new root keys only
  validate(schema: StandardSchemaV1<unknown, Snapshot<T>>): Template<T>;    // synchronous, transforms ignored; a local failure throws INVALID, a remote one shows in doc.state.issues
}
// ── errors, events ──────────────────────────────────────────────────────────────────────────────────────────────────────────
export type Code =                        // may grow in a minor version: keep a default branch
  | 'UNSUPPORTED' | 'WASM_LOAD' | 'CRASHED' | 'STORAGE' | 'QUOTA' | 'INCOMPATIBLE' | 'CLOSED' | 'ABORTED' | 'TIMEOUT' | 'INVALID' | 'TOO_LARGE'
  | 'NOT_FOUND' | 'EXISTS' | 'NOT_EMPTY' | 'BAD_VERSION' | 'NOT_A_MEMBER' | 'DENIED' | 'NOT_YET'
  | 'NO_QUORUM' | 'SESSION_EXPIRED' | 'LEASE_LOST' | 'NOT_HELD' | 'FENCED' | 'UNKNOWN_OUTCOME';
export type Path = `/${string}`; export type Heads = readonly string[];
export interface Wait { signal?: AbortSignal }
export type Unsubscribe = (() => void) & Disposable;                 // what useSyncExternalStore and Svelte stores expect
export interface Author { readonly peer: string; readonly member: string }   // peer: this tab; member: the person or device behind it
// ── documents: AP, durable ──────────────────────────────────────────────────────────────────────────────────────────────────
/** Rejection also rolls the page's value back (`source: 'rollback'`) and raises the space's 'error'; ignoring it is not an unhandled rejection. */
export interface Commit { readonly saved: Promise<Heads> }
export interface ChangeOptions { message?: string; origin?: unknown }   // origin comes back in events on this page: echo suppression
export type At = readonly (string | number)[];
export type Patch =
  | { readonly action: 'put'; readonly at: At; readonly value: unknown } | { readonly action: 'delete'; readonly at: At; readonly count?: number }
  | { readonly action: 'insert'; readonly at: At; readonly values: readonly unknown[] } | { readonly action: 'increment'; readonly at: At; readonly by: number }
  | { readonly action: 'text'; readonly at: At; readonly edits: readonly TextEdit[]; readonly marks: readonly MarkEdit[] } | { readonly action: 'conflict'; readonly at: At };
export interface DocEvent<T> {
  readonly previous: Snapshot<T>; readonly value: Snapshot<T>; readonly patches: readonly Patch[];   // patches lead exactly from previous to value
  readonly source: 'local' | 'tab' | 'remote' | 'rollback'; readonly origin?: unknown; readonly authors: readonly Author[];
}
export interface DocState { readonly exists: boolean; readonly deleted: boolean; readonly canWrite: boolean; readonly pending: number; readonly issues: readonly string[] }
/** Counted per page: the document stays hot until every Doc of its path is disposed. Opening never writes. */
export interface Doc<T> extends Disposable {
  readonly path: Path; readonly value: Snapshot<T>; readonly state: DocState; readonly heads: Heads;   // heads of the newest committed value: pending edits have none yet
  /** Synchronous: an async edit does not compile, and the draft is dead once edit returns. If it throws, none of it applies. */
  change<R>(edit: ((draft: Draft<T>) => R) & (R extends PromiseLike<unknown> ? never : unknown), options?: ChangeOptions): Commit;
  text(select: (draft: Draft<T>) => SharedText): TextRef;   // bound to the object, not to its path
  conflicts(select: (draft: Draft<T>) => unknown): Promise<readonly { readonly value: unknown; readonly author: Author; readonly time: number }[]>;
  undoManager(options?: { scope?: (draft: Draft<T>) => unknown; captureMs?: number }): UndoManager;
  history(options?: Wait & { limit?: number; before?: Heads }): AsyncIterableIterator<{ heads: Heads; author: Author; time: number; message?: string }>;
  at(heads: Heads, options?: Wait): Promise<Snapshot<T>>; diff(from: Heads, to: Heads, options?: Wait): Promise<readonly Patch[]>;
  subscribe(listener: (event: DocEvent<T>) => void): Unsubscribe; onState(listener: () => void): Unsubscribe;
  watch(options?: Wait): AsyncIterableIterator<DocEvent<T>>;         // a slow reader gets merged events
  flushed(options?: Wait): Promise<void>; synced(options?: Wait & { peers?: number }): Promise<void>;   // durable here; durable on n others
}
/** All positions of one batch are in the text before it, sorted and disjoint: CodeMirror's ChangeSpec as it is. */
export interface TextEdit { readonly from: number; readonly to: number; readonly insert: string }
export interface MarkEdit { readonly from: number; readonly to: number; readonly name: string; readonly value: Scalar }
export type Cursor = string;                                         // a place between characters that survives edits; send it in presence
export interface TextRef extends Disposable {
  readonly value: string; readonly spans: readonly { readonly text: string; readonly marks: Readonly<Record<string, Scalar>> }[];
  edit(edits: readonly TextEdit[], options?: ChangeOptions): Commit;
  subscribe(listener: (event: { readonly edits: readonly TextEdit[]; readonly marks: readonly MarkEdit[]; readonly source: DocEvent<unknown>['source']; readonly origin?: unknown }) => void): Unsubscribe;
  cursor(index: number, side?: 'before' | 'after'): Promise<Cursor>;
  locate(cursors: readonly Cursor[]): Promise<readonly (number | null)[]>;   // valid for `value` at the moment of resolving
}
export interface UndoManager extends Disposable { readonly canUndo: boolean; readonly canRedo: boolean; undo(): Promise<boolean>; redo(): Promise<boolean>; boundary(): void; subscribe(listener: () => void): Unsubscribe }
export interface DocInfo { readonly path: Path; readonly heads: Heads; readonly bytes: number; readonly changedAt: number }
/** A live window on the documents under a prefix, in path order, read cold; `items` is replaced, never mutated. */
export interface Collection<T> extends Disposable { readonly items: readonly { readonly path: Path; readonly value: Snapshot<T> }[]; readonly hasMore: boolean; more(count?: number): Promise<void>; subscribe(listener: () => void): Unsubscribe }
// ── soft state: AP, transient ───────────────────────────────────────────────────────────────────────────────────────────────
export interface SoftEntry<T> { readonly key: string; readonly value: Snapshot<T>; readonly owner: Author; readonly away: boolean; readonly expiresAt: number }   // away: its owner has missed renewals; expiresAt: by Date.now(), once away; until then it moves on with each renewal
/** An entry belongs to (owner, key): several owners may hold one key. set and delete touch one's own only. */
export interface Soft<T> extends Disposable {
  set(key: string, value: T): void; delete(key: string): void; entries(key?: string): readonly SoftEntry<T>[];   // the same array until something changes
  subscribe(listener: (events: readonly { readonly type: 'set' | 'delete' | 'expire'; readonly entry: SoftEntry<T> }[]) => void): Unsubscribe;
}
export interface Presence<T> extends Disposable { readonly mine: Snapshot<T>; set(value: Partial<T>): void; readonly others: readonly SoftEntry<T>[]; subscribe(listener: () => void): Unsubscribe }
export interface Topic<T> extends Disposable { publish(value: T): void; subscribe(listener: (value: Snapshot<T>, from: Author) => void): Unsubscribe }
// ── strong state: CP. Tokens are generation × 2^40 + Raft index: safe integers, so JSON.stringify works ───────────────────────────────────────
export interface HeldLock { readonly path: Path; readonly mode: 'exclusive' | 'shared'; readonly token: number; readonly signal: AbortSignal }   // signal: lease in doubt, by this device's clock; a frozen tab learns late, so only the token is safe
export interface LockHandle extends HeldLock, AsyncDisposable { release(): Promise<void> }
export interface LockOptions extends Wait { mode?: 'exclusive' | 'shared'; leaseMs?: number; deadlineMs?: number; delayMs?: number }   // leaseMs: 10 s, from 1 s on; deadlineMs: TIMEOUT after so long in line, by the voters' clock; delayMs: nobody gets it so soon after this tab died with it
export interface Locks {                                              // LEASE_LOST when the lease could have ended before body settled, whatever body returned
  request<R>(path: Path, body: (lock: HeldLock) => R): Promise<Awaited<R>>;
  request<R>(path: Path, options: LockOptions & { ifAvailable?: false }, body: (lock: HeldLock) => R): Promise<Awaited<R>>;
  request<R>(path: Path, options: LockOptions & { ifAvailable?: boolean }, body: (lock: HeldLock | null) => R): Promise<Awaited<R>>;
  acquire(path: Path, options?: LockOptions): Promise<LockHandle>; tryAcquire(path: Path, options?: LockOptions): Promise<LockHandle | null>;
  query(path: Path, options?: Wait): Promise<{ readonly held: readonly LockInfo[]; readonly waiting: number }>;   // all that was acknowledged to anyone before is in it
}
export interface LockInfo { readonly path: Path; readonly mode: 'exclusive' | 'shared'; readonly owner: { readonly peer: string }; readonly token: number }   // owner: tabs of one browser are one peer
export interface Elections {   // lead: campaigns, runs body while leading, campaigns again when the term ends early, settles with body
  lead<R>(path: Path, body: (term: HeldLock) => R, options?: Wait & { leaseMs?: number; value?: string }): Promise<Awaited<R>>;   // value: what others learn of this leader, at most 4 KiB
  observe(path: Path): Disposable & { readonly leader: { readonly owner: { readonly peer: string }; readonly token: number; readonly value: string } | null; readonly known: boolean; subscribe(listener: () => void): Unsubscribe };
}
export interface Stat { readonly createdAt: number; readonly modifiedAt: number; readonly version: number; readonly childrenVersion: number; readonly ephemeralOwner: string | null; readonly children: number; readonly bytes: number }
export type TreeOp = { create: Path; data?: Uint8Array; ephemeral?: boolean; sequential?: boolean } | { set: Path; data: Uint8Array; version?: number } | { delete: Path; version?: number } | { check: Path; version: number };
export interface Tree {
  create(path: Path, data?: Uint8Array, options?: Wait & { ephemeral?: boolean; sequential?: boolean; container?: boolean; ttlMs?: number; parents?: boolean }): Promise<{ path: Path; stat: Stat }>;
  get(path: Path, options?: Wait & { consistency?: 'sequential' | 'linearizable' }): Promise<{ data: Uint8Array; stat: Stat } | null>;
  children(path: Path, options?: Wait & { consistency?: 'sequential' | 'linearizable' }): Promise<readonly string[]>;
  set(path: Path, data: Uint8Array, options?: Wait & { version?: number }): Promise<Stat>; delete(path: Path, options?: Wait & { version?: number }): Promise<void>;
  multi(ops: readonly TreeOp[], options?: Wait): Promise<readonly (Stat | null)[]>;                        // all or none
  watch(path: Path, options?: Wait & { recursive?: boolean }): AsyncIterableIterator<{ readonly type: 'created' | 'changed' | 'deleted' | 'children' | 'resync'; readonly path: Path; readonly zxid: number }>;   // resync: events were missed, read again
}
/** Work that is handed to one taker at a time, in order, at least once. */
export interface Queue {
  put(body: Uint8Array, options?: Wait & { maxAttempts?: number }): Promise<number>;                       // its number and place; tried 5 times, then put aside
  claim(options?: Wait & { visibilityMs?: number }): Promise<QueueItem | null>;                            // the first that nobody works on; this tab's alone for 30 s
  take(options?: Wait & { visibilityMs?: number }): Promise<QueueItem>;                                    // waits for one
  state(options?: Wait): Promise<{ readonly ready: number; readonly claimed: number; readonly dead: readonly number[] }>;
  revive(item: number, options?: Wait): Promise<void>; discard(item: number, options?: Wait): Promise<void>;   // what was put aside
}
export interface QueueItem { readonly item: number; readonly body: Uint8Array; readonly attempt: number; readonly token: number; ack(options?: Wait): Promise<void>; nack(options?: Wait): Promise<void> }   // NOT_HELD: its time ran out, and others may have it
// ── the space ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
export interface Status {                                             // replaced, never mutated
  readonly network: 'offline' | 'connecting' | 'online'; readonly quorum: 'none' | 'lost' | 'ok'; readonly role: 'host-tab' | 'guest-tab';
  readonly pendingChanges: number; readonly caughtUp: boolean; readonly lastSync?: { readonly bytes: number; readonly roundTrips: number; readonly ms: number };   // pending: durable on no other peer yet
  readonly root?: string;   // one hash of all that this peer holds of the space: peers with equal roots hold the same, byte for byte
  readonly peers: readonly { readonly id: string; readonly transport: 'ws' | 'webrtc' | 'relay' | 'tab'; readonly rttMs?: number }[];
}
export interface Member { readonly id: string; readonly role: 'reader' | 'writer' | 'admin' | 'voter'; readonly prefix: Path; readonly expires?: Date }
export interface StorageInfo { readonly kind: string; readonly durability: 'relaxed' | 'strict' | 'none'; readonly persisted: boolean; readonly usage: number; readonly quota: number }
export interface StorageAdapter {
  read(keys: readonly string[]): Promise<readonly (Uint8Array | null)[]>; list(prefix: string): AsyncIterable<readonly [key: string, bytes: number]>;
  write(batch: readonly (readonly [key: string, value: Uint8Array | null])[], durability: 'relaxed' | 'strict'): Promise<void>; close(): Promise<void>;
}
export type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer M } } } ? M : never;
export type OpenOptions = Wait & {       // signal gives up opening; it does not close
  space?: string;                        // id or invitation; absent: the same-origin peer's (/.well-known/foreshore), else this device's own
  grant?: string | ((request: { readonly space: string; readonly subject: string }) => Promise<string>);   // your backend signs the device's key; asked again before it expires
  peers?: readonly string[];             // 'wss://host' or multiaddr
  relays?: readonly string[];            // multiaddr that ends in /p2p/ID: other browsers reach this one through it; a peer behind the page that relays is one by itself
  replicate?: readonly Path[];           // prefixes kept here whole, for offline; everything else comes when opened. ['/']: all one may read
  tabs?: 'shared' | 'isolated'; durability?: 'relaxed' | 'strict'; wasm?: string | URL | Uint8Array | Response | Promise<Response> | WasmModule;
} & ({ engine?: 'worker'; storage?: 'indexeddb' | 'memory'; worker?: () => { postMessage(message: unknown): void; terminate(): void } }   // worker: for strict CSP and bundlers
  | { engine: 'inline'; storage?: 'indexeddb' | 'memory' | StorageAdapter });
export interface SpaceEvents { status: Status; error: ForeshoreError; storage: StorageInfo; members: readonly Member[] }
export interface Space extends AsyncDisposable {
  readonly id: string; readonly me: Author & Member; readonly status: Status; readonly closed: AbortSignal; readonly locks: Locks; readonly elections: Elections; readonly tree: Tree;
  queue(path: Path): Queue;
  on<K extends keyof SpaceEvents>(type: K, listener: (event: SpaceEvents[K]) => void): Unsubscribe;
  document<T>(path: Path, template: Template<T>, options?: Wait & { wait?: 'local' | 'caught-up' }): Promise<Doc<T>>;   // 'local' (default): at once, offline too
  read<T>(path: Path, template: Template<T>, options?: Wait & { atLeast?: string }): Promise<Snapshot<T> | null>;         // once, cold; NOT_YET rather than stale
  list(prefix: Path, options?: Wait & { limit?: number; after?: Path }): Promise<{ readonly items: readonly DocInfo[]; readonly next: Path | null }>;
  collection<T>(prefix: Path, template: Template<T>, options?: Wait & { limit?: number }): Promise<Collection<T>>;
  remove(path: Path, options?: Wait): Promise<void>; replicate(prefix: Path, options?: Wait): Promise<Disposable>;
  batch(body: () => void): Commit;       // changes to several documents: one durable unit here, seen one by one elsewhere
  soft<T extends Storable<T>>(path: Path, options?: Wait & { prefix?: string }): Promise<Soft<T>>;
  presence<T extends Storable<T>>(path: Path, initial: T): Presence<T>; topic<T extends Storable<T>>(path: Path): Topic<T>;
  bookmark(): Promise<string>; reach(bookmark: string, options?: Wait): Promise<void>;                                     // session guarantees, carried to another client
  members(): Promise<readonly Member[]>; invite(options: { role: Member['role']; prefix?: Path; expires?: Date }): Promise<string>; revoke(member: string): Promise<void>;
  goOffline(): Disposable;                                             // an offline switch; cutting single peers is in foreshore/testing
  storage(): Promise<StorageInfo>; requestPersistence(): Promise<boolean>; close(): Promise<void>;
  export(options?: Wait): ReadableStream<Uint8Array>; import(source: ReadableStream<Uint8Array>, options?: Wait): Promise<void>;
}
export interface StandardSchemaV1<Input = unknown, Output = Input> { readonly '~standard': {
  readonly version: 1; readonly vendor: string; readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
} }
export type SchemaResult<Output> = { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] };
