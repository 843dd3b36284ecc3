// A page, a native peer and the network between them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, kill, load, Native, page, serve, temporary, until } from './support.mjs';

/** Opens the space and one document in a page. */
const OPEN = async () => {
  const { openSpace, template, text, counter } = foreshore;
  const began = performance.now();
  globalThis.errors = [];
  globalThis.space = await openSpace(globalThis.options ?? {});
  space.on('error', error => errors.push(`${error.code} ${error.message}`));
  globalThis.notes = template({ title: '', body: text(), votes: counter(), items: [] });
  globalThis.doc = await space.document('/notes', notes);
  return performance.now() - began;
};

const shown = page => page.evaluate(() => JSON.stringify({ value: doc.value, errors, status: space.status, heads: doc.heads }));

for (const engine of ['worker', 'inline']) test(`a page and a native peer are in step, whoever edits (${engine})`, async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  const tab = await page(context, url);
  await tab.evaluate(engine => { globalThis.options = { engine }; }, engine);
  await tab.evaluate(OPEN);
  await tab.evaluate(() => doc.change(d => { d.title = 'from the page'; d.body.splice(0, 0, 'hello'); d.votes.add(2); d.items.push({ n: 1 }); }).saved);
  await tab.evaluate(() => doc.synced());
  const there = await native.value('/notes');
  assert.deepEqual(there, { title: 'from the page', body: 'hello', votes: 2, items: [{ n: 1 }] });
  await native.run('put', '/notes', '--at', '/title', '"from the node"');
  await until(() => shown(tab), () => tab.evaluate(() => doc.value.title === 'from the node'));
  assert.equal(await tab.evaluate(() => space.status.network), 'online');
  assert.deepEqual(await tab.evaluate(() => errors), []);
  assert.deepEqual(tab.complaints, []);
});

test('two pages and a native peer type into one text at once and end the same', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const tabs = [];
  for (let i = 0; i < 2; i++) {
    const tab = await page(await browse(t, await temporary(t)), url);
    await tab.evaluate(OPEN);
    tabs.push(tab);
  }
  // Random edits, each at a place that the page shows when it makes it; others' edits come in between.
  const typing = tabs.map((tab, who) => tab.evaluate(async who => {
    let seed = who + 1;
    const random = below => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
    const seen = [];
    let copy = doc.value.body;
    const ref = doc.text(d => d.body);
    // An editor that knows only what it is told must show what the document shows.
    ref.subscribe(({ edits }) => {
      for (const { from, to, insert } of [...edits].reverse()) copy = copy.slice(0, from) + insert + copy.slice(to);
      if (copy !== doc.value.body) seen.push([copy, doc.value.body]);
    });
    for (let n = 0; n < 150; n++) {
      doc.change(d => {
        const length = d.body.length;
        if (length > 20 && random(4) === 0) d.body.splice(random(length - 3), 1 + random(3));
        else d.body.splice(random(length + 1), 0, `${who ? 'b' : 'a'}${n % 10}`);
        d.votes.add(1);
        if (n % 10 === 0) d.items.push({ who, n });
      });
      if (random(3) === 0) await new Promise(resolve => setTimeout(resolve, random(15)));
    }
    await doc.flushed();
    return seen.slice(0, 3);
  }, who));
  const nodes = (async () => {
    for (let n = 0; n < 8; n++) await native.run('put', '/notes', '--at', '/title', JSON.stringify(`node ${n}`));
  })();
  const wrong = await Promise.all(typing);
  await nodes;
  assert.deepEqual(wrong, [[], []]);
  const heads = tab => tab.evaluate(() => doc.heads.join());
  await until(async () => `${await shown(tabs[0])}\n${await shown(tabs[1])}`, async () => {
    const [a, b] = await Promise.all(tabs.map(heads));
    const there = JSON.parse(await native.run('get', '/notes', '--json')).heads.join();
    return a === b && a === there;
  });
  const [a, b] = await Promise.all(tabs.map(tab => tab.evaluate(() => doc.value)));
  assert.deepEqual(a, b);
  assert.deepEqual(await native.value('/notes'), a);
  assert.equal(a.votes, 300);
  assert.equal(a.items.length, 30);
  assert.equal(a.title, 'node 7');
  for (const tab of tabs) assert.deepEqual([await tab.evaluate(() => errors), tab.complaints], [[], []]);
});

test('edits made offline survive a reload and reach the others after it', async t => {
  const data = await temporary(t);
  let native = await Native.start(t, data);
  const { url } = await serve(t, () => native);
  const tab = await page(await browse(t, await temporary(t)), url);
  await tab.evaluate(OPEN);
  await tab.evaluate(() => doc.change(d => { d.title = 'online'; }).saved);
  await tab.evaluate(() => doc.synced());
  const port = native.port;
  await native.stop();
  await until(() => shown(tab), () => tab.evaluate(() => space.status.network !== 'online'));
  await tab.evaluate(async () => { doc.change(d => { d.title = 'offline'; d.body.splice(0, 0, 'kept'); }); await doc.flushed(); });
  assert.ok(await until(() => shown(tab), () => tab.evaluate(() => space.status.pendingChanges > 0)));
  const before = await tab.evaluate(() => ({ id: space.id, value: doc.value, heads: doc.heads }));
  await load(tab, url);
  await tab.evaluate(OPEN);
  assert.deepEqual(await tab.evaluate(() => ({ id: space.id, value: doc.value, heads: doc.heads })), before);
  native = await Native.start(t, data, port);
  assert.deepEqual(native.port, port);
  await tab.evaluate(() => doc.synced());
  assert.deepEqual(await native.value('/notes'), { title: 'offline', body: 'kept', votes: 0, items: [] });
  await until(() => shown(tab), () => tab.evaluate(() => space.status.pendingChanges === 0 && space.status.network === 'online'));
});

test('what flushed() promised is there after the browser was killed', async t => {
  const profile = await temporary(t);
  const { url } = await serve(t);
  for (let round = 0; round < 3; round++) {
    const context = await browse(t, profile);
    const tab = await page(context, url);
    await tab.evaluate(OPEN);
    const found = await tab.evaluate(() => doc.value.votes);
    assert.ok(found >= round * 20, `round ${round} found ${found}`);
    await tab.evaluate(async () => {
      for (let n = 0; n < 20; n++) doc.change(d => { d.votes.add(1); d.items.push(n); });
      await doc.flushed();
      // And some that nobody was promised.
      for (let n = 0; n < 20; n++) doc.change(d => { d.title += 'x'; });
    });
    await kill(profile);
    await context.close().catch(() => {});
  }
  const tab = await page(await browse(t, profile), url);
  await tab.evaluate(OPEN);
  const { votes, items } = await tab.evaluate(() => doc.value);
  assert.equal(votes, 60);
  assert.equal(items.length, 60);
  assert.deepEqual(tab.complaints, []);
});
