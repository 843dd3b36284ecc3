// A large value in pieces, so that whoever takes it in is held up by none of them.
//
// The engine's side walks the value and packs what is small as it is; what is too large for one piece is opened, filled by
// the following pieces and closed. The page's side builds nodes and their snapshots as pieces come: one piece is one task.
import { decode, type Json, type Node, snapshot } from './values.js';

/** A piece holds about this many characters of JSON: some milliseconds' work on a slow phone. */
export const PIECE = 32 * 1024;

/** One step of building. Keys and elements are the engine's tagged JSON. */
type Step =
  | ['open', string | null, 'map' | 'list' | 'text']
  | ['entries', [string, Json][]] | ['items', Json[]] | ['text', string]
  | ['close'];

type Holder = readonly Json[] | { readonly [key: string]: Json };

/** About how long a value's JSON is. */
function weigh(json: Json, known: Map<Holder, number>): number {
  if (typeof json === 'string') return json.length + 2;
  if (json === null || typeof json !== 'object') return 8;
  let weight = 2;
  if (Array.isArray(json)) for (const item of json as readonly Json[]) weight += weigh(item, known) + 1;
  else for (const [key, item] of Object.entries(json as { readonly [key: string]: Json })) weight += key.length + 4 + weigh(item, known);
  known.set(json as Holder, weight);
  return weight;
}

/** The pieces of a value, as JSON text each. */
export function* pieces(value: Json): Generator<string, void, undefined> {
  const weights = new Map<Holder, number>();
  weigh(value, weights);
  let steps: Step[] = [];
  let room = PIECE;
  const full = (): string => {
    const piece = JSON.stringify(steps);
    steps = [];
    room = PIECE;
    return piece;
  };
  const weight = (json: Json): number => (json !== null && typeof json === 'object' ? (weights.get(json) as number) : weigh(json, weights));

  function* walk(key: string | null, json: Json): Generator<string, void, undefined> {
    const size = weight(json);
    const members = json !== null && typeof json === 'object' && !Array.isArray(json) ? Object.entries(json as { readonly [key: string]: Json }) : undefined;
    const [lonely] = members?.length === 1 ? members : [];
    const text = lonely?.[0] === '$text' ? String(lonely[1]) : undefined;
    const whole = size <= PIECE || json === null || typeof json !== 'object' || (lonely?.[0].startsWith('$') && !lonely[0].startsWith('$$') && text === undefined);
    if (whole) {
      const last = steps[steps.length - 1];
      if (key === null) {
        if (last?.[0] === 'items') last[1].push(json);
        else steps.push(['items', [json]]);
      } else if (last?.[0] === 'entries') last[1].push([key, json]);
      else steps.push(['entries', [[key, json]]]);
      if ((room -= size + (key?.length ?? 0)) <= 0) yield full();
      return;
    }
    steps.push(['open', key, text !== undefined ? 'text' : members ? 'map' : 'list']);
    if (text !== undefined) {
      for (let at = 0; at < text.length; at += PIECE) {
        steps.push(['text', text.slice(at, at + PIECE)]);
        yield full();
      }
    } else if (members) {
      // A lonely key's dollar is doubled, so that it is not taken for a tag.
      for (const [name, child] of members) yield* walk(name === lonely?.[0] && name.startsWith('$$') ? name.slice(1) : name, child);
    } else for (const child of json as readonly Json[]) yield* walk(null, child);
    steps.push(['close']);
  }

  yield* walk(null, value);
  if (steps.length > 0) yield full();
}

type Open = { readonly key: string | null } & (
  | { readonly kind: 'map'; readonly entries: Map<string, Node>; readonly plain: Record<string, unknown>; last: string; sorted: boolean }
  | { readonly kind: 'list'; readonly items: Node[]; readonly plain: unknown[] }
  | { readonly kind: 'text'; value: string });

/** Builds a value of its pieces. */
export class Builder {
  readonly #open: Open[] = [];
  #root: Node | undefined;

  take(piece: string): void {
    for (const step of JSON.parse(piece) as Step[]) {
      switch (step[0]) {
        case 'open': this.#open.push(begin(step[1], step[2])); break;
        case 'entries': for (const [key, json] of step[1]) this.#put(key, decode(json)); break;
        case 'items': for (const json of step[1]) this.#put(null, decode(json)); break;
        case 'text': {
          const here = this.#here();
          if (here.kind === 'text') here.value += step[1];
          break;
        }
        default: {
          const done = this.#open.pop();
          if (done) this.#put(done.key, end(done));
        }
      }
    }
  }

  #here(): Open {
    const here = this.#open[this.#open.length - 1];
    if (!here) throw new Error('a piece of a document stands alone');
    return here;
  }

  #put(key: string | null, node: Node): void {
    if (this.#open.length === 0) {
      this.#root = node;
      return;
    }
    const here = this.#here();
    if (here.kind === 'list') {
      here.items.push(node);
      here.plain.push(snapshot(node));
    } else if (here.kind === 'map' && key !== null) {
      here.entries.set(key, node);
      // Out of order, or not to be set plainly: the snapshot is made when it is asked for.
      here.sorted &&= key !== '__proto__' && here.last <= key;
      here.last = key;
      if (here.sorted) here.plain[key] = snapshot(node);
    }
  }

  /** The value, once every piece was taken. */
  finish(): Node {
    if (!this.#root) throw new Error('pieces of a document are missing');
    return this.#root;
  }
}

function begin(key: string | null, kind: Open['kind']): Open {
  switch (kind) {
    case 'map': return { key, kind, entries: new Map(), plain: {}, last: '', sorted: true };
    case 'list': return { key, kind, items: [], plain: [] };
    default: return { key, kind: 'text', value: '' };
  }
}

function end(done: Open): Node {
  switch (done.kind) {
    case 'map': return done.sorted ? { kind: 'map', entries: done.entries, shown: Object.freeze(done.plain) } : { kind: 'map', entries: done.entries };
    case 'list': return { kind: 'list', items: done.items, shown: Object.freeze(done.plain) };
    default: return { kind: 'text', value: done.value };
  }
}
