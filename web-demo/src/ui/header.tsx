// The top of the page: who is here, the offline switch, light and dark, and the tide that goes out when the page is offline.
import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { Live, useChanges, useLive } from '../live.js';
import { me } from '../me.js';
import { type App, offline, setOffline, status } from '../peer.js';
import { Icon, type IconName } from './icons.js';

type Theme = 'auto' | 'light' | 'dark';

const THEMES: readonly Theme[] = ['auto', 'light', 'dark'];
const ICONS: Record<Theme, IconName> = { auto: 'auto', light: 'sun', dark: 'moon' };
const KEPT = 'foreshore-demo-theme';

/** Faces that are shown; the rest is a number. */
const FACES = 5;

const prefersDark = matchMedia('(prefers-color-scheme: dark)');
const theme = new Live<Theme>(THEMES.find(t => t === localStorage.getItem(KEPT)) ?? 'auto');

/** Whether the page is dark now. */
export const dark = new Live(isDark());

function isDark(): boolean {
  return theme.value === 'dark' || (theme.value === 'auto' && prefersDark.matches);
}

function show(): void {
  document.documentElement.style.colorScheme = theme.value === 'auto' ? '' : theme.value;
  dark.value = isDark();
}

theme.subscribe(show);
prefersDark.addEventListener('change', show);
show();

function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] as Theme;
  localStorage.setItem(KEPT, theme.value);
}

export function Header({ app }: { app: App | null }): JSX.Element {
  const look = useLive(theme);
  return (
    <header class="top">
      <a class="brand" href="#app" aria-label="Foreshore, to the top of the page">
        <Brand />
        <span>Foreshore</span>
      </a>
      <div class="faces">{app && <Faces app={app} />}</div>
      <Switch app={app} />
      <button type="button" class="quiet" onClick={nextTheme} aria-label={`Colours: ${look}. Change`} title={`Colours: ${look}`}>
        <Icon name={ICONS[look]} />
      </button>
    </header>
  );
}

function Brand(): JSX.Element {
  return (
    <svg width="30" height="30" viewBox="0 0 32 32" aria-hidden="true">
      <rect class="tile" width="32" height="32" rx="9" />
      <path class="crest" d="M5 13.500c3.700 0 3.700 3 7.300 3s3.700-3 7.400-3 3.700 3 7.300 3" />
      <path class="trough" d="M5 20.500c3.700 0 3.700 3 7.300 3s3.700-3 7.400-3 3.700 3 7.300 3" />
      <circle cx="22.500" cy="8.200" r="2.600" fill="#f6c667" />
    </svg>
  );
}

function Faces({ app }: { app: App }): JSX.Element {
  useChanges(app.crew);
  const tabs = new Map(app.crew.others.map(entry => [entry.value.tab, entry]));
  const crew = [...tabs.values()];
  const names = crew.map(entry => entry.value.name).join(', ');
  return (
    <ul aria-label={crew.length > 0 ? `Also here: ${names}` : 'Nobody else is here'}>
      {crew.slice(0, FACES).map(({ value, away }) => (
        <li key={value.tab} class={away ? 'face away' : 'face'} style={{ '--who': value.color }} title={away ? `${value.name}, not heard of for a while` : value.name}>
          {value.name.slice(0, 1)}
        </li>
      ))}
      {crew.length > FACES && <li class="face more">+{crew.length - FACES}</li>}
      <li class="face you" style={{ '--who': me.color }} title={`You are ${me.name}`}>{me.name.slice(0, 1)}</li>
    </ul>
  );
}

function Switch({ app }: { app: App | null }): JSX.Element {
  const off = useLive(offline);
  const { network, pendingChanges } = useLive(status);
  const said = off ? 'Offline' : network === 'online' ? 'Online' : network === 'connecting' ? 'Connecting' : 'Cut off';
  useEffect(() => { document.documentElement.dataset.tide = network === 'online' ? 'in' : 'out'; }, [network]);
  return (
    <button type="button" class="switch" role="switch" aria-checked={!off} aria-label="This page is online" disabled={!app} onClick={() => app && setOffline(app.space, !off)}>
      <span class="track"><span class="knob" /></span>
      <span class="said">
        {said}
        <small>{pendingChanges > 0 ? `${pendingChanges} to send` : 'all sent'}</small>
      </span>
    </button>
  );
}

/** Water under the headline: high while this page reaches another peer. */
export function Tide(): JSX.Element {
  return (
    <div class="tide" aria-hidden="true">
      <svg viewBox="0 0 1440 120" preserveAspectRatio="none"><path d="M0 40c120 0 120 24 240 24s120-24 240-24 120 24 240 24 120-24 240-24 120 24 240 24 120-24 240-24v120H0Z" /></svg>
      <svg viewBox="0 0 1440 120" preserveAspectRatio="none"><path d="M0 56c120 0 120-20 240-20s120 20 240 20 120-20 240-20 120 20 240 20 120-20 240-20 120 20 240 20v100H0Z" /></svg>
    </div>
  );
}
