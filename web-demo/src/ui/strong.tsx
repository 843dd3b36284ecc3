// Strong state: a lock, an elected page, and the voters behind them. What a page may do is the voters' to say, and nothing here
// decides it.
import { ForeshoreError, type LockHandle } from 'foreshore';
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { useLive } from '../live.js';
import { me } from '../me.js';
import { type App, explain, status, trouble } from '../peer.js';
import { killLeader, leader, scene } from '../stage.js';
import { Icon } from './icons.js';
import { Panel } from './panel.js';

const LOCK = '/demo/lock';
const LEADER = '/demo/leader';

/** What a page holds is lost so long after nobody hears of it, in milliseconds: while somebody looks. */
const LEASE = 6000;

/** Who holds the lock is asked this often, and waited for so long. */
const [ASK, PATIENCE] = [1000, 3000];

/** What the page is told of the quorum. */
const SAID = {
  none: { badge: 'No voters', why: 'Locks need a quorum of voting peers, and this space has none.' },
  lost: { badge: 'No quorum', why: 'This side has no majority of the voters: it grants nothing, rather than guess.' },
  ok: { badge: 'Quorum', why: 'A majority of the voters answers: one holder at a time, and tokens that only grow.' },
} as const;

export function Strong({ app }: { app: App | null }): JSX.Element {
  const { quorum } = useLive(status);
  const said = SAID[quorum];
  const state = quorum === 'ok' ? 'strong' : `strong ${quorum}`;
  return (
    <Panel id="strong-panel" title="Lock and leader" note="Strong state: one holder at a time, fenced by a token. It refuses rather than lies.">
      <div class={state} data-quorum={quorum}>
        <Lock app={app} there={quorum === 'ok'} />
        <Elected app={app} there={quorum === 'ok'} />
        <Voters />
      </div>
      <p class="why" role="status">{app ? <><span class={`badge ${quorum}`}>{said.badge}</span> {said.why}</> : 'Asking for a quorum'}</p>
    </Panel>
  );
}

