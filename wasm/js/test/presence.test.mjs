// Who is here: a page that is closed or crashes is gone soon, and one that is only hidden stays.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, Native, page, serve, tabbed, temporary, until } from './support.mjs';

/** How long a hidden tab is watched, in ms. */
const WATCHED = process.env.FORESHORE_LONG === '1' ? 600_000 : 10_000;

const OPEN = async name => {
  globalThis.space = await foreshore.openSpace();
  globalThis.here = space.presence('/room', { name });
  globalThis.log = [];
  const names = () => here.others.map(({ value, away }) => `${value.name}${away ? ' away' : ''}`).sort().join();
  here.subscribe(() => { if (log.at(-1) !== names()) log.push(names()); });
};

const seen = (watcher, names) => until(() => watcher.evaluate(() => JSON.stringify(log)), () => watcher.evaluate(names => here.others.filter(other => !other.away).map(other => other.value.name).sort().join() === names, names));

test('a page that is closed or killed is gone soon, and is there again when it is opened', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const watcher = await page(await browse(t, await temporary(t)), url);
  await watcher.evaluate(OPEN, 'watcher');
  const context = await browse(t, await temporary(t));
  for (const end of ['close', 'crash']) {
    const guest = await page(context, url);
    await guest.evaluate(OPEN, end);
    await seen(watcher, end);
    const began = performance.now();
    if (end === 'close') await guest.close();
    // It answers nothing.
    else void (await context.newCDPSession(guest)).send('Page.crash').catch(() => {});
    await until('nobody is there', () => watcher.evaluate(() => here.others.length === 0));
    t.diagnostic(`${end}: gone after ${Math.round(performance.now() - began)} ms`);
  }
  assert.deepEqual(watcher.complaints, []);
});

test('a hidden tab is neither away nor gone for those who look', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const watcher = await page(await browse(t, await temporary(t)), url);
  await watcher.evaluate(OPEN, 'watcher');
  const browser = await tabbed(t);
  const guest = await browser.open(url);
  await until('it is loaded', () => guest.evaluate(() => document.readyState === 'complete' && location.protocol === 'http:'));
  await guest.evaluate(async () => { globalThis.foreshore = await import('/dist/index.js'); });
  await guest.evaluate(OPEN, 'hidden');
  await seen(watcher, 'hidden');
  await browser.open('about:blank');
  await until('it is hidden', () => guest.evaluate(() => document.visibilityState === 'hidden'));
  await watcher.evaluate(() => { log.splice(0, log.length - 1); });
  // Nothing is to happen, so there is nothing to wait for but time.
  await new Promise(resolve => setTimeout(resolve, WATCHED));
  assert.deepEqual(await watcher.evaluate(() => log), ['hidden']);
  await seen(watcher, 'hidden');
  // It still hears, too, and goes on where it was.
  await watcher.evaluate(() => here.set({ name: 'looked' }));
  await until('it hears', () => guest.evaluate(() => here.others.some(other => other.value.name === 'looked')));
  await guest.show();
  await until('it is seen again', () => guest.evaluate(() => document.visibilityState === 'visible'));
  await seen(watcher, 'hidden');
  assert.deepEqual(await watcher.evaluate(() => log), ['hidden']);
});
