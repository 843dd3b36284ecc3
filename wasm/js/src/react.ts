'use client';
// Hooks for React, over the subscriptions that every Doc and Presence has.
import { useSyncExternalStore } from 'react';
import type { Doc, Presence, Snapshot, SoftEntry, Space, Status, Template } from './types.js';

/** A document's value, or what the template says while there is no document yet (and on a server). */
export function useDoc<T>(doc: Doc<T> | null | undefined, template: Template<T>): Snapshot<T> {
  const value = () => doc?.value ?? template.initial;
  return useSyncExternalStore(notify => doc?.subscribe(() => notify()) ?? (() => {}), value, () => template.initial);
}

/** What a space says of its network and of changes that wait; null while there is no space. */
export function useStatus(space: Space | null | undefined): Status | null {
  return useSyncExternalStore(notify => space?.on('status', () => notify()) ?? (() => {}), () => space?.status ?? null, () => null);
}

const NOBODY: readonly never[] = [];

/** Who else is at a place. */
export function usePresence<T>(presence: Presence<T> | null | undefined): readonly SoftEntry<T>[] {
  return useSyncExternalStore(notify => presence?.subscribe(notify) ?? (() => {}), () => presence?.others ?? NOBODY, () => NOBODY);
}
