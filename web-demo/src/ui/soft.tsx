// Soft state: what lives as long as its owner's lease. Marks that pages leave, and the service registry.
import type { SoftEntry } from 'foreshore';
import type { JSX } from 'preact';
import { useChanges } from '../live.js';
import { me } from '../me.js';
import type { App, Mark, Offer } from '../peer.js';
import { Icon, type IconName } from './icons.js';
import { Panel } from './panel.js';

const SHAPES = ['shell', 'star', 'feather', 'flag'] as const satisfies readonly IconName[];

/** Marks and endpoints that are shown. */
const [MARKS, OFFERS] = [18, 40];

export function Marks({ app }: { app: App | null }): JSX.Element {
  return (
    <Panel id="marks-panel" title="Left on the sand" note="Soft state: each mark lives with the lease of the peer that left it, and fades when that peer is not heard of.">
      {app ? <Sand app={app} /> : <div class="sand" />}
    </Panel>
  );
}

function Sand({ app }: { app: App }): JSX.Element {
  useChanges(app.marks);
  const entries = app.marks.entries();
  const mine = entries.find(entry => entry.key === me.tab)?.value.shape;
  const leave = (shape: string): void => {
    if (shape === mine) app.marks.delete(me.tab);
    else app.marks.set(me.tab, { name: me.name, color: me.color, shape });
  };
  return (
    <>
      <div class="choices" role="group" aria-label="Leave a mark">
        {SHAPES.map(shape => (
          <button type="button" key={shape} class="choice" aria-pressed={shape === mine} aria-label={`A ${shape}`} onClick={() => leave(shape)}><Icon name={shape} size={20} /></button>
        ))}
      </div>
      <ul class="sand" aria-label="Marks">
        {entries.length === 0 && <li class="none">The sand is smooth. Leave something.</li>}
        {entries.slice(0, MARKS).map(entry => <MarkView key={`${entry.owner.peer} ${entry.key}`} entry={entry} />)}
      </ul>
    </>
  );
}

function MarkView({ entry }: { entry: SoftEntry<Mark> }): JSX.Element {
  const { value, key } = entry;
  const shape = SHAPES.find(shape => shape === value.shape) ?? 'shell';
  return (
    <li class={entry.away ? 'mark fading' : 'mark'} style={{ '--who': value.color, ...left(entry) }} title={entry.away ? 'Not heard of: fading' : 'Its lease is being renewed'}>
      <svg class="lease" viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="24" r="21" pathLength="1" /></svg>
      <Icon name={shape} size={22} />
      <b>{key === me.tab ? 'You' : value.name}</b>
      {entry.away && <span class="hidden">, fading</span>}
    </li>
  );
}

export function Services({ app }: { app: App | null }): JSX.Element {
  return (
    <Panel id="services-panel" title="Service registry" note={<>What peers offer, under <code>/services</code>. Cut one off and its lines go within seconds.</>}>
      {app ? <Registry app={app} /> : <ul class="offers" />}
    </Panel>
  );
}

function Registry({ app }: { app: App }): JSX.Element {
  useChanges(app.services);
  const entries = app.services.entries();
  const offers = [...entries].filter(entry => typeof entry.value?.endpoint === 'string').sort((a, b) => (service(a) < service(b) ? -1 : service(a) > service(b) ? 1 : label(a) < label(b) ? -1 : 1));
  return (
    <ul class="offers" tabIndex={0} aria-label="Services">
      {offers.length === 0 && <li class="none">Nobody offers anything. Try <code>foreshore services register</code>.</li>}
      {offers.slice(0, OFFERS).map(entry => (
        <li key={`${entry.owner.peer} ${entry.key}`} class={entry.away ? 'fading' : ''} style={left(entry)}>
          <b>{service(entry)}</b>
          <span>{label(entry)}</span>
          <Endpoint at={entry.value.endpoint} />
          <em>{entry.away ? 'fading' : 'alive'}</em>
        </li>
      ))}
    </ul>
  );
}

function service(entry: SoftEntry<Offer>): string {
  return entry.key.split('/')[0] ?? '';
}

function label(entry: SoftEntry<Offer>): string {
  return entry.value.metadata?.peer ?? `…${entry.owner.peer.slice(-4)}`;
}

/** Where it is; a link if a browser can follow it. */
function Endpoint({ at }: { at: string }): JSX.Element {
  const shown = at.replace(/^https?:\/\//, '').replace(/\/$/, '');
  return /^https?:\/\//.test(at) ? <a href={at} target="_blank" rel="noopener noreferrer">{shown}</a> : <code>{shown}</code>;
}

/** How long an entry that is not renewed has left, for its fading. */
function left(entry: { readonly away: boolean; readonly expiresAt: number }): Record<string, string> {
  return entry.away ? { '--left': `${Math.max(200, entry.expiresAt - Date.now())}ms` } : {};
}
