// The demo: one page over the package, as any app would be.
import { render, type JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useLive } from './live.js';
import { record } from './lanes.js';
import { type App, explain, open, trouble } from './peer.js';
import { watchStage } from './stage.js';
import { Board } from './ui/board.js';
import { Editor } from './ui/editor.js';
import { Guide } from './ui/guide.js';
import { Header, Tide } from './ui/header.js';
import { Network } from './ui/network.js';
import { Share } from './ui/share.js';
import { Marks, Services } from './ui/soft.js';
import { Strip } from './ui/strip.js';
import { Strong } from './ui/strong.js';

function Page(): JSX.Element {
  const [app, setApp] = useState<App | null>(null);
  const [failed, setFailed] = useState('');
  useEffect(() => {
    void watchStage();
    open().then(opened => {
      record(opened);
      setApp(opened);
    }, (error: unknown) => setFailed(explain(error)));
  }, []);
  return (
    <>
      <Header app={app} />
      <main>
        <div class="hero">
          <Tide />
          <div class="words">
            <h1>Cut it off. Keep working. It comes back together.</h1>
            <p>This page is a peer of a replicated store, and so are the native peers it talks to. Nothing here waits for a server.</p>
          </div>
        </div>
        {failed ? <Failed why={failed} /> : <Guide app={app} />}
        <div class="grid" aria-busy={!app && !failed}>
          <Editor app={app} />
          <Network app={app} />
          <Strip />
          <Board app={app} />
          <Marks app={app} />
          <Services app={app} />
          <Strong app={app} />
          <Share app={app} />
        </div>
      </main>
      <footer>
        <p><b>Foreshore</b> documents, soft state and topics are always available; locks and elections come with consensus.</p>
        <p><a href="/status">status</a><a href="/metrics">metrics</a><a href="/assets/licences.md">licences</a></p>
      </footer>
      <Trouble />
    </>
  );
}

function Failed({ why }: { why: string }): JSX.Element {
  return (
    <div class="failed" role="alert">
      <p><strong>This page could not join.</strong> {why}</p>
      <button type="button" class="action" onClick={() => location.reload()}>Try again</button>
    </div>
  );
}

/** What went wrong, over the page, until it is put away. */
function Trouble(): JSX.Element {
  const said = useLive(trouble);
  return (
    <div class={said ? 'trouble shown' : 'trouble'} role="alert">
      {said && <><p>{said}</p><button type="button" class="quiet" onClick={() => { trouble.value = ''; }}>Close</button></>}
    </div>
  );
}

render(<Page />, document.getElementById('app') as HTMLElement);
