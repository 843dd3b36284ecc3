// The convergence strip: a lane a peer, one colour a state hash, time from left to right.
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { useLive } from '../live.js';
import { colorOf, type Lane, lanes, PAST, type Verdict, verdict } from '../lanes.js';
import { status } from '../peer.js';
import { dark } from './header.js';
import { milliseconds } from './guide.js';
import { Panel } from './panel.js';

/** Height of a lane and of the gap below it, in CSS pixels. */
const [LANE, GAP] = [14, 6];

/** Lanes that there is room for; more scroll. */
const ROOM = 6;

/** The newest lies this far from the right edge, in milliseconds: what is just arriving is not cut in half. */
const EDGE = 120;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

export function Strip(): JSX.Element {
  return (
    <Panel id="strip-panel" title="Convergence" note="One lane a peer, one colour a state: peers of one colour hold the same, byte for byte.">
      <Said />
      <Lanes />
      <p class="axis" aria-hidden="true"><span>{PAST / 1000} s ago</span><span>now</span></p>
    </Panel>
  );
}

function Said(): JSX.Element {
  const now = useLive(verdict);
  const synced = useLive(status).lastSync;
  // A comparison that found nothing is none to speak of.
  const lastSync = synced && synced.bytes > 0 ? synced : undefined;
  return (
    <dl class="figures">
      <div class={now.state === 'differ' ? 'big differ' : 'big'} role="status">
        <dt>{now.state === 'differ' ? 'Right now' : 'All peers'}</dt>
        <dd>{now.state === 'unknown' ? 'Looking' : now.state === 'differ' ? <Differ now={now} /> : 'Equal'}</dd>
      </div>
      <div>
        <dt>Time to converge</dt>
        <dd>{now.state === 'equal' && now.took !== null ? milliseconds(now.took) : '…'}</dd>
        <dd class="sub">{now.state === 'equal' && now.took !== null ? (now.after === 'heal' ? 'after the link was healed' : 'after the last edit') : 'once they differ'}</dd>
      </div>
      <div>
        <dt>Last reconciliation</dt>
        <dd>{lastSync ? bytes(lastSync.bytes) : '…'}</dd>
        <dd class="sub">{lastSync ? `${lastSync.roundTrips} round trip${lastSync.roundTrips === 1 ? '' : 's'}, ${milliseconds(lastSync.ms)}` : 'this page has missed nothing yet'}</dd>
      </div>
    </dl>
  );
}

function Differ({ now }: { now: Verdict & { state: 'differ' } }): JSX.Element {
  return <>{now.states} states</>;
}

function bytes(count: number): string {
  return count < 1000 ? `${count} B` : count < 1_000_000 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1_000_000).toFixed(1)} MB`;
}

function Lanes(): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [names, setNames] = useState<readonly Lane[]>([]);
  const isDark = useLive(dark);
  useEffect(() => {
    const look = (): void => setNames(lanes.value);
    look();
    return lanes.subscribe(look);
  }, []);
  useEffect(() => {
    let frame = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = (): void => {
      if (canvas.current) draw(canvas.current, lanes.value, isDark);
      // Who wants no motion sees it step once a second.
      if (calm.matches) timer = setTimeout(() => { frame = requestAnimationFrame(tick); }, 1000);
      else frame = requestAnimationFrame(tick);
    };
    tick();
    return () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    };
  }, [isDark]);
  const height = Math.max(names.length, 1) * (LANE + GAP);
  return (
    <div class="lanes" style={{ '--room': `${ROOM * (LANE + GAP)}px` }} tabIndex={0} role="img" aria-label={`What ${names.length} peers held over the last ${PAST / 1000} seconds`}>
      <ul aria-hidden="true">{names.map(lane => <li key={lane.id} class={lane.kind} style={{ height: LANE, marginBottom: GAP }}>{lane.name}</li>)}</ul>
      <canvas ref={canvas} style={{ height }} />
    </div>
  );
}

function draw(canvas: HTMLCanvasElement, shown: readonly Lane[], isDark: boolean): void {
  const scale = devicePixelRatio;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext('2d');
  if (!pen || width === 0) return;
  const now = performance.now() - EDGE;
  const x = (time: number): number => ((time - (now - PAST)) / PAST) * width;
  pen.clearRect(0, 0, width, height);
  shown.forEach((lane, row) => {
    const [top, tall] = [row * (LANE + GAP) * scale, LANE * scale];
    pen.save();
    pen.beginPath();
    pen.roundRect(Math.max(0, x(lane.spans[0]?.from ?? now)), top, width, tall, 4 * scale);
    pen.clip();
    lane.spans.forEach(({ from, root }, i) => {
      const left = Math.max(0, x(from));
      // The newest goes on to the edge.
      const right = Math.min(width, x(lane.spans[i + 1]?.from ?? Infinity));
      if (right <= 0 || left >= width) return;
      pen.fillStyle = root === null ? (isDark ? '#1b2d33' : '#e6e0d2') : colorOf(root, isDark);
      // A state that lasted a millisecond is to be seen, too.
      pen.fillRect(left, top, Math.max(right - left, scale), tall);
    });
    pen.restore();
  });
}
