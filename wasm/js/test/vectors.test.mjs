// The vectors that native tests check, in a browser: what the wasm computes, and what IndexedDB does as the engine's store.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { browse, page, serve, temporary } from './support.mjs';

test('the wasm computes every frozen byte', async t => {
  const { url } = await serve(t);
  const tab = await page(await browse(t, await temporary(t)), url);
  const checked = await tab.evaluate(async () => {
    const core = await import('/dist/core.js');
    await core.default({ module_or_path: '/dist/core.wasm' });
    return core.vectors();
  });
  assert.deepEqual([checked, tab.complaints], [['reconcile', 'soft', 'topic', 'trust'], []]);
});

test('IndexedDB does what every backend of the engine does', async t => {
  const cases = JSON.parse(await readFile(new URL('vectors/storage.json', import.meta.url), 'utf8'));
  const { url } = await serve(t);
  const tab = await page(await browse(t, await temporary(t)), url);
  const found = await tab.evaluate(async cases => {
    const { IndexedDbStore } = await import('/dist/store.js');
    const [encode, decode] = [text => new TextEncoder().encode(text), data => new TextDecoder().decode(data)];
    const found = [];
    for (const { name, steps } of cases) {
      const store = await IndexedDbStore.open(name);
      const done = [];
      for (const { write, epoch, read } of steps) {
        if (read) done.push((await store.read(read.map(([kind, table, from, to, limit]) => [kind, table, encode(from), typeof to === 'string' ? encode(to) : null, limit]))).map(rows => rows.map(decode)));
        else done.push(await store.write(write.map(([kind, table, ...rest]) => [kind, table, ...rest.map(encode)]), epoch === undefined ? undefined : encode(epoch)).then(() => null, error => error.kind ?? String(error)));
      }
      store.close();
      found.push(done);
    }
    return found;
  }, cases);
  for (const [n, { name, steps }] of cases.entries()) {
    assert.deepEqual(found[n], steps.map(({ read, rows, fails }) => (read ? rows : fails ?? null)), name);
  }
});
