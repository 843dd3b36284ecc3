// Two browsers that nobody can dial, and a native peer that carries what they say to each other without understanding it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, Native, page, serve, temporary, until } from './support.mjs';

test('two browsers are in step through a relay that is no member of their space', async t => {
  const relay = await Native.start(t, await temporary(t), 0, ['--relay']);
  assert.match(relay.ws, /\/p2p\/[^/]+$/, 'it says who it is');
  const { url } = await serve(t);
  const [a, b] = [await page(await browse(t, await temporary(t)), url), await page(await browse(t, await temporary(t)), url)];
  const open = async (page, options) => page.evaluate(async ({ space: invitation, ...options }) => {
    const { openSpace, createSpace, template, text } = foreshore;
    globalThis.space = invitation ? await openSpace({ ...options, space: invitation }) : await createSpace(options);
    globalThis.doc = await space.document('/note', template({ body: text(), items: [] }));
    return { peer: space.me.peer, id: space.id };
  }, options);
  const first = await open(a, { relays: [relay.ws] });
  const invitation = await a.evaluate(() => space.invite({ role: 'writer' }));
  await open(b, { space: invitation, peers: [`${relay.ws}/p2p-circuit/p2p/${first.peer}`] });
  for (const tab of [a, b]) {
    await until(() => tab.evaluate(() => JSON.stringify(space.status)), () => tab.evaluate(() => space.status.peers.length === 1 && space.status.peers[0].transport === 'relay' && space.status.caughtUp));
  }
  await Promise.all([a, b].map((tab, who) => tab.evaluate(async who => {
    for (let n = 0; n < 20; n++) {
      doc.change(d => { d.body.splice(d.body.length, 0, String(who)); d.items.push({ who, n }); });
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    await doc.synced();
  }, who)));
  const value = tab => tab.evaluate(() => JSON.stringify(doc.value));
  await until('both show the same', async () => (await value(a)) === (await value(b)) && JSON.parse(await value(a)).items.length === 40);
  assert.equal((await relay.run('space', 'list', '--json')).includes(first.id), false);
  // A relay that comes back is found again, and so is the other browser.
  const port = relay.port;
  const data = relay.data;
  await relay.stop('SIGKILL');
  await until('each is alone', async () => (await a.evaluate(() => space.status.peers.length)) === 0 && (await b.evaluate(() => space.status.peers.length)) === 0);
  await a.evaluate(() => doc.change(d => { d.items.push({ who: 'a', n: 'alone' }); }).saved);
  await Native.start(t, data, port, ['--relay']);
  await until('it is carried again', async () => JSON.parse(await value(b)).items.length === 41);
  const complaints = [...a.complaints, ...b.complaints].filter(text => !/WebSocket connection to/.test(text));
  assert.deepEqual(complaints, []);
});

test('pages of a peer that relays reach each other through it by themselves', async t => {
  const native = await Native.start(t, await temporary(t), 0, ['--relay']);
  const { url } = await serve(t, () => native);
  const tabs = [];
  for (let n = 0; n < 2; n++) {
    const tab = await page(await browse(t, await temporary(t)), url);
    await tab.evaluate(async () => { globalThis.space = await foreshore.openSpace(); });
    tabs.push(tab);
  }
  for (const tab of tabs) {
    await until(() => tab.evaluate(() => JSON.stringify(space.status.peers)), () => tab.evaluate(() => space.status.peers.map(peer => peer.transport).sort().join() === 'relay,ws'));
    assert.deepEqual(tab.complaints, []);
  }
});
