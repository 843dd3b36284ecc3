// Bad input and bad days in a browser: each ends in an error with a code and a hint, and none in a hang.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, page, serve, temporary } from './support.mjs';

/** What opening ends in, in a page. */
const attempt = (page, options = {}) => page.evaluate(async options => {
  try {
    const space = await foreshore.openSpace(options);
    globalThis.space = space;
    return { opened: space.id };
  } catch (error) {
    return { code: error.code, hint: error.hint, retryable: error.retryable, ours: foreshore.ForeshoreError.is(error) };
  }
}, options);

test('a wasm that is missing or something else is named, and the next attempt may succeed', async t => {
  const { url, answers } = await serve(t);
  const tab = await page(await browse(t, await temporary(t)), url);
  for (const engine of ['worker', 'inline']) {
    for (const [what, answer] of Object.entries({
      missing: to => to.writeHead(404).end(),
      html: to => to.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>'),
      garbage: to => to.writeHead(200, { 'content-type': 'application/wasm' }).end('no wasm'),
    })) {
      answers.wasm = answer;
      const outcome = await attempt(tab, { engine });
      assert.deepEqual([outcome.code, outcome.ours, outcome.retryable], ['WASM_LOAD', true, true], `${engine}, ${what}: ${JSON.stringify(outcome)}`);
      assert.ok(outcome.hint);
    }
    answers.wasm = null;
    const { opened } = await attempt(tab, { engine });
    assert.match(opened, /^fs1/);
    await tab.evaluate(() => space.close());
  }
  // Served with no type at all it still loads.
  answers.wasm = async to => {
    const { readFile } = await import('node:fs/promises');
    to.writeHead(200).end(await readFile(new URL('../dist/core.wasm', import.meta.url)));
  };
  assert.match((await attempt(tab, { engine: 'worker' })).opened, /^fs1/);
});

test('storage that is denied is named, and memory serves', async t => {
  const { url } = await serve(t);
  const context = await browse(t, await temporary(t));
  await context.addInitScript(() => {
    IDBFactory.prototype.open = () => { throw new DOMException('denied', 'SecurityError'); };
  });
  const tab = await page(context, url);
  const outcome = await attempt(tab, { engine: 'inline' });
  assert.deepEqual([outcome.code, outcome.ours], ['STORAGE', true]);
  assert.match(outcome.hint, /memory/);
  assert.match((await attempt(tab, { engine: 'inline', storage: 'memory' })).opened, /^fs1/);
});

test('a full disk is told as an error event, and what was shown goes back', async t => {
  const { url } = await serve(t);
  const tab = await page(await browse(t, await temporary(t)), url);
  const seen = await tab.evaluate(async () => {
    const { openSpace, template } = foreshore;
    const space = await openSpace({ engine: 'inline' });
    const doc = await space.document('/full', template({ title: 'before', n: 0 }));
    await doc.change(d => { d.n = 1; }).saved;
    const codes = [];
    space.on('error', error => codes.push(error.code));
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); };
    const commit = doc.change(d => { d.title = 'after'; });
    const shown = doc.value.title;
    const waited = await Promise.race([commit.saved.then(() => 'saved', error => error.code), new Promise(resolve => setTimeout(() => resolve('waits'), 1500))]);
    IDBObjectStore.prototype.put = put;
    // Room again: the engine tries by itself.
    const later = waited === 'waits' ? await commit.saved.then(() => 'saved', error => error.code) : waited;
    return { shown, waited, later, codes, title: doc.value.title };
  });
  assert.equal(seen.shown, 'after');
  assert.ok(seen.codes.includes('QUOTA'), JSON.stringify(seen));
  assert.deepEqual([seen.later, seen.title], seen.later === 'saved' ? ['saved', 'after'] : ['QUOTA', 'before'], JSON.stringify(seen));
});

test('an isolated tab shares its store with nobody, and a closed one leaves it', async t => {
  const { url } = await serve(t);
  const context = await browse(t, await temporary(t));
  const [first, second] = [await page(context, url), await page(context, url)];
  assert.match((await attempt(first)).opened, /^fs1/);
  assert.equal((await attempt(second, { tabs: 'isolated' })).code, 'EXISTS');
  await first.evaluate(() => space.close());
  assert.match((await attempt(second, { tabs: 'isolated' })).opened, /^fs1/);
});

test('an origin whose peer fails for a moment makes no space of its own', async t => {
  const { url } = await serve(t, () => ({ http: '127.0.0.1:9' }));
  const tab = await page(await browse(t, await temporary(t)), url);
  const outcome = await attempt(tab);
  assert.deepEqual([outcome.code, outcome.retryable], ['DENIED', true], JSON.stringify(outcome));
});
