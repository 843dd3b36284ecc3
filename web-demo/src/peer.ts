// This page's peer: the space, its documents and its soft state.
import { ForeshoreError, openSpace, type Doc, type Presence, type Soft, type Space, type Status, type Template } from 'foreshore';
import { Live, throttle } from './live.js';
import { me } from './me.js';
import { home, isCut, scene } from './stage.js';
import { board, note } from './templates.js';

/** What a template's documents hold. */
type Held<T> = T extends Template<infer V> ? V : never;

/** What a page says of itself to the others. */
export type Crew = { name: string; color: string; tab: string; root: string };

/** Where somebody points on the board, in parts of its size, and which card is theirs at the moment. */
export type Pointer = { name: string; color: string; tab: string; x: number; y: number; card: string };

/** Left on the sand: gone with its peer's lease. */
export type Mark = { name: string; color: string; shape: string };

export type Caret = { name: string; color?: string; at: string };

/** An endpoint as `foreshore services` registers it. */
export type Offer = { endpoint: string; metadata?: Record<string, string> };

export interface App {
  readonly space: Space;
  readonly note: Doc<Held<typeof note>>;
  readonly board: Doc<Held<typeof board>>;
  readonly carets: Presence<Caret>;
  readonly pointers: Presence<Pointer>;
  readonly crew: Presence<Crew>;
  readonly marks: Soft<Mark>;
  readonly services: Soft<Offer>;
}

interface Door { space: string; peers: string[]; grant?: string }

const SPACE = 'foreshore-demo-space';

/** Other pages learn what this one holds by soft state, this often at most. */
const TELL = 200;

export const status = new Live<Status>({ network: 'connecting', quorum: 'none', role: 'host-tab', pendingChanges: 0, caughtUp: false, peers: [] });

/** What went wrong last, for people. */
export const trouble = new Live<string>('');

/** Whether the page was taken offline by its switch. */
export const offline = new Live(false);

async function ask(device?: string): Promise<Door> {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ device }) };
  const answer = await fetch('/.well-known/foreshore', device === undefined ? undefined : post);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return (await answer.json()) as Door;
}

/** A writer's invitation for whoever opens this page elsewhere; only given on the machine itself. */
export async function invitation(): Promise<string> {
  // The peer wants to know for whom; it is for whoever holds it.
  const { grant } = await ask('0'.repeat(64));
  if (grant === undefined) throw new Error('the peer behind this page gives no invitations');
  return grant;
}

/** The invitation that came with the page's address, if one did; it is a secret and does not stay there. */
function carried(): string | undefined {
  const found = /^#join=(fsi1[a-z0-9]+)$/.exec(location.hash)?.[1];
  if (found) history.replaceState(null, '', location.pathname);
  return found;
}

/**
 * Opens the space of the peer behind this page. The peer is asked each time, by name: a demo that was started anew has a new
 * space, whatever this browser remembers of the one before.
 */
async function enter(): Promise<Space> {
  const brought = carried();
  const door = await ask().catch(() => undefined);
  const known = localStorage.getItem(SPACE);
  const space = door?.space ?? known;
  if (!space) throw new Error('The peer behind this page does not answer, and this browser has not been here before.');
  localStorage.setItem(SPACE, space);
  const grant = async ({ subject }: { subject: string }): Promise<string> => brought ?? (await ask(subject)).grant ?? '';
  return openSpace({ space, grant, peers: door?.peers ?? [], replicate: ['/'] });
}

export async function open(): Promise<App> {
  const space = await enter();
  const told = (): void => { status.value = space.status; };
  space.on('status', told);
  space.on('error', error => { trouble.value = explain(error); });
  told();
  const tab = me.tab;
  const [noteDoc, boardDoc, marks, services] = await Promise.all([
    space.document('/demo/note', note), space.document('/demo/board', board),
    space.soft<Mark>('/demo/marks'), space.soft<Offer>('/services'),
  ]);
  const app: App = {
    space, marks, services, note: noteDoc, board: boardDoc,
    carets: space.presence<Caret>('/demo/note', { name: me.name, color: me.color, at: '' }),
    pointers: space.presence<Pointer>('/demo/board', { name: me.name, color: me.color, tab, x: -1, y: -1, card: '' }),
    crew: space.presence<Crew>('/demo/crew', { name: me.name, color: me.color, tab, root: '' }),
  };
  const tell = throttle(TELL, () => {
    const root = status.value.root ?? '';
    if (root !== app.crew.mine.root) app.crew.set({ root });
  });
  status.subscribe(tell);
  tell();
  dialWhenHealed(space.me.peer);
  return app;
}

/** A link that was cut at the other end is dialled again in a while; one that is seen to heal need not wait for that. */
function dialWhenHealed(mine: string): void {
  let cut = false;
  scene.subscribe(() => {
    const native = home(scene.value);
    const before = cut;
    cut = native !== undefined && isCut(scene.value, mine, native.status.peer);
    // What a browser says when its network is back.
    if (before && !cut) dispatchEvent(new Event('online'));
  });
}

let switched: Disposable | undefined;

/** The offline switch. */
export function setOffline(space: Space, wanted: boolean): void {
  if (wanted === offline.value) return;
  if (wanted) switched = space.goOffline();
  else switched?.[Symbol.dispose]();
  offline.value = wanted;
}

/** An error for people. */
export function explain(error: unknown): string {
  if (ForeshoreError.is(error)) return error.hint ? `${error.message}: ${error.hint}` : error.message;
  return error instanceof Error ? error.message : String(error);
}
