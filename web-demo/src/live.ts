// A value that changes, and a hook that shows it.
import { useEffect, useReducer } from 'preact/hooks';

/** Whatever tells that something about it is another. */
export interface Subject {
  subscribe(listener: () => void): () => void;
}

/** Whatever has a current value and tells when it is another. */
export interface Source<T> extends Subject {
  readonly value: T;
}

export class Live<T> implements Source<T> {
  readonly #listeners = new Set<() => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(next: T) {
    if (Object.is(next, this.#value)) return;
    this.#value = next;
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Shows a component again whenever a subject tells so. */
export function useChanges(subject: Subject): void {
  const [, again] = useReducer<number, void>(n => n + 1, 0);
  useEffect(() => {
    // What changed between the first showing and now.
    again();
    return subject.subscribe(() => again());
  }, [subject]);
}

export function useLive<T>(source: Source<T>): T {
  useChanges(source);
  return source.value;
}

/** Calls at most once in so many milliseconds, and once more after the last call. */
export function throttle(ms: number, act: () => void): () => void {
  let waiting = false;
  let again = false;
  const run = (): void => {
    act();
    waiting = true;
    setTimeout(() => {
      waiting = false;
      if (again) {
        again = false;
        run();
      }
    }, ms);
  };
  return () => {
    if (waiting) again = true;
    else run();
  };
}
