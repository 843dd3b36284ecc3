// The shared board: cards in columns, moved by mouse, finger or keyboard, with everybody's pointers over it.
import { between } from 'foreshore';
import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { throttle, useChanges } from '../live.js';
import type { App } from '../peer.js';
import { type Card, type Column, COLUMNS } from '../templates.js';
import { Icon } from './icons.js';
import { Panel } from './panel.js';

type Placed = Card & { readonly id: string };

/** Others see the pointer move this often. */
const POINT = 50;

/** A press that moves less than this is a click. */
const SLACK = 5;

/** Longest title, in code units. */
const MAX_TITLE = 120;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** Cards by column, in their order; a card in no known column shows in the first. */
function columns(cards: Readonly<Record<string, Card>>): Record<Column, readonly Placed[]> {
  const all = Object.entries(cards).map(([id, card]) => ({ ...card, id }));
  all.sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : a.id < b.id ? -1 : 1));
  const known = (card: Placed): string => (COLUMNS.some(column => column.id === card.column) ? card.column : COLUMNS[0].id);
  return Object.fromEntries(COLUMNS.map(({ id }) => [id, all.filter(card => known(card) === id)])) as unknown as Record<Column, readonly Placed[]>;
}

/** Puts a card at an index of a column, among the others there. */
function move(app: App, id: string, column: Column, index: number): void {
  const others = columns(app.board.value.cards)[column].filter(card => card.id !== id);
  const at = Math.max(0, Math.min(index, others.length));
  const order = key(others[at - 1]?.order ?? null, others[at]?.order ?? null);
  app.board.change(draft => {
    const card = draft.cards[id];
    // Somebody may have removed it meanwhile.
    if (card) [card.column, card.order] = [column, order];
  });
}

/** A key between two others; two cards that were put at one place at once have one key, and the place after both will do. */
function key(before: string | null, after: string | null): string {
  return before !== null && after !== null && before >= after ? between(before, null) : between(before, after);
}

interface Drag { readonly id: string; readonly dx: number; readonly dy: number; readonly column: Column; readonly index: number }

export function Board({ app }: { app: App | null }): JSX.Element {
  return (
    <Panel id="board-panel" title="A board" note={<>One document at <code>/demo/board</code>. Drag a card, or press Space on it and use the arrow keys.</>}>
      {app ? <Live app={app} /> : <div class="board">{COLUMNS.map(({ id, title }) => <div class="column" key={id}><h3>{title}</h3></div>)}</div>}
    </Panel>
  );
}

