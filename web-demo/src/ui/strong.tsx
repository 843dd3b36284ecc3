// Strong state: a lock and a leader. They need a quorum of voting peers; the API says whether there is one, and nothing here
// decides it.
import { ForeshoreError, type LockHandle } from 'foreshore';
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { type App, explain, trouble } from '../peer.js';
import { Icon } from './icons.js';
import { Panel } from './panel.js';

const LOCK = '/demo/lock';
const LEADER = '/demo/leader';

/** Who holds the lock is asked this often while there is a quorum. */
const ASK = 1000;

type Quorum = { readonly there: true; readonly holder: string | null } | { readonly there: false; readonly why: string } | null;

export function Strong({ app }: { app: App | null }): JSX.Element {
  const quorum = useQuorum(app);
  const none = quorum?.there === false;
  return (
    <Panel id="strong-panel" title="Lock and leader" note="Strong state: one holder at a time, fenced by a token. It refuses rather than lies.">
      <div class={none ? 'strong dim' : 'strong'}>
        <Lock app={app} quorum={quorum} />
        <Leader app={app} quorum={quorum} />
      </div>
      <p class="why" role="status">{none ? <><span class="badge">Needs a quorum</span> {quorum.why}. It comes with the consensus path.</> : quorum ? <><span class="badge lit">Quorum</span> Writes are linearizable.</> : 'Asking for a quorum'}</p>
    </Panel>
  );
}

/** Whether locks work, as the API answers. */
function useQuorum(app: App | null): Quorum {
  const [quorum, setQuorum] = useState<Quorum>(null);
  useEffect(() => {
    if (!app) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const ask = async (): Promise<void> => {
      try {
        const { held } = await app.space.locks.query(LOCK);
        if (!gone) setQuorum({ there: true, holder: held[0]?.owner.peer ?? null });
      } catch (error) {
        if (!gone) setQuorum({ there: false, why: explainQuorum(error) });
        // What is final for this version is not asked again.
        if (ForeshoreError.is(error) && !error.retryable) return;
      }
      if (!gone) timer = setTimeout(() => void ask(), ASK);
    };
    void ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [app]);
  return quorum;
}

function explainQuorum(error: unknown): string {
  const said = ForeshoreError.is(error, 'NO_QUORUM') ? error.message : explain(error);
  return said.slice(0, 1).toUpperCase() + said.slice(1);
}

function Lock({ app, quorum }: { app: App | null; quorum: Quorum }): JSX.Element {
  const [held, setHeld] = useState<LockHandle | null>(null);
  const toggle = async (): Promise<void> => {
    if (!app) return;
    try {
      if (held) {
        await held.release();
        setHeld(null);
      } else {
        const lock = await app.space.locks.acquire(LOCK);
        lock.signal.addEventListener('abort', () => setHeld(null), { once: true });
        setHeld(lock);
      }
    } catch (error) {
      trouble.value = explain(error);
    }
  };
  const there = quorum?.there === true;
  return (
    <div class="thing">
      <Icon name="lock" size={22} />
      <div>
        <strong>{held ? 'You hold the lock' : there && quorum.holder ? `Held by …${quorum.holder.slice(-4)}` : 'The lock'}</strong>
        <small>{held ? `token ${held.token}` : there ? 'nobody holds it' : 'no token'}</small>
      </div>
      <button type="button" class="action" disabled={!there} onClick={() => void toggle()}>{held ? 'Release' : 'Take it'}</button>
    </div>
  );
}

function Leader({ app, quorum }: { app: App | null; quorum: Quorum }): JSX.Element {
  const [leader, setLeader] = useState<string | null>(null);
  const [standing, setStanding] = useState(false);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => {
    if (!app) return;
    const observed = app.space.elections.observe(LEADER);
    const look = (): void => setLeader(observed.known ? observed.leader?.owner.peer ?? null : null);
    look();
    const unsubscribe = observed.subscribe(look);
    return () => {
      unsubscribe();
      observed[Symbol.dispose]();
    };
  }, [app]);
  const toggle = (): void => {
    if (!app) return;
    if (stop.current) {
      stop.current.abort();
      return;
    }
    const controller = new AbortController();
    stop.current = controller;
    setStanding(true);
    const end = new Promise<void>(resolve => controller.signal.addEventListener('abort', () => resolve(), { once: true }));
    app.space.elections.lead(LEADER, () => end, { signal: controller.signal })
      .catch((error: unknown) => { if (!ForeshoreError.is(error, 'ABORTED')) trouble.value = explain(error); })
      .finally(() => {
        stop.current = null;
        setStanding(false);
      });
  };
  const there = quorum?.there === true;
  const own = leader !== null && leader === app?.space.me.peer;
  return (
    <div class="thing">
      <Icon name="flag" size={22} />
      <div>
        <strong>{own ? 'You lead' : leader ? `Led by …${leader.slice(-4)}` : 'The leader'}</strong>
        <small>{leader ? 'elected' : 'none'}</small>
      </div>
      <button type="button" class="action" disabled={!there} onClick={toggle}>{standing ? 'Stand down' : 'Stand'}</button>
    </div>
  );
}
