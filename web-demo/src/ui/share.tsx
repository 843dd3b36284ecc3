// This page on another device: a code to scan, where the peer can be reached from there, and otherwise how to make it so.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { encode } from 'uqr';
import { useLive } from '../live.js';
import { type App, explain, invitation } from '../peer.js';
import { home, type Native, scene } from '../stage.js';
import { Icon } from './icons.js';
import { Panel } from './panel.js';

/** The quiet zone that readers want around a code, in modules. */
const QUIET = 3;

type State = { readonly shown: 'no' } | { readonly shown: 'making' } | { readonly shown: 'yes'; readonly url: string } | { readonly shown: 'failed'; readonly why: string };

export function Share({ app }: { app: App | null }): JSX.Element {
  const native = home(useLive(scene));
  const host = native && address(native);
  return (
    <Panel id="share-panel" title="On another device" note="A phone on this network becomes one more peer.">
      <div class="share">
        {host && native ? <Code host={host} port={native.port} ready={app !== null} /> : <How loaded={native !== undefined} />}
      </div>
    </Panel>
  );
}

function Code({ host, port, ready }: { host: string; port: number; ready: boolean }): JSX.Element {
  const [state, setState] = useState<State>({ shown: 'no' });
  const make = async (): Promise<void> => {
    setState({ shown: 'making' });
    try {
      setState({ shown: 'yes', url: `http://${host}:${port}/#join=${await invitation()}` });
    } catch (error) {
      setState({ shown: 'failed', why: explain(error) });
    }
  };
  if (state.shown === 'yes') {
    return (
      <>
        <Qr text={state.url} />
        <div>
          <p>Scan it with a phone’s camera. The code holds an invitation, good for a day: whoever scans it may write here.</p>
          <p><a class="address" href={state.url} target="_blank" rel="noopener">{host}:{port}</a></p>
          <button type="button" class="action" onClick={() => setState({ shown: 'no' })}>Hide it</button>
        </div>
      </>
    );
  }
  return (
    <>
      <div class="blank" aria-hidden="true"><Icon name="phone" size={40} /></div>
      <div>
        <p>{state.shown === 'failed' ? state.why : <>This peer is reached at <code class="address">{host}:{port}</code> from other devices. The code lets whoever scans it in.</>}</p>
        <button type="button" class="action" disabled={!ready || state.shown === 'making'} onClick={() => void make()}>Show the code</button>
      </div>
    </>
  );
}

function How({ loaded }: { loaded: boolean }): JSX.Element {
  return (
    <>
      <div class="blank" aria-hidden="true"><Icon name="phone" size={40} /></div>
      <div>
        {loaded && <p>This peer listens to this machine alone. Start it for the network, and a code to scan appears here:</p>}
        {loaded && <p><code class="line">cargo xtask demo --share</code> <code class="line">foreshore run --listen 0.0.0.0 --http 0.0.0.0:4800</code></p>}
      </div>
    </>
  );
}

/** An address of the peer that other devices of the network reach, if its page and its WebSocket are both open to them. */
function address(native: Native): string | undefined {
  const { http, listen } = native.status;
  if (!http || /^(127\.|\[::1\])/.test(http)) return undefined;
  const hosts = listen.filter(address => address.includes('/ws')).map(address => /^\/ip4\/([\d.]+)\//.exec(address)?.[1]);
  const open = hosts.filter((host): host is string => host !== undefined && !host.startsWith('127.'));
  const bound = http.slice(0, http.lastIndexOf(':'));
  return bound === '0.0.0.0' || bound === '[::]' ? open[0] : open.find(host => host === bound);
}

function Qr({ text }: { text: string }): JSX.Element {
  const { data, size } = encode(text, { border: 0, ecc: 'L' });
  const path = data.flatMap((row, y) => row.flatMap((on, x) => (on ? [`M${x} ${y}h1v1h-1z`] : []))).join('');
  return (
    <svg class="qr" role="img" aria-label="A code that opens this page on another device" viewBox={`${-QUIET} ${-QUIET} ${size + 2 * QUIET} ${size + 2 * QUIET}`} shape-rendering="crispEdges">
      <rect x={-QUIET} y={-QUIET} width={size + 2 * QUIET} height={size + 2 * QUIET} fill="#fff" />
      <path d={path} fill="#0a1a1f" />
    </svg>
  );
}