function Live({ app }: { app: App }): JSX.Element {
  useChanges(app.board);
  useChanges(app.pointers);
  const { cards } = app.board.value;
  const pointers = app.pointers.others;
  const [drag, setDrag] = useState<Drag | null>(null);
  const [held, setHeld] = useState('');
  const [editing, setEditing] = useState('');
  const [said, setSaid] = useState('');
  const board = useRef<HTMLDivElement>(null);
  const placed = columns(cards);
  useGlide(board, cards, drag !== null);

  const point = useMemo(() => {
    let at = { x: -1, y: -1 };
    const tell = throttle(POINT, () => app.pointers.set(at));
    return (event: PointerEvent | null) => {
      const box = board.current?.getBoundingClientRect();
      at = event && box ? { x: round((event.clientX - box.left) / box.width), y: round((event.clientY - box.top) / box.height) } : { x: -1, y: -1 };
      tell();
    };
  }, [app]);
  const touch = (card: string): void => { if (app.pointers.mine.card !== card) app.pointers.set({ card }); };

  // A card that goes to another column is another element there: what had the focus gets it again before the next key comes.
  const wanted = useRef('');
  const focus = (id: string): void => board.current?.querySelector<HTMLElement>(`[data-card="${CSS.escape(id)}"]`)?.focus();
  useLayoutEffect(() => {
    if (!wanted.current) return;
    focus(wanted.current);
    wanted.current = '';
  });

  /** Where a card is now. */
  const find = (id: string): { column: number; index: number } => {
    const column = COLUMNS.findIndex(c => placed[c.id].some(card => card.id === id));
    return { column, index: placed[COLUMNS[Math.max(column, 0)]?.id ?? 'ashore'].findIndex(card => card.id === id) };
  };

  const onKey = (event: KeyboardEvent, card: Placed): void => {
    if (event.target !== event.currentTarget || event.altKey || event.ctrlKey || event.metaKey) return;
    const { column, index } = find(card.id);
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === ' ' || (held === card.id && (event.key === 'Enter' || event.key === 'Escape'))) {
      setHeld(held === card.id ? '' : card.id);
      setSaid(held === card.id ? `${card.title} put down.` : `${card.title} picked up. Arrow keys move it, Space puts it down.`);
    } else if (event.key === 'Enter' || event.key === 'F2') setEditing(card.id);
    else if (event.key === 'Delete') remove(card);
    else if (step) {
      const [across = 0, along = 0] = step;
      const to = COLUMNS[Math.max(0, Math.min(column + across, COLUMNS.length - 1))] as (typeof COLUMNS)[number];
      if (held === card.id) {
        wanted.current = card.id;
        move(app, card.id, to.id, across === 0 ? index + along : index);
        setSaid(`${card.title}: ${to.title}.`);
      } else {
        const list = placed[to.id];
        const next = across === 0 ? list[index + along] : list[Math.min(index, list.length - 1)];
        if (next) focus(next.id);
      }
    } else return;
    event.preventDefault();
  };

  const onPress = (event: PointerEvent, card: Placed): void => {
    const target = event.target as HTMLElement;
    // A finger scrolls the page, except by the grip.
    if (event.button !== 0 || target.closest('button, input') || (event.pointerType !== 'mouse' && !target.closest('.grip'))) return;
    const element = event.currentTarget as HTMLElement;
    const from = { x: event.clientX, y: event.clientY };
    const pointer = event.pointerId;
    let moving: Drag | null = null;
    element.setPointerCapture(pointer);
    const onMove = (moved: PointerEvent): void => {
      if (moved.pointerId !== pointer) return;
      const [dx, dy] = [moved.clientX - from.x, moved.clientY - from.y];
      if (!moving && Math.hypot(dx, dy) < SLACK) return;
      moving = { id: card.id, dx, dy, ...placeAt(board.current, moved, card.id) };
      touch(card.id);
      setDrag(moving);
    };
    const end = (ended: PointerEvent): void => {
      element.removeEventListener('pointermove', onMove);
      element.removeEventListener('pointerup', end);
      element.removeEventListener('pointercancel', end);
      if (moving && ended.type === 'pointerup') move(app, card.id, moving.column, moving.index);
      touch('');
      setDrag(null);
    };
    element.addEventListener('pointermove', onMove);
    element.addEventListener('pointerup', end);
    element.addEventListener('pointercancel', end);
  };

  const add = (column: Column): void => {
    const id = Math.random().toString(36).slice(2, 12);
    const last = placed[column][placed[column].length - 1];
    app.board.change(draft => { draft.cards[id] = { title: 'Something new', column, order: between(last?.order ?? null, null) }; });
    setEditing(id);
  };

  const rename = (id: string, title: string, byKey: boolean): void => {
    setEditing('');
    if (byKey) wanted.current = id;
    const next = title.trim().slice(0, MAX_TITLE);
    if (next && cards[id] && cards[id].title !== next) app.board.change(draft => { const card = draft.cards[id]; if (card) card.title = next; });
  };

  const remove = (card: Placed): void => {
    app.board.change(draft => { delete draft.cards[card.id]; });
    setSaid(`${card.title} removed.`);
  };

  return (
    <div class={drag ? 'board dragging' : 'board'} ref={board} onPointerMove={event => point(event)} onPointerLeave={() => point(null)}>
      {COLUMNS.map(({ id, title }) => (
        <div class={drag?.column === id ? 'column over' : 'column'} key={id} data-column={id}>
          <h3>{title}<span class="count">{placed[id].length}</span></h3>
          <ul>
            {placed[id].map(card => (
              <CardView
                key={card.id} card={card} drag={drag?.id === card.id ? drag : null} held={held === card.id} editing={editing === card.id}
                by={pointers.find(({ value }) => value.card === card.id)?.value}
                onKey={event => onKey(event, card)} onPress={event => onPress(event, card)} onEdit={() => setEditing(card.id)}
                onTitle={(title, byKey) => rename(card.id, title, byKey)} onRemove={() => remove(card)}
                onFocus={() => touch(card.id)} onBlur={() => { touch(''); if (held === card.id && !wanted.current) setHeld(''); }}
              />
            ))}
          </ul>
          <button type="button" class="add" onClick={() => add(id)}><Icon name="plus" size={16} />Add a card</button>
        </div>
      ))}
      <div class="pointers" aria-hidden="true">
        {pointers.filter(({ value, away }) => value.x >= 0 && !away).map(({ value }) => (
          <span key={value.tab} class="pointer" style={{ '--who': value.color, left: `${value.x * 100}%`, top: `${value.y * 100}%` }}>
            <svg width="16" height="18" viewBox="0 0 16 18"><path d="M1 1l13.500 9-6 1L5 16.500Z" /></svg>
            <b>{value.name}</b>
          </span>
        ))}
      </div>
      <p class="hidden" role="status">{said}</p>
    </div>
  );
}

