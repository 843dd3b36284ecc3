// Opening a space: which one, and the way to it.
import type { Engine, EngineEvent, EngineOptions } from './engine.js';
import { abortable, ForeshoreError, invalid } from './errors.js';
import { inPlace } from './local-engine.js';
import type { Platform } from './platform.js';
import { PageSpace } from './space.js';
import { Tabs } from './tabs.js';
import type { OpenOptions, Space } from './types.js';
import { inWorker } from './worker-engine.js';

/** The store's own name for the space of the page's origin, and for one that this device made. */
const ORIGIN = 'origin';
const OWN = 'own';

const DATABASE = 'foreshore';

interface WellKnown { space: string; peers: string[]; relay?: boolean; grant?: string }

export function open(platform: Platform, options: OpenOptions = {}): Promise<Space> {
  return abortable(begin(platform, options, false), options.signal);
}

export function create(platform: Platform, options: OpenOptions = {}): Promise<Space> {
  return abortable(begin(platform, options, true), options.signal);
}

async function begin(platform: Platform, options: OpenOptions, create: boolean): Promise<PageSpace> {
  options.signal?.throwIfAborted?.();
  const storage = options.storage ?? (typeof indexedDB === 'undefined' ? 'memory' : 'indexeddb');
  if (typeof storage !== 'string' && options.engine !== 'inline') throw ForeshoreError.make('INVALID', 'a storage adapter works in this very context', { hint: "pass engine: 'inline' with it" });
  let space: PageSpace | undefined;
  const early: EngineEvent[] = [];
  const engine = await start(platform, options, storage, event => (space ? space.hear(event) : early.push(event)));
  try {
    // Two tabs that open at once decide one after the other, or they might decide differently.
    const decide = () => choose(engine, options, create);
    const found = storage === 'indexeddb' && Tabs.possible ? await navigator.locks.request(`foreshore:${DATABASE}:choice`, decide) : await decide();
    const peers = [...(options.peers ?? []), ...found.peers];
    space = new PageSpace(engine, found.id, storage, peers.length > 0 || found.dials);
    for (const peer of peers) await engine.call({ do: 'dial', address: address(peer) });
    for (const relay of [...(options.relays ?? []), ...(found.relays ?? [])]) await engine.call({ do: 'relay', address: relaying(relay) });
    await space.ready(options.replicate);
    for (const event of early) space.hear(event);
    if (storage === 'indexeddb' && typeof navigator !== 'undefined') void navigator.storage?.persist?.().catch(() => false);
    return space;
  } catch (error) {
    await engine.close().catch(() => {});
    throw error;
  }
}

/** An engine where it is asked for: in a worker unless told otherwise, and shared with other tabs. */
async function start(platform: Platform, options: OpenOptions, storage: EngineOptions['storage'], listen: (event: EngineEvent) => void): Promise<Engine> {
  const settings: EngineOptions = { storage, database: DATABASE, wasm: options.wasm };
  const own = platform.worker && typeof Worker !== 'undefined' ? platform.worker : undefined;
  const make = ('worker' in options ? options.worker : undefined) ?? own;
  const wanted = options.engine === 'worker' || ('worker' in options && options.worker !== undefined) || typeof document !== 'undefined';
  const worker = options.engine !== 'inline' && wanted ? make : undefined;
  if (options.engine === 'worker' && !worker) throw ForeshoreError.make('UNSUPPORTED', 'there are no workers here', { hint: "pass engine: 'inline'" });
  if (worker && platform.handsOver && settings.wasm === undefined) settings.wasm = (await platform.wasm()) as Uint8Array;
  const here = (hear: (event: EngineEvent) => void) => (worker ? inWorker(settings, worker, hear) : inPlace(settings, platform.wasm, hear));
  if (storage !== 'indexeddb' || !Tabs.possible) return here(listen);
  if (options.tabs === 'isolated') await alone();
  settings.made = Tabs.made(DATABASE);
  return Tabs.join(DATABASE, here, listen);
}

/** An isolated tab shares its store with nobody. */
async function alone(): Promise<void> {
  const { held } = await navigator.locks.query();
  if (held?.some(lock => lock.name === `foreshore:${DATABASE}:host`)) {
    throw ForeshoreError.make('EXISTS', 'another tab has this store open', { hint: "pass tabs: 'shared', or close the other tab", retryable: true });
  }
}

interface Chosen { id: string; peers: readonly string[]; relays?: readonly string[]; dials: boolean }

