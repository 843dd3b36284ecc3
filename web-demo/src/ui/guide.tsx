// Four things to try, ticked off as they are done.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useLive } from '../live.js';
import { verdict } from '../lanes.js';
import { type App, offline } from '../peer.js';
import { home, scene } from '../stage.js';
import { Icon } from './icons.js';

export function Guide({ app }: { app: App | null }): JSX.Element {
  const [wrote, setWrote] = useState(false);
  const [met, setMet] = useState(false);
  const [cut, setCut] = useState(false);
  const [healed, setHealed] = useState<number | null>(null);
  const seen = useLive(scene);
  const off = useLive(offline);
  const now = useLive(verdict);
  useEffect(() => {
    if (!app) return;
    const stops = [app.note, app.board].map(doc => doc.subscribe(({ source }) => { if (source === 'local') setWrote(true); }));
    const look = (): void => { if (app.crew.others.length > 0) setMet(true); };
    look();
    stops.push(app.crew.subscribe(look));
    return () => stops.forEach(stop => stop());
  }, [app]);
  useEffect(() => { if (off || seen.cut.length > 0) setCut(true); }, [off, seen]);
  useEffect(() => { if (now.state === 'equal' && now.after === 'heal') setHealed(now.took ?? 0); }, [now]);
  const own = home(seen);
  const other = seen.peers.find(native => native !== own) ?? own;
  const page = other ? `${location.protocol}//${location.hostname}:${other.port}/` : location.pathname;
  return (
    <ol class="guide" aria-label="Things to try">
      <Step done={wrote} title="Type, or move a card" says="Everything here is shared." />
      <Step done={met} title="Open a second page" says={<a href={page} target="_blank" rel="noopener">{other && other !== own ? `at the peer ${other.name}` : 'beside this one'} <Icon name="open" size={14} /></a>} />
      <Step done={cut} title="Cut a link" says={seen.controls ? 'A click on any line will do.' : 'Or go offline, up there.'} />
      <Step done={healed !== null} title="Heal it" says={healed === null ? 'And watch both sides meet.' : healed === 0 ? 'Both sides held the same.' : `Equal again in ${milliseconds(healed)}.`} />
    </ol>
  );
}

function Step({ done, title, says }: { done: boolean; title: string; says: JSX.Element | string }): JSX.Element {
  return (
    <li class={done ? 'done' : ''}>
      <span class="tick">{done && <Icon name="check" size={14} />}</span>
      <span>
        <strong>{title}{done && <span class="hidden">, done</span>}</strong>
        <small>{says}</small>
      </span>
    </li>
  );
}

export function milliseconds(ms: number): string {
  return ms < 1 ? 'under 1 ms' : ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
