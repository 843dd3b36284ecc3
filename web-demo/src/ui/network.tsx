// Who is linked to whom, with round-trip times. A click cuts a link, or heals it.
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { type Source, useChanges, useLive } from '../live.js';
import { colorOf, lanes } from '../lanes.js';
import { me } from '../me.js';
import { type App, explain, offline, setOffline, status, trouble } from '../peer.js';
import { home, isCut, leader, scene, setLink, type Scene } from '../stage.js';
import { dark } from './header.js';
import { Icon } from './icons.js';
import { Panel } from './panel.js';

interface Node { readonly id: string; readonly name: string; readonly kind: 'you' | 'native' | 'page'; readonly x: number; readonly y: number; readonly root: string | null; readonly mark?: 'leads' | 'alone' | 'dead'; readonly term?: number }
interface Edge { readonly a: Node; readonly b: Node; readonly state: 'whole' | 'behind' | 'cut' | 'gone'; readonly rtt: number | undefined }

/** A picture that is higher than wide is turned. */
const small = matchMedia('(max-width: 640px)');
const narrow: Source<boolean> = {
  get value() { return small.matches; },
  subscribe: listener => {
    small.addEventListener('change', listener);
    return () => small.removeEventListener('change', listener);
  },
};

/** Most pages that are drawn around one native peer. */
const AROUND = 5;

export function Network({ app }: { app: App | null }): JSX.Element {
  const seen = useLive(scene);
  const native = seen.peers.length > 1;
  const note = seen.controls ? 'A click on a line cuts it or heals it; a click on a native peer cuts it off.' : native ? 'Links are cut and healed on the machine that runs the demo.' : 'This page, the peer that serves it, and who else is linked to that.';
  return (
    <Panel id="network-panel" title="The peers" note={note} tools={<Legend />}>
      <div class="graph" role="group" aria-label="Peers and their links">{app && <Graph app={app} />}</div>
    </Panel>
  );
}

function Legend(): JSX.Element {
  return <p class="legend" aria-hidden="true"><i class="whole" />in step<i class="behind" />catching up<i class="cut" />cut</p>;
}

