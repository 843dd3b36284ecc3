// The way to an engine: requests and events, wherever it runs.
import { ForeshoreError, fromEngine } from './errors.js';
import type { Code, OpenOptions, Path, Status, StorageAdapter } from './types.js';
import type { Json } from './values.js';

export interface Request { do: string; [field: string]: unknown }
export interface EngineEvent { event: string; [field: string]: Json }

/** An engine: one peer, its store and its network. */
export interface Engine {
  readonly me: { readonly peer: string; readonly device: string };
  /** Whether it runs here, or in another tab. */
  readonly role: Status['role'];
  call(request: Request): Promise<Json>;
  /** Stores what is under way and ends it. */
  close(): Promise<void>;
}

export interface EngineOptions {
  storage: 'indexeddb' | 'memory' | StorageAdapter;
  database: string;
  wasm?: OpenOptions['wasm'];
  /** Where to be reached by other engines of this very context; for tests. */
  listen?: string;
  /** A `BroadcastChannel` on which it says itself which edits it has made, before they are stored: see `Tabs`. */
  made?: string;
  /** Whether it votes on strong state, without a store; for tests. */
  votes?: boolean;
}

/** An error as it crosses to another context. */
export interface WireError { code: Code; message: string; hint: string; retryable: boolean; missing?: readonly Path[] | undefined }

export type WireAnswer = { ok: Json } | { error: WireError };

/** What becomes of a call, in a form that can be posted. */
export async function answerOf(call: () => Promise<Json>): Promise<WireAnswer> {
  try {
    return { ok: await call() };
  } catch (reason) {
    const { code, message, hint, retryable, missing } = fromEngine(reason);
    return { error: { code, message, hint, retryable, missing } };
  }
}

export function errorOf({ code, message, ...more }: WireError): ForeshoreError {
  return ForeshoreError.make(code, message, more);
}
