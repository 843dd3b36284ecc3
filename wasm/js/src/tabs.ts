// One engine for all tabs of an origin: the tab that holds a Web Lock hosts it, the others ask it through a channel.
//
// A tab that closes or crashes loses its locks at once; the next in line opens the engine from storage and says so. Every tab
// then opens its documents again where it stands (`moved`). A host that does not answer is robbed of its lock; should it wake
// again, the store's epoch keeps it from writing.
//
// Which edits it has made, the engine itself says to all tabs, ahead of storing them. Were it the host that passes that on, a
// host that dies between the two would leave an edit stored whose author sends it to the next host once more.
import { answerOf, type Engine, type EngineEvent, errorOf, type Request, type WireAnswer } from './engine.js';
import { ForeshoreError } from './errors.js';
import type { Status } from './types.js';
import type { Json } from './values.js';

/** Raised with the messages below: tabs of another version have a channel of their own, and the newest one keeps the store. */
const PROTOCOL = 4;

/** A host that says nothing for this long is asked whether it lives, and after as long again is robbed. */
const SILENCE = 1500;

type Message =
  | { hello: string } | { host: string; me: Engine['me'] } | { ping: string } | { pong: string }
  | { from: string; id: number; request: Request }
  | ({ to: string; by: string; id: number } & WireAnswer) | { to: string | null; by: string; event: EngineEvent };

interface Call { request: Request; resolve: (value: Json) => void; reject: (reason: unknown) => void }

/** What a tab has open with the host. */
interface Guest { numbers: Map<number, 'doc' | 'soft' | 'undo' | 'live' | 'session'>; keys: Map<number, Set<string>> }

const MOVED = Symbol('moved');

/** Whether a call failed because the host went away under it: whoever made it knows what to do when the next one is there. */
export function hasMoved(reason: unknown): boolean {
  return typeof reason === 'object' && reason !== null && MOVED in reason;
}

/** Requests that may not be made a second time by themselves. */
const ONCE = new Set(['edit', 'ack', 'undo', 'softSet', 'softDelete', 'createSpace', 'join', 'publish', 'openSession', 'closeSession', 'strong', 'changeVoters']);

/** Requests after which the engine knows a number. */
const OPENERS = new Set(['open', 'soft', 'topic', 'window', 'keep', 'openSession']);

/** The number of what a request is about. */
function numberOf(request: Request): number | undefined {
  return (request.doc ?? request.soft ?? request.live ?? request.undo ?? request.session) as number | undefined;
}

export class Tabs implements Engine {
  readonly #id = crypto.randomUUID();
  readonly #channel: BroadcastChannel;
  /** Where tabs of every version say which is theirs, as a number. */
  readonly #versions: BroadcastChannel;
  /** Where the engine says which edits it has made. */
  readonly #made: BroadcastChannel;
  readonly #calls = new Map<number, Call>();
  readonly #guests = new Map<string, Guest>();
  readonly #owners = new Map<number, string>();
  /** What the engine is about to open for this tab. Another host knows none of the numbers that the former one knew. */
  readonly #openings = new Map<number, Promise<Json>>();
  readonly #release: (() => void)[] = [];
  readonly #closing = new AbortController();
  #next = 0;
  #host: string | null = null;
  #engine: Engine | null = null;
  #me: Engine['me'] | null = null;
  #opened: ((error?: unknown) => void) | null = null;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #asked = false;
  #starting = false;