function Graph({ app }: { app: App }): JSX.Element {
  const seen = useLive(scene);
  const off = useLive(offline);
  const isDark = useLive(dark);
  const recorded = useLive(lanes);
  const own = useLive(status);
  useChanges(app.crew);
  const crew = app.crew.others;
  const [busy, setBusy] = useState('');
  const upright = useLive(narrow);
  const homes = useRef(new Map<string, string>());
  const mine = app.space.me.peer;
  const called = useRef(new Map<string, string>());
  const names = new Map<string, string>();
  for (const { value, owner } of crew) {
    if (value.tab !== me.tab) names.set(owner.peer, owner.peer === mine ? me.name : [names.get(owner.peer), value.name].filter(Boolean).join(', '));
  }
  // Who cannot be heard is still called what it was.
  for (const [peer, name] of names) called.current.set(peer, name);
  const root = (id: string, tab?: string): string | null => {
    const lane = recorded.find(lane => lane.id === id || lane.id === tab);
    return lane?.spans[lane.spans.length - 1]?.root ?? null;
  };
  const { nodes, edges } = draw(seen, mine, names, called.current, homes.current, peer => (peer === mine ? root('you') : root(peer, crew.find(c => c.owner.peer === peer)?.value.tab)), off, upright, own.peers, own.quorum === 'lost');

  const act = async (ends: string, links: readonly (readonly [string, string, boolean])[]): Promise<void> => {
    setBusy(ends);
    try {
      for (const [a, b, cut] of links) await setLink(a, b, cut);
    } catch (error) {
      trouble.value = explain(error);
    } finally {
      setBusy('');
    }
  };
  const onEdge = ({ a, b, state }: Edge): void => {
    if (state === 'gone' || !seen.controls) return setOffline(app.space, !off);
    void act(`${a.id} ${b.id}`, [[a.id, b.id, state !== 'cut']]);
  };
  const isolate = (node: Node): void => {
    const others = seen.peers.filter(native => native.status.peer !== node.id).map(native => native.status.peer);
    const whole = others.some(other => !isCut(seen, node.id, other));
    void act(node.id, others.map(other => [node.id, other, whole] as const));
  };
  // That another page went away is not this page's to heal.
  const mayAct = (edge: Edge): boolean => edge.b.id === mine || (seen.controls && edge.state !== 'gone');

  return (
    <>
      <svg class="lines" aria-hidden="true">
        {edges.map(edge => (
          <line key={`${edge.a.id} ${edge.b.id}`} class={edge.state} x1={`${edge.a.x}%`} y1={`${edge.a.y}%`} x2={`${edge.b.x}%`} y2={`${edge.b.y}%`} />
        ))}
        {edges.filter(mayAct).map(edge => (
          <line key={`hit ${edge.a.id} ${edge.b.id}`} class="hit" x1={`${edge.a.x}%`} y1={`${edge.a.y}%`} x2={`${edge.b.x}%`} y2={`${edge.b.y}%`} onClick={() => onEdge(edge)} />
        ))}
      </svg>
      {edges.map(edge => {
        const { a, b, state, rtt } = edge;
        // The names of pages are longer than those of native peers, so the middle of what is free lies nearer to these.
        const part = b.kind === 'native' ? 0.5 : 0.45;
        const place = { left: `${a.x + (b.x - a.x) * part}%`, top: `${a.y + (b.y - a.y) * part}%` };
        const shown = state === 'cut' ? 'cut' : state === 'gone' ? 'offline' : rtt === undefined ? 'linked' : rtt < 10 ? `${rtt.toFixed(1)} ms` : `${Math.round(rtt)} ms`;
        const label = `${a.name} to ${b.name}: ${shown}. ${state === 'cut' || state === 'gone' ? 'Heal' : 'Cut'}`;
        const key = `${a.id} ${b.id}`;
        return mayAct(edge)
          ? <button type="button" key={key} class={`edge ${state}`} style={place} aria-label={label} aria-pressed={state === 'cut' || state === 'gone'} disabled={busy !== ''} onClick={() => onEdge(edge)} data-edge={`${a.name}|${b.name}`}>{(state === 'cut' || state === 'gone') && <Icon name="scissors" size={13} />}{shown}</button>
          : <span key={key} class={`edge still ${state}`} style={place}>{shown}</span>;
      })}
      {nodes.map(node => {
        const mark = node.mark === 'leads' ? `leads in term ${node.term}` : node.mark === 'alone' ? 'no majority' : node.mark === 'dead' ? 'dead' : '';
        const inside = <><i class="state" style={{ background: node.root ? colorOf(node.root, isDark) : 'transparent' }} /><span>{node.name}</span>{mark && <em class="says" title={mark}>{node.mark === 'leads' ? `T${node.term}` : '!'}<span class="hidden">, {mark}</span></em>}</>;
        const place = { left: `${node.x}%`, top: `${node.y}%` };
        return node.kind === 'native' && seen.controls
          ? <button type="button" key={node.id} class={`node native ${node.mark ?? ''}`} style={place} disabled={busy !== ''} onClick={() => isolate(node)} aria-label={`Native peer ${node.name}. Cut it off, or heal its links`} data-node={node.name}>{inside}</button>
          : <span key={node.id} class={`node ${node.kind} ${node.mark ?? ''}`} style={place}>{inside}</span>;
      })}
    </>
  );
}

type Spot = readonly [number, number];

/** Native peers lie in the middle, the first one at the left. */
function spotOfNative(i: number, count: number): Spot {
  const three: readonly Spot[] = [[40, 50], [62, 20], [62, 80]];
  if (count === 3) return three[i] as Spot;
  if (count === 1) return [50, 50];
  const angle = Math.PI + (i / count) * 2 * Math.PI;
  return [50 + 18 * Math.cos(angle), 50 + 28 * Math.sin(angle)];
}