/** Which space: the one that is asked for, or the one that was here before, or the origin's, or this device's own. */
async function choose(engine: Engine, options: OpenOptions, create: boolean): Promise<Chosen> {
  const spaces = (await engine.call({ do: 'spaces' })) as unknown as { id: string; name: string }[];
  if (create) {
    const made = (await engine.call({ do: 'createSpace', name: `${OWN} ${spaces.length}` })) as { id: string };
    return { id: made.id, peers: [], dials: false };
  }
  const wanted = options.space;
  if (wanted !== undefined) {
    const here = spaces.find(space => space.id === wanted);
    if (here) return { id: here.id, peers: [], dials: true };
    if (wanted.startsWith('fs1')) {
      const grant = typeof options.grant === 'function' ? await options.grant({ space: wanted, subject: engine.me.device }) : options.grant;
      if (grant === undefined) throw ForeshoreError.make('NOT_A_MEMBER', `this device is no member of ${wanted}`, { hint: 'pass an invitation, or a grant' });
      return join(engine, grant, null);
    }
    return join(engine, wanted, null);
  }
  const remembered = spaces.find(space => space.name === ORIGIN) ?? spaces.find(space => space.name === OWN);
  if (remembered?.name === OWN) return { id: remembered.id, peers: [], dials: false };
  if (remembered) {
    // Local first: where its peers are now is found out on the way.
    void wellKnown(null).then(async said => {
      for (const peer of said?.peers ?? []) await engine.call({ do: 'dial', address: address(peer) });
      for (const relay of relaysOf(said)) await engine.call({ do: 'relay', address: relay });
    }).catch(() => {});
    return { id: remembered.id, peers: [], dials: true };
  }
  // Whoever brings a grant needs none of the peer behind the page, which gives them on its own machine only.
  const said = await wellKnown(options.grant === undefined ? engine.me.device : null);
  if (!said) {
    const made = (await engine.call({ do: 'createSpace', name: OWN })) as { id: string };
    return { id: made.id, peers: [], dials: false };
  }
  const grant = said.grant ?? (typeof options.grant === 'function' ? await options.grant({ space: said.space, subject: engine.me.device }) : options.grant);
  if (grant === undefined) throw ForeshoreError.make('NOT_A_MEMBER', `the peer behind this page gives no grant for ${said.space}`, { hint: 'pass an invitation, or a grant' });
  const joined = await join(engine, grant, ORIGIN);
  return { ...joined, peers: said.peers, relays: relaysOf(said) };
}

async function join(engine: Engine, invitation: string, name: string | null): Promise<Chosen> {
  const joined = (await engine.call({ do: 'join', invitation, name })) as { id: string };
  return { id: joined.id, peers: [], dials: true };
}

/** What the page's own origin says. Only a 404, or an answer that is not JSON, means that it has no peer. */
async function wellKnown(device: string | null): Promise<WellKnown | null> {
  if (typeof location === 'undefined' || !location.protocol.startsWith('http')) return null;
  const ask = device === null ? undefined : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ device }) };
  let response: Response;
  try {
    response = await fetch(new URL('/.well-known/foreshore', location.origin), ask);
  } catch (error) {
    throw ForeshoreError.make('TIMEOUT', 'the peer behind this page cannot be reached, and this device has not been here before', { hint: 'try again with a network', retryable: true, cause: error });
  }
  if (response.status === 404) return null;
  // A static file server knows no POST there; it has no peer either.
  if (device !== null && (response.status === 405 || response.status === 501)) return null;
  if (!response.ok) throw ForeshoreError.make('DENIED', `the peer behind this page answers ${response.status}: ${(await response.text()).trim()}`, { retryable: response.status >= 500 });
  if (!(response.headers.get('content-type') ?? '').includes('json')) return null;
  const said = (await response.json()) as Partial<WellKnown>;
  if (typeof said.space !== 'string' || !Array.isArray(said.peers)) throw ForeshoreError.make('INCOMPATIBLE', 'the peer behind this page answers what this version does not understand');
  return { space: said.space, peers: said.peers, ...(said.relay === true ? { relay: true } : {}), ...(said.grant ? { grant: said.grant } : {}) };
}

/** Where the peer behind the page relays, if it does. */
function relaysOf(said: WellKnown | null): readonly string[] {
  return said?.relay ? said.peers.filter(peer => NAMED.test(peer)).slice(0, 1) : [];
}

/** An address that says who is there. */
const NAMED = /^\/.*\/p2p\/[^/]+$/;

function relaying(relay: string): string {
  if (!NAMED.test(relay)) throw invalid(`${JSON.stringify(relay)} is not a relay: write a multiaddr that ends in /p2p/ and its id`);
  return reachable(relay);
}

/** A peer's address as the engine dials it: `wss://host:port` or a multiaddr. */
function address(peer: string): string {
  if (peer.startsWith('/')) return reachable(peer);
  let url: URL;
  try {
    url = new URL(peer);
  } catch {
    throw invalid(`${JSON.stringify(peer)} is not a peer: write wss://host or a multiaddr`);
  }
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') throw invalid(`${JSON.stringify(peer)}: peers are reached by ws:// or wss://`);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const kind = host.includes(':') ? 'ip6' : /^\d+(\.\d+){3}$/.test(host) ? 'ip4' : 'dns';
  const port = url.port || (url.protocol === 'wss:' ? '443' : '80');
  return reachable(`/${kind}/${host}/tcp/${port}${url.protocol === 'wss:' ? '/tls' : ''}/ws`);
}

function reachable(address: string): string {
  if (typeof WebSocket === 'undefined') throw ForeshoreError.make('UNSUPPORTED', 'there are no WebSockets here, and peers are reached by them', { hint: 'in Node 20 pass --experimental-websocket; Node 22 needs nothing' });
  return address;
}