interface CardProps {
  readonly card: Placed;
  readonly drag: Drag | null;
  readonly held: boolean;
  readonly editing: boolean;
  readonly by: { readonly name: string; readonly color: string } | undefined;
  readonly onKey: (event: KeyboardEvent) => void;
  readonly onPress: (event: PointerEvent) => void;
  readonly onEdit: () => void;
  readonly onTitle: (title: string, byKey: boolean) => void;
  readonly onRemove: () => void;
  readonly onFocus: () => void;
  readonly onBlur: () => void;
}

function CardView({ card, drag, held, editing, by, onKey, onPress, onEdit, onTitle, onRemove, onFocus, onBlur }: CardProps): JSX.Element {
  const style = { ...(drag ? { transform: `translate(${drag.dx}px, ${drag.dy}px) rotate(1.5deg)` } : {}), ...(by ? { '--who': by.color } : {}) };
  return (
    <li
      class={`card${drag ? ' dragged' : ''}${held ? ' held' : ''}${by ? ' theirs' : ''}`} style={style} data-card={card.id} tabIndex={0}
      aria-label={`${card.title}${held ? ', picked up' : ''}${by ? `, ${by.name} is here` : ''}`} aria-roledescription="card"
      onKeyDown={onKey} onPointerDown={onPress} onDblClick={onEdit} onFocus={onFocus} onBlur={onBlur}
    >
      <span class="grip" aria-hidden="true" />
      {editing ? <Title title={card.title} onDone={onTitle} /> : <span class="title">{card.title}</span>}
      {!editing && <button type="button" class="remove" tabIndex={-1} onClick={onRemove} aria-label={`Remove ${card.title}`}><Icon name="trash" size={15} /></button>}
      {by && <b class="who" aria-hidden="true">{by.name}</b>}
    </li>
  );
}

function Title({ title, onDone }: { title: string; onDone: (title: string, byKey: boolean) => void }): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useEffect(() => input.current?.select(), []);
  const end = (next: string | undefined, byKey: boolean): void => {
    // An input that goes away loses the focus, too.
    if (done.current) return;
    done.current = true;
    onDone(next ?? title, byKey);
  };
  const onKey = (event: KeyboardEvent): void => {
    event.stopPropagation();
    if (event.key === 'Enter') end(input.current?.value, true);
    if (event.key === 'Escape') end(title, true);
  };
  return <input ref={input} class="title" aria-label="Title" defaultValue={title} maxLength={MAX_TITLE} onKeyDown={onKey} onBlur={() => end(input.current?.value, false)} />;
}

/** The column and index under a pointer. */
function placeAt(board: HTMLElement | null, event: PointerEvent, dragged: string): { column: Column; index: number } {
  const found = [...(board?.querySelectorAll<HTMLElement>('[data-column]') ?? [])];
  const inside = (box: DOMRect): boolean => event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  const away = (box: DOMRect): number => Math.hypot(event.clientX - (box.left + box.width / 2), event.clientY - (box.top + box.height / 2));
  const boxes = found.map(element => ({ element, box: element.getBoundingClientRect() }));
  const over = boxes.find(({ box }) => inside(box)) ?? boxes.sort((a, b) => away(a.box) - away(b.box))[0];
  const cards = [...(over?.element.querySelectorAll<HTMLElement>('[data-card]') ?? [])].filter(card => card.dataset.card !== dragged);
  const index = cards.filter(card => { const box = card.getBoundingClientRect(); return event.clientY > box.top + box.height / 2; }).length;
  return { column: (over?.element.dataset.column ?? COLUMNS[0].id) as Column, index };
}

/** Cards glide to their new places instead of jumping there. */
function useGlide(board: { readonly current: HTMLElement | null }, cards: unknown, dragging: boolean): void {
  const before = useRef(new Map<string, DOMRect>());
  useLayoutEffect(() => {
    const now = new Map<string, DOMRect>();
    const frame = board.current?.getBoundingClientRect();
    for (const element of board.current?.querySelectorAll<HTMLElement>('[data-card]') ?? []) {
      const id = element.dataset.card ?? '';
      const at = element.getBoundingClientRect();
      const box = new DOMRect(at.x - (frame?.x ?? 0), at.y - (frame?.y ?? 0), at.width, at.height);
      const old = before.current.get(id);
      const [dx, dy] = [(old?.x ?? box.x) - box.x, (old?.y ?? box.y) - box.y];
      if (old && (dx || dy) && !dragging && !calm.matches) {
        element.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: 'none' }], { duration: 240, easing: 'cubic-bezier(.2, .8, .2, 1)' });
      }
      now.set(id, box);
    }
    before.current = now;
  }, [cards, dragging]);
}

function round(part: number): number {
  return Math.round(part * 1000) / 1000;
}
