// Errors: a code to act on, a hint to show, and whether trying again can help.
import type { Code, Path } from './types.js';

/** Marks errors of any copy of the package on a page, so that two copies understand each other. */
const MARK = Symbol.for('foreshore.error');

/** Every error of this package. With code ABORTED, `name` is 'AbortError' and `cause` the signal's reason. */
export class ForeshoreError extends Error {
  readonly code: Code;
  readonly retryable: boolean;
  readonly hint: string;
  readonly path?: Path;
  readonly missing?: readonly Path[];

  private constructor(code: Code, message: string, more: Details) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = code === 'ABORTED' ? 'AbortError' : 'ForeshoreError';
    this.code = code;
    this.hint = more.hint ?? '';
    this.retryable = more.retryable ?? false;
    if (more.path) this.path = more.path;
    if (more.missing?.length) this.missing = more.missing;
    Object.defineProperty(this, MARK, { value: true });
  }

  /** Whether a value is an error of this package, of this copy of it or another. */
  static is(value: unknown, code?: Code): value is ForeshoreError {
    const found = typeof value === 'object' && value !== null && (value as { [MARK]?: boolean })[MARK] === true;
    return found && (code === undefined || (value as ForeshoreError).code === code);
  }

  /** @internal */
  static make(code: Code, message: string, more: Details = {}): ForeshoreError {
    return new ForeshoreError(code, message, more);
  }
}

/** @internal */
export interface Details { hint?: string | undefined; retryable?: boolean | undefined; cause?: unknown; path?: Path | undefined; missing?: readonly Path[] | undefined }

/** What the engine says went wrong. */
export function fromEngine(reason: unknown, path?: Path): ForeshoreError {
  if (ForeshoreError.is(reason)) return reason;
  try {
    const said = JSON.parse(String(reason)) as { code: Code; message: string; hint: string; retryable: boolean; missing: Path[] };
    return ForeshoreError.make(said.code, said.message, { hint: said.hint, retryable: said.retryable, missing: said.missing, path });
  } catch {
    const message = reason instanceof Error ? reason.message : String(reason);
    return ForeshoreError.make('CRASHED', `the engine stopped: ${message}`, { hint: 'open the space again', retryable: true, cause: reason });
  }
}

/** An argument that is not what it should be. */
export function invalid(message: string, path?: Path): ForeshoreError {
  return ForeshoreError.make('INVALID', message, { path });
}

export function aborted(signal: AbortSignal): ForeshoreError {
  const timeout = signal.reason instanceof Error && signal.reason.name === 'TimeoutError';
  if (timeout) return ForeshoreError.make('TIMEOUT', 'it took too long', { cause: signal.reason, retryable: true });
  return ForeshoreError.make('ABORTED', 'given up', { cause: signal.reason });
}

/** The promise's value, or a rejection as soon as the signal says so. What was begun goes on. */
export function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(aborted(signal));
  }
  return new Promise((resolve, reject) => {
    const give = () => reject(aborted(signal));
    signal.addEventListener('abort', give, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', give));
  });
}
