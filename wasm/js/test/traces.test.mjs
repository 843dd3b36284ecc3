// A published trace of two people who typed at once, typed again: one of them in a page, the other in a native peer.
//
// Each transaction is typed as its author saw the text, at the heads of its parents: the page opens the document where it
// stands, as a page does that another tab's engine takes over, and edits it there. A change comes over the network alone;
// which change became of which transaction is told beside it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { browse, page, serve, temporary, until } from './support.mjs';

const TRACES = process.env.FORESHORE_TRACES ?? '';
const NAME = 'friendsforever';
const file = join(TRACES, `${NAME}.json.gz`);
const [PAGE, NATIVE] = [0, 1];

/** The native author, in a process of its own. */
async function author(t) {
  const child = spawn(join(dirname(process.env.FORESHORE_BIN), 'agent'), ['--trace', NAME, '--agent', String(NATIVE), '--ws', '--store', join(await temporary(t), 'store')], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, FORESHORE_TRACES: TRACES } });
  t.after(() => child.kill('SIGTERM'));
  child.stdin.on('error', () => {});
  const said = [];
  const wakes = [];
  createInterface({ input: child.stdout }).on('line', line => { said.push(JSON.parse(line)); wakes.splice(0).forEach(wake => wake()); });
  return {
    tell: line => child.stdin.write(`${JSON.stringify(line)}\n`),
    async next() {
      while (said.length === 0) await new Promise(resolve => wakes.push(resolve));
      return said.shift();
    },
  };
}

/** In the page: types one author's part, and hands out what became of it in batches. */
const TYPE = async ({ txns, own, start }) => {
  const { engine } = space;
  // The one layer of the document's template, as the package writes it.
  const layers = [{ body: { $text: start } }];
  globalThis.heads = new Map();
  globalThis.told = [];
  globalThis.failed = null;
  let arrived = () => {};
  let made = () => {};
  const hear = Object.getPrototypeOf(space).hear;
  space.hear = event => {
    if (event.event === 'made') made(event);
    else if (event.event === 'doc') arrived();
    hear.call(space, event);
  };
  globalThis.post = list => { for (const [txn, at] of list) heads.set(txn, at); arrived(); };
  const news = () => new Promise(resolve => {
    arrived = resolve;
    // What an event said before this was asked for.
    setTimeout(resolve, 50);
  });
  const same = (a, b) => a.length === b.length && a.every((hash, i) => hash === b[i]);
  void (async () => {
    // Somebody has it open all the time, so that it is not read anew each time.
    await engine.call({ do: 'open', space: space.id, path: '/text', layers, doc: space.number(), standings: [] });
    let [doc, seq, at, last] = [0, 0, null, -1];
    const saved = [];
    const sent = new Map();
    // Told in the order in which they were sent.
    made = event => {
      if (event.doc !== doc || !sent.has(event.seq)) return;
      const index = sent.get(event.seq);
      sent.delete(event.seq);
      if (event.hash !== null) at = [event.hash];
      heads.set(index, at);
      told.push([index, at]);
      arrived();
    };
    for (const [index, { parents, agent, patches }] of txns.entries()) {
      if (agent !== own) continue;
      // What goes on from the one before needs no look at what became of that.
      const goesOn = doc !== 0 && parents.length === 1 && parents[0] === last;
      while (!goesOn && !(parents.every(parent => heads.has(parent)) && sent.size === 0)) await news();
      const wanted = goesOn ? null : [...new Set(parents.flatMap(parent => heads.get(parent)))].sort();
      if (wanted && (at === null || !same(at, wanted))) {
        if (doc) await engine.call({ do: 'closeDoc', doc });
        for (;;) {
          doc = space.number();
          seq = 0;
          const opened = await engine.call({ do: 'open', space: space.id, path: '/text', layers, doc, standings: [{ heads: wanted, seq }] });
          if (opened.standing === 0) break;
          // Not here yet: the next change may be it.
          await news();
          await engine.call({ do: 'closeDoc', doc });
        }
        at = wanted;
      }
      const ops = patches.map(([from, deleted, insert]) => ({ o: 'text', at: ['body'], edits: [{ from, to: from + deleted, insert }] }));
      sent.set(++seq, index);
      saved.push(engine.call({ do: 'edit', doc, seq, base: 0, ops }));
      last = index;
      // Storage may take its time, but not fall behind without end.
      if (saved.length >= 200) await Promise.all(saved.splice(0));
    }
    await Promise.all(saved);
    if (doc) await engine.call({ do: 'closeDoc', doc });
    globalThis.done = true;
  })().catch(error => { globalThis.failed = String(error?.stack ?? error); });
};