/** Pages lie outside: those of the first of three at the left edge, those of the others at the right one. */
function spotOfPage(native: number, count: number, i: number, pages: number): Spot {
  const along = (from: number, to: number): number => from + ((i + 0.5) / pages) * (to - from);
  // A page alone does not lie on one line with its peer: the figure between them wants room.
  if (count === 3 && pages === 1) return native === 0 ? [12, 22] : [88, native === 1 ? 41 : 59];
  if (count === 3) return native === 0 ? [12, along(2, 98)] : [88, native === 1 ? along(2, 46) : along(54, 98)];
  const angle = Math.PI + (count === 1 ? i / pages : native / count + (i - (pages - 1) / 2) * 0.09) * 2 * Math.PI;
  return [50 + 37 * Math.cos(angle), 50 + 40 * Math.sin(angle)];
}

/** Places everybody: native peers in the middle, pages outside of the one that they are linked to. */
function draw(seen: Scene, mine: string, here: ReadonlyMap<string, string>, names: ReadonlyMap<string, string>, homes: Map<string, string>, root: (peer: string) => string | null, off: boolean, upright: boolean, own: readonly { readonly id: string; readonly rttMs?: number }[], alone: boolean): { nodes: Node[]; edges: Edge[] } {
  const natives = new Map<string, Node>();
  const count = seen.peers.length;
  const turn = ([x, y]: Spot): { x: number; y: number } => (upright ? { x: y, y: x } : { x, y });
  const first = leader(seen);
  seen.peers.forEach((native, i) => {
    const mark = native.dead ? ('dead' as const) : native === first ? ('leads' as const) : native.group && !native.group.led ? ('alone' as const) : undefined;
    natives.set(native.status.peer, { id: native.status.peer, name: native.name, kind: 'native', root: root(native.status.peer), ...(mark && { mark }), ...(native.group && { term: native.group.term }), ...turn(spotOfNative(i, count)) });
  });
  const linked = new Map<string, { native: string; behind: boolean; rtt: number | undefined }>();
  for (const { status } of seen.peers) {
    for (const link of status.peers) {
      if (!natives.has(link.peer)) linked.set(link.peer, { native: status.peer, behind: !link.in_step, rtt: link.rtt_ms });
    }
  }
  const served = home(seen);
  if (served && !homes.has(mine)) homes.set(mine, served.status.peer);
  for (const [page, link] of linked) homes.set(page, link.native);
  for (const [a, b] of seen.cut) {
    const [native, page] = natives.has(a) ? [a, b] : [b, a];
    if (!natives.has(page) && !homes.has(page)) homes.set(page, native);
  }
  const pages = [...new Set([mine, ...here.keys(), ...linked.keys()])].filter(page => homes.has(page) && natives.has(homes.get(page) ?? ''));
  const nodes: Node[] = [...natives.values()];
  const edges: Edge[] = [];
  for (const [id, native] of natives) {
    const around = pages.filter(page => homes.get(page) === id).slice(0, AROUND);
    around.forEach((page, i) => {
      const at = turn(spotOfPage([...natives.keys()].indexOf(id), count, i, around.length));
      const node: Node = { id: page, name: page === mine ? `You, ${me.name}` : names.get(page) ?? (page.startsWith('12D3') ? `…${page.slice(-4)}` : page), kind: page === mine ? 'you' : 'page', root: root(page), ...(page === mine && alone ? { mark: 'alone' as const } : {}), ...at };
      nodes.push(node);
      const link = linked.get(page);
      const rtt = page === mine ? own.find(peer => peer.id === id)?.rttMs ?? link?.rtt : link?.rtt;
      const gone = page === mine && off;
      const state = isCut(seen, id, page) ? 'cut' : gone || !link ? 'gone' : link.behind ? 'behind' : 'whole';
      edges.push({ a: native, b: node, state, rtt });
    });
  }
  const list = [...natives.values()];
  list.forEach((a, i) => {
    for (const b of list.slice(i + 1)) {
      const link = seen.peers.find(native => native.status.peer === a.id)?.status.peers.find(link => link.peer === b.id);
      const state = isCut(seen, a.id, b.id) ? 'cut' : !link ? 'behind' : link.in_step ? 'whole' : 'behind';
      edges.push({ a, b, state, rtt: link?.rtt_ms });
    }
  });
  return { nodes, edges };
}
