// What each peer holds over time, as one hash, and how long differences lasted.
import type { App } from './peer.js';
import { offline, status } from './peer.js';
import { me } from './me.js';
import { Live } from './live.js';
import { scene } from './stage.js';

export interface Lane {
  readonly id: string;
  readonly name: string;
  readonly kind: 'you' | 'native' | 'page';
  /** Oldest first; `root` is null while nobody says. */
  readonly spans: { readonly from: number; readonly root: string | null }[];
}

/** How much of the past is kept, in milliseconds. */
export const PAST = 30_000;

/** A difference is spoken of when it has lasted this long: while somebody types there is always one, for a moment. */
const LASTING = 250;

/** Most lanes that are shown; of more pages, those that came first. */
const MAX_LANES = 12;

export type Verdict =
  | { readonly state: 'unknown' }
  | { readonly state: 'differ'; readonly since: number; readonly states: number }
  | { readonly state: 'equal'; readonly took: number | null; readonly after: 'edit' | 'heal' };

export const lanes = new Live<readonly Lane[]>([]);
export const verdict = new Live<Verdict>({ state: 'unknown' });

/** Begins to record. */
export function record(app: App): void {
  const known = new Map<string, Lane>();
  let since: number | null = null;
  let after: 'edit' | 'heal' = 'edit';
  let cuts = 0;
  let states = 1;
  const speak = (): void => { if (since !== null) verdict.value = { state: 'differ', since, states }; };

  const note = (id: string, name: string, kind: Lane['kind'], root: string | null, now: number): void => {
    let lane = known.get(id);
    if (!lane || lane.name !== name) {
      if (!lane && known.size >= MAX_LANES) return;
      lane = { id, name, kind, spans: lane?.spans ?? [] };
      known.set(id, lane);
    }
    const last = lane.spans[lane.spans.length - 1];
    if (!last || last.root !== root) lane.spans.push({ from: now, root });
    // The last one that began before the window is the one that it begins with.
    while (lane.spans.length > 1 && (lane.spans[1]?.from ?? now) < now - PAST) lane.spans.shift();
  };

  const look = (): void => {
    const now = performance.now();
    const own = status.value.root ?? null;
    const seen = scene.value;
    note('you', `You, ${me.name}`, 'you', own, now);
    const roots = [own];
    for (const native of seen.peers) {
      const root = native.status.spaces.find(space => space.id === app.space.id)?.root ?? null;
      note(native.status.peer, native.name, 'native', root, now);
      roots.push(root);
    }
    const here = new Set<string>();
    for (const { value, away } of app.crew.others) {
      if (here.has(value.tab)) continue;
      here.add(value.tab);
      note(value.tab, value.name, 'page', away || !value.root ? null : value.root, now);
    }
    for (const lane of known.values()) if (lane.kind === 'page' && !here.has(lane.id)) note(lane.id, lane.name, 'page', null, now);
    // A page that has been gone for a while has no lane any more.
    for (const lane of [...known.values()]) {
      if (lane.kind === 'page' && lane.spans.length === 1 && lane.spans[0]?.root === null) known.delete(lane.id);
    }
    judge(roots, now);
    lanes.value = [...known.values()];
  };

  /** This page and the native peers are seen as they are; other pages say what they hold in a while, and do not count. */
  const judge = (roots: readonly (string | null)[], now: number): void => {
    const cut = scene.value.cut.length + Number(offline.value);
    const healed = cut < cuts;
    cuts = cut;
    if (roots.length < 2 || roots.includes(null)) return;
    states = new Set(roots).size;
    if (states > 1) {
      if (since === null || healed) {
        after = healed ? 'heal' : 'edit';
        since = now;
        setTimeout(speak, LASTING);
      }
      if (verdict.value.state === 'differ') speak();
    } else if (since !== null) {
      verdict.value = { state: 'equal', took: now - since, after };
      since = null;
    } else if (verdict.value.state === 'unknown' || healed) {
      verdict.value = { state: 'equal', took: null, after: healed ? 'heal' : after };
    }
  };

  for (const source of [status, scene, offline, app.crew]) source.subscribe(look);
  look();
}

/** A colour that stands for a hash: equal hashes have equal colours, and others hardly ever look alike. */
export function colorOf(root: string, dark: boolean): string {
  const hue = (parseInt(root.slice(0, 4), 16) / 65_536) * 360;
  const shade = parseInt(root.slice(4, 5), 16) % 3;
  return dark ? `oklch(${0.62 + shade * 0.08} 0.13 ${hue.toFixed(1)})` : `oklch(${0.56 + shade * 0.09} 0.13 ${hue.toFixed(1)})`;
}