test(`${NAME}, one author in a page and the other in a native peer, ends the same for both`, { skip: existsSync(file) ? false : `there is no ${file}; FORESHORE_TRACES names the directory` }, async t => {
  const trace = JSON.parse(gunzipSync(readFileSync(file)).toString());
  const start = trace.startContent ?? '';
  for (const { patches } of trace.txns) for (const [, , insert] of patches) assert.ok([...insert].length === insert.length, 'positions in code points are positions in code units');
  const native = await author(t);
  const { ws } = await native.next();
  native.tell({ invite: true });
  const { invitation } = await native.next();
  const { url } = await serve(t);
  const tab = await page(await browse(t, await temporary(t)), url);
  await tab.evaluate(async options => { globalThis.space = await foreshore.openSpace(options); }, { space: invitation, peers: [`ws://127.0.0.1:${ws}`] });
  await tab.evaluate(TYPE, { txns: trace.txns, own: PAGE, start });

  // Who is told what: what each author made, for whoever stands on it.
  native.tell({ type: true });
  let [typed, over] = [new Map(), false];
  const listening = (async () => {
    for (;;) {
      const said = await native.next();
      if (said.typed) typed.set(...said.typed);
      else if (said.done) return;
      else assert.ok(said.waits !== undefined, JSON.stringify(said));
    }
  })().finally(() => { over = true; });
  const heads = new Map();
  let last = performance.now();
  const [began, shows] = [last, { next: last + 30_000 }];
  for (;;) {
    const gathered = [...typed];
    typed = new Map();
    for (const [txn, at] of gathered) heads.set(txn, at);
    const { told, done, failed } = await tab.evaluate(list => {
      post(list);
      return { told: globalThis.told.splice(0), done: globalThis.done === true, failed: globalThis.failed };
    }, gathered);
    assert.equal(failed, null);
    for (const [txn, at] of told) {
      heads.set(txn, at);
      native.tell({ heads: [txn, at] });
    }
    if (gathered.length + told.length > 0) last = performance.now();
    assert.ok(performance.now() - last < 120_000, `nobody typed for two minutes: ${heads.size} of ${trace.txns.length}`);
    if (performance.now() > shows.next) {
      console.error(`${NAME}: ${heads.size} of ${trace.txns.length} transactions after ${Math.round((performance.now() - began) / 1000)} s`);
      shows.next += 30_000;
    }
    if (done && over && typed.size === 0) break;
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  await listening;

  const isParent = new Set(trace.txns.flatMap(({ parents }) => parents));
  const frontier = trace.txns.map((_, index) => index).filter(index => !isParent.has(index));
  const end = [...new Set(frontier.flatMap(txn => heads.get(txn)))].sort();
  native.tell({ arrive: end });
  const { stands } = await native.next();
  assert.deepEqual(stands.heads, end);
  assert.equal(stands.text, trace.endContent);
  await tab.evaluate(async start => { globalThis.doc = await space.document('/text', foreshore.template({ body: foreshore.text(start) })); }, start);
  await until('the page has all', () => tab.evaluate(end => JSON.stringify(doc.heads) === JSON.stringify(end), end));
  assert.equal(await tab.evaluate(() => doc.value.body), stands.text);
  assert.deepEqual(tab.complaints, []);
});
