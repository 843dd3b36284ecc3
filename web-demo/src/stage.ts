// What the peer behind this page tells over HTTP: its own figures, or, on the demo's stage, those of three native peers and
// the means to cut their links.
import { Live } from './live.js';

export interface NativeLink {
  readonly peer: string;
  readonly in_step: boolean;
  readonly rtt_ms?: number;
}

export interface NativeStatus {
  readonly peer: string;
  readonly http: string | null;
  readonly listen: readonly string[];
  readonly spaces: readonly { readonly id: string; readonly root: string }[];
  readonly peers: readonly NativeLink[];
}

export interface Native {
  readonly name: string;
  readonly port: number;
  readonly status: NativeStatus;
  /** How the group of voters stands, as this peer sees it; only told on the stage. */
  readonly group?: { readonly term: number; readonly leads: boolean; readonly led: boolean; readonly voters: number };
  /** Killed, and not back yet. */
  readonly dead?: boolean;
}

export interface Scene {
  /** Whether this page may cut and heal the links of native peers. */
  readonly controls: boolean;
  readonly peers: readonly Native[];
  readonly cut: readonly (readonly [string, string])[];
}

const NOTHING: Scene = { controls: false, peers: [], cut: [] };

/** A peer without a stage is asked this often. */
const ASK = 1000;

export const scene = new Live<Scene>(NOTHING);

/** The native peer that served this page. */
export function home(of: Scene): Native | undefined {
  return of.peers.find(native => native.port === Number(location.port || 80)) ?? of.peers[0];
}

/** Begins to look. */
export async function watchStage(): Promise<void> {
  const stage = await fetch('/demo/stage', { method: 'HEAD' }).catch(() => undefined);
  if (stage?.status === 200) {
    const events = new EventSource('/demo/stage');
    events.onmessage = ({ data }) => { scene.value = JSON.parse(String(data)) as Scene; };
    return;
  }
  const ask = async (): Promise<void> => {
    if (document.visibilityState !== 'visible') return;
    const answer = await fetch('/status').catch(() => undefined);
    if (!answer?.ok) return;
    const status = (await answer.json()) as NativeStatus;
    scene.value = { controls: false, cut: [], peers: [{ name: 'This peer', port: Number(location.port || 80), status }] };
  };
  await ask();
  setInterval(() => void ask(), ASK);
}

/** Cuts a link, or heals it. */
export async function setLink(a: string, b: string, cut: boolean): Promise<void> {
  const answer = await fetch('/demo/links', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ends: [a, b], cut }) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
}

/** Kills the voter that leads, for a while. */
export async function killLeader(): Promise<void> {
  const answer = await fetch('/demo/kill', { method: 'POST' });
  if (!answer.ok) throw new Error((await answer.text()).trim());
}

/** The native peer that leads the voters, as far as those know that are not cut off. */
export function leader(of: Scene): Native | undefined {
  // One that was deposed and has not noticed yet is of an older term.
  return of.peers.filter(native => native.group?.leads && !native.dead).sort((a, b) => (b.group?.term ?? 0) - (a.group?.term ?? 0))[0];
}

export function isCut(of: Scene, a: string, b: string): boolean {
  return of.cut.some(ends => ends.includes(a) && ends.includes(b));
}