/** Who holds the lock, asked for again and again; `undefined` while nobody can say. */
function useHolder(app: App | null, there: boolean): string | null | undefined {
  const [holder, setHolder] = useState<string | null | undefined>(undefined);
  useEffect(() => {
    setHolder(undefined);
    if (!app || !there) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const ask = async (): Promise<void> => {
      try {
        const { held } = await app.space.locks.query(LOCK, { signal: AbortSignal.timeout(PATIENCE) });
        if (!gone) setHolder(held[0]?.owner.peer ?? null);
      } catch {
        if (!gone) setHolder(undefined);
      }
      if (!gone) timer = setTimeout(() => void ask(), ASK);
    };
    void ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [app, there]);
  return holder;
}

/** What peers are called here. */
function called(app: App | null, peer: string): string {
  if (peer === app?.space.me.peer) return 'another tab here';
  return app?.crew.others.find(({ owner }) => owner.peer === peer)?.value.name ?? `\u2026${peer.slice(-4)}`;
}

function Lock({ app, there }: { app: App | null; there: boolean }): JSX.Element {
  const [held, setHeld] = useState<LockHandle | null>(null);
  const [lost, setLost] = useState(false);
  const [waits, setWaits] = useState(false);
  const stop = useRef<AbortController | null>(null);
  const holder = useHolder(app, there);
  const toggle = async (): Promise<void> => {
    if (!app) return;
    if (stop.current) return stop.current.abort();
    try {
      if (held) {
        setHeld(null);
        await held.release();
        return;
      }
      setLost(false);
      setWaits(true);
      stop.current = new AbortController();
      const lock = await app.space.locks.acquire(LOCK, { leaseMs: LEASE, signal: stop.current.signal });
      lock.signal.addEventListener('abort', () => {
        setHeld(null);
        setLost(true);
      }, { once: true });
      setHeld(lock);
    } catch (error) {
      if (!ForeshoreError.is(error, 'ABORTED') && !ForeshoreError.is(error, 'NOT_HELD')) trouble.value = explain(error);
    } finally {
      stop.current = null;
      setWaits(false);
    }
  };
  const title = held ? 'You hold the lock' : lost ? 'The lock was lost' : holder ? `Held by ${called(app, holder)}` : 'The lock';
  const small = held ? `token ${held.token}` : waits ? 'waiting for its turn' : lost ? 'its lease could have ended' : holder === null ? 'nobody holds it' : holder ? 'ask for it, and wait' : 'nobody can say';
  return (
    <div class={held ? 'thing own' : lost ? 'thing lost' : 'thing'} data-thing="lock">
      <Icon name="lock" size={22} />
      <div><strong>{title}</strong><small>{small}</small></div>
      <button type="button" class="action" disabled={!app || (!there && !held && !waits)} onClick={() => void toggle()}>{held ? 'Release' : waits ? 'Give up' : 'Take it'}</button>
    </div>
  );
}

interface Seen { readonly name: string; readonly own: boolean; readonly token: number }

function Elected({ app, there }: { app: App | null; there: boolean }): JSX.Element {
  const [seen, setSeen] = useState<Seen | null>(null);
  const [known, setKnown] = useState(false);
  const [standing, setStanding] = useState(false);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => {
    if (!app) return;
    const observed = app.space.elections.observe(LEADER);
    const look = (): void => {
      setKnown(observed.known);
      const [tab, name] = (observed.leader?.value ?? '').split(' ');
      setSeen(observed.leader && { name: name || called(app, observed.leader.owner.peer), own: tab === me.tab, token: observed.leader.token });
    };
    look();
    const unsubscribe = observed.subscribe(look);
    return () => {
      unsubscribe();
      observed[Symbol.dispose]();
    };
  }, [app]);
  const toggle = (): void => {
    if (!app) return;
    if (stop.current) return stop.current.abort();
    const controller = new AbortController();
    stop.current = controller;
    setStanding(true);
    const end = new Promise<void>(resolve => controller.signal.addEventListener('abort', () => resolve(), { once: true }));
    app.space.elections.lead(LEADER, () => end, { signal: controller.signal, leaseMs: LEASE, value: `${me.tab} ${me.name}` })
      .catch((error: unknown) => { if (!ForeshoreError.is(error, 'ABORTED')) trouble.value = explain(error); })
      .finally(() => {
        stop.current = null;
        setStanding(false);
      });
  };
  const title = !known ? 'The elected page' : seen?.own ? 'You are elected' : seen ? `${seen.name} is elected` : 'The elected page';
  const small = !known ? 'nobody can say' : seen ? `term ${seen.token}` : standing ? 'waiting for the vote' : 'none';
  return (
    <div class={known && seen?.own ? 'thing own' : 'thing'} data-thing="elected">
      <Icon name="flag" size={22} />
      <div><strong>{title}</strong><small>{small}</small></div>
      <button type="button" class="action" disabled={!app || (!there && !standing)} onClick={toggle}>{standing ? 'Stand down' : 'Stand'}</button>
    </div>
  );
}

/** The group behind it, where the peers behind the page tell. */
function Voters(): JSX.Element {
  const all = useLive(scene);
  const [busy, setBusy] = useState(false);
  const first = leader(all);
  const told = all.peers.some(native => native.group);
  const voters = first?.group?.voters ?? 0;
  const dead = all.peers.filter(native => native.dead).map(native => native.name);
  const kill = async (): Promise<void> => {
    setBusy(true);
    try {
      await killLeader();
    } catch (error) {
      trouble.value = explain(error);
    } finally {
      setBusy(false);
    }
  };
  const small = dead.length > 0 ? `${dead.join(', ')} is dead for a while` : first ? `term ${first.group?.term}, one of ${voters} voters` : 'voting, or no majority';
  return (
    <div class="thing wide" data-thing="voters">
      <Icon name="star" size={22} />
      <div><strong>{first ? `${first.name} leads the voters` : told ? 'Nobody leads the voters' : 'The voters'}</strong><small>{told ? small : 'native peers, which say no more here'}</small></div>
      <button type="button" class="action" title="All its links go dead for some seconds, as if its process had been killed" disabled={!all.controls || busy || !first || dead.length > 0} onClick={() => void kill()}>Kill the leader</button>
    </div>
  );
}