  private constructor(private readonly name: string, private readonly start: (listen: (event: EngineEvent) => void) => Promise<Engine>, private readonly listen: (event: EngineEvent) => void) {
    this.#channel = new BroadcastChannel(`foreshore:${name}:${PROTOCOL}`);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#hear(data);
    this.#versions = new BroadcastChannel(`foreshore:${name}:version`);
    this.#versions.onmessage = ({ data }: MessageEvent<number>) => {
      if (data > PROTOCOL) this.#retire();
      else if (data < PROTOCOL) this.#versions.postMessage(PROTOCOL);
    };
    this.#versions.postMessage(PROTOCOL);
    this.#made = new BroadcastChannel(Tabs.made(name));
    this.#made.onmessage = ({ data }: MessageEvent<EngineEvent>) => this.listen(data);
  }

  /** The channel on which the engine of a database says which edits it has made. */
  static made(name: string): string {
    return `foreshore:${name}:${PROTOCOL}:made`;
  }

  /** A newer version of the package is open on this origin: it takes the store over, and this tab has to be reloaded. */
  #retire(): void {
    const outdated = ForeshoreError.make('INCOMPATIBLE', 'a newer version of this app is open in another tab', { hint: 'reload this tab' });
    const opening = this.#opened;
    this.#opened = null;
    void this.close().catch(() => {}).finally(() => (opening ? opening(outdated) : this.listen({ event: 'outdated' })));
  }

  static get possible(): boolean {
    return typeof navigator !== 'undefined' && navigator.locks !== undefined && typeof BroadcastChannel !== 'undefined';
  }

  /** Joins the tabs of a database: as its host, or as a guest of whoever is. */
  static async join(name: string, start: (listen: (event: EngineEvent) => void) => Promise<Engine>, listen: (event: EngineEvent) => void): Promise<Tabs> {
    const tabs = new Tabs(name, start, listen);
    const opened = new Promise<void>((resolve, reject) => {
      tabs.#opened = error => (error === undefined ? resolve() : reject(error));
    });
    // Others see by this lock that this tab is gone.
    void tabs.#hold(`foreshore:${name}:tab:${tabs.#id}`, {}, async () => {});
    tabs.#queue(false);
    tabs.#post({ hello: tabs.#id });
    tabs.#watch();
    try {
      await opened;
    } catch (error) {
      tabs.#leave();
      throw error;
    }
    return tabs;
  }

  /** Takes a lock and holds it until this tab leaves. */
  async #hold(lock: string, options: LockOptions, then: () => Promise<void>): Promise<void> {
    const { steal } = options;
    await navigator.locks.request(lock, steal ? { steal } : { signal: this.#closing.signal }, async () => {
      if (this.#closing.signal.aborted) return;
      const held = new Promise<void>(resolve => this.#release.push(resolve));
      await then();
      await held;
    });
  }

  /** Stands in line for hosting. */
  #queue(steal: boolean): void {
    this.#hold(`foreshore:${this.name}:host`, { steal }, () => this.#becomeHost()).catch((error: unknown) => {
      // Robbed while it hosted, or while it stood in line; or leaving.
      if (this.#closing.signal.aborted) return;
      if ((error as { name?: string } | null)?.name !== 'AbortError') return this.#opened?.(error);
      this.#stepDown();
      this.#queue(false);
    });
  }

  async #becomeHost(): Promise<void> {
    if (this.#engine) return;
    const first = this.#opened !== null;
    this.#starting = true;
    clearTimeout(this.#watchdog);
    try {
      this.#engine = await this.start(event => this.#pass(event));
    } catch (error) {
      if (first) this.#opened?.(error);
      else this.listen({ event: 'panic', message: `this tab cannot take over: ${String((error as Error).message)}` });
      throw error;
    } finally {
      this.#starting = false;
    }
    this.#me = this.#engine.me;
    this.#host = this.#id;
    clearTimeout(this.#watchdog);
    this.#post({ host: this.#id, me: this.#me });
    this.#opened?.();
    this.#opened = null;
    if (!first) this.#moved();
  }

  #stepDown(): void {
    const engine = this.#engine;
    this.#engine = null;
    this.#host = null;
    this.#guests.clear();
    this.#owners.clear();
    void engine?.close().catch(() => {});
    this.#post({ hello: this.#id });
    this.#watch();
  }

  #moved(): void {
    const asked = [...this.#calls.values()];
    this.#calls.clear();
    this.#openings.clear();
    // Whatever is open is opened again first: what else was asked is about that.
    this.listen({ event: 'moved' });
    for (const { request, resolve, reject } of asked) {
      const renewed = OPENERS.has(request.do) ? this.#openings.get(numberOf(request) as number) : undefined;
      if (ONCE.has(request.do)) reject({ [MOVED]: true });
      else (renewed ?? this.call(request)).then(resolve, reject);
    }
  }

  // ── the engine's face ──

  get me(): Engine['me'] {
    return this.#me ?? { peer: '', device: '' };
  }

  get role(): Status['role'] {
    return this.#engine ? 'host-tab' : 'guest-tab';
  }

  call(request: Request): Promise<Json> {
    if (this.#closing.signal.aborted) return Promise.reject(ForeshoreError.make('CLOSED', 'the space is closed', { hint: 'open it again' }));
    const number = numberOf(request);
    if (number === undefined) return this.#ask(request);
    if (OPENERS.has(request.do)) return this.#opening(number, this.#ask(request));
    const opening = this.#openings.get(number);
    // Whether it opened or not, the engine's answer says.
    const ask = () => this.call(request);
    return opening ? opening.then(ask, ask) : this.#ask(request);
  }

  #opening(number: number, opening: Promise<Json>): Promise<Json> {
    this.#openings.set(number, opening);
    const done = () => { if (this.#openings.get(number) === opening) this.#openings.delete(number); };
    opening.then(done, done);
    return opening;
  }

  #ask(request: Request): Promise<Json> {
    if (this.#engine) return this.#serve(this.#id, request);
    return new Promise((resolve, reject) => {
      const id = ++this.#next;
      this.#calls.set(id, { request, resolve, reject });
      if (this.#host) this.#post({ from: this.#id, id, request });
      this.#watch();
    });
  }

  async close(): Promise<void> {
    const engine = this.#engine;
    this.#engine = null;
    try {
      await engine?.close();
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    clearTimeout(this.#watchdog);
    this.#closing.abort();
    for (const release of this.#release.splice(0)) release();
    for (const call of this.#calls.values()) call.reject(ForeshoreError.make('CLOSED', 'the space is closed'));
    this.#calls.clear();
    this.#channel.close();
    this.#versions.close();
    this.#made.close();
  }

  // ── between tabs ──

  #post(message: Message): void {
    this.#channel.postMessage(message);
  }

  #hear(message: Message): void {
    if ('hello' in message) {
      if (this.#engine) this.#post({ host: this.#id, me: this.#engine.me });
    } else if ('ping' in message) {
      if (this.#engine || this.#starting) this.#post({ pong: this.#id });
    } else if ('pong' in message) this.#heard();
    else if ('host' in message) this.#follow(message.host, message.me);
    else if ('request' in message) {
      if (!this.#engine) return;
      void answerOf(() => this.#serve(message.from, message.request)).then(answer => {
        this.#post({ to: message.from, by: this.#id, id: message.id, ...answer });
      });
    } else if (message.to === this.#id || message.to === null) {
      // A host that was robbed and has not noticed yet may still talk.
      if (this.#engine || message.by !== this.#host) return;
      this.#heard();
      if ('event' in message) return this.listen(message.event);
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if ('error' in message) call?.reject(errorOf(message.error));
      else call?.resolve(message.ok);
    }
  }

  /** Another tab hosts. */
  #follow(host: string, me: Engine['me']): void {
    if (this.#engine || host === this.#host) return this.#heard();
    const first = this.#opened !== null;
    this.#host = host;
    this.#me = me;
    this.#heard();
    if (first) {
      this.#opened?.();
      this.#opened = null;
      for (const [id, { request }] of this.#calls) this.#post({ from: this.#id, id, request });
    } else this.#moved();
  }

  #heard(): void {
    this.#asked = false;
    this.#watch();
  }

  /** Watches over the host for as long as something is asked of it. */
  #watch(): void {
    clearTimeout(this.#watchdog);
    if (this.#engine || this.#starting || this.#closing.signal.aborted || (this.#calls.size === 0 && this.#host)) return;
    this.#watchdog = setTimeout(() => {
      if (this.#asked) {
        this.#asked = false;
        return this.#queue(true);
      }
      this.#asked = true;
      this.#post({ ping: this.#id });
      this.#post({ hello: this.#id });
      this.#watch();
    }, SILENCE);
  }

  // ── hosting ──

  #guest(tab: string): Guest {
    let guest = this.#guests.get(tab);
    if (!guest) {
      guest = { numbers: new Map(), keys: new Map() };
      this.#guests.set(tab, guest);
      // Granted when the tab is gone, however that came.
      if (tab !== this.#id) void navigator.locks.request(`foreshore:${this.name}:tab:${tab}`, { mode: 'shared', signal: this.#closing.signal }, () => this.#bury(tab)).catch(() => {});
    }
    return guest;
  }

  async #serve(tab: string, request: Request): Promise<Json> {
    const engine = this.#engine;
    if (!engine) throw ForeshoreError.make('CLOSED', 'the host is closing', { retryable: true });
    const guest = this.#guest(tab);
    const number = numberOf(request) as number;
    switch (request.do) {
      case 'open': this.#own(tab, guest, number, 'doc'); break;
      case 'soft': this.#own(tab, guest, number, 'soft'); break;
      case 'topic': case 'window': case 'keep': this.#own(tab, guest, number, 'live'); break;
      case 'openSession': this.#own(tab, guest, number, 'session'); break;
      case 'undoManager': guest.numbers.set(request.undo as number, 'undo'); break;
      case 'softSet': guest.keys.set(number, (guest.keys.get(number) ?? new Set()).add(request.key as string)); break;
      case 'softDelete': guest.keys.get(number)?.delete(request.key as string); break;
      case 'closeDoc': case 'softClose': case 'closeLive': case 'undoClose': case 'closeSession':
        guest.numbers.delete(number);
        guest.keys.delete(number);
        this.#owners.delete(number);
        break;
      default:
    }
    return engine.call(request);
  }

  #own(tab: string, guest: Guest, number: number, kind: 'doc' | 'soft' | 'live' | 'session'): void {
    guest.numbers.set(number, kind);
    this.#owners.set(number, tab);
  }

  /** A guest is gone: what it had open is closed, and what it showed of itself goes. */
  async #bury(tab: string): Promise<void> {
    const guest = this.#guests.get(tab);
    this.#guests.delete(tab);
    const engine = this.#engine;
    if (!guest || !engine) return;
    for (const [soft, keys] of guest.keys) for (const key of keys) await engine.call({ do: 'softDelete', soft, key }).catch(() => null);
    for (const [number, kind] of guest.numbers) {
      this.#owners.delete(number);
      await engine.call(closing(kind, number)).catch(() => null);
    }
  }

  /** Passes an event of the engine to whom it concerns. */
  #pass(event: EngineEvent): void {
    // Every tab has heard it from the engine.
    if (event.event === 'made') return;
    const number = event.doc ?? event.soft ?? event.live ?? event.session;
    if (typeof number !== 'number') {
      this.listen(event);
      // A host's end is its own; guests get another.
      if (event.event !== 'panic' && event.event !== 'closed') this.#post({ to: null, by: this.#id, event });
      return;
    }
    const owner = this.#owners.get(number);
    if (owner === this.#id) this.listen(event);
    else if (owner !== undefined) this.#post({ to: owner, by: this.#id, event });
  }
}

function closing(kind: 'doc' | 'soft' | 'undo' | 'live' | 'session', number: number): Request {
  switch (kind) {
    case 'doc': return { do: 'closeDoc', doc: number };
    case 'soft': return { do: 'softClose', soft: number };
    case 'live': return { do: 'closeLive', live: number };
    case 'session': return { do: 'closeSession', session: number };
    default: return { do: 'undoClose', undo: number };
  }
}
