// Several tabs of one browser: one hosts the engine, the others follow, and take over when it goes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, Native, page, serve, temporary, until } from './support.mjs';

const OPEN = async () => {
  const { openSpace, template, text, counter } = foreshore;
  globalThis.errors = [];
  globalThis.space = await openSpace();
  space.on('error', error => errors.push(`${error.code} ${error.message}`));
  globalThis.doc = await space.document('/tabs', template({ body: text(), votes: counter(), log: [] }));
  globalThis.here = space.presence('/room', { name: String(Math.random()) });
};

const state = async tabs => JSON.stringify(await Promise.all(tabs.map(tab => tab.evaluate(() => ({ votes: doc.value.votes, role: space.status.role, errors, others: here.others.length })))));

test('tabs share one engine, one peer and what they show', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  const tabs = [];
  for (let n = 0; n < 3; n++) tabs.push(await page(context, url));
  await Promise.all(tabs.map(tab => tab.evaluate(OPEN)));
  const roles = await Promise.all(tabs.map(tab => tab.evaluate(() => space.status.role)));
  assert.deepEqual(roles.sort(), ['guest-tab', 'guest-tab', 'host-tab']);
  const peers = new Set(await Promise.all(tabs.map(tab => tab.evaluate(() => `${space.id} ${space.me.peer}`))));
  assert.equal(peers.size, 1);
  await Promise.all(tabs.map((tab, who) => tab.evaluate(async who => {
    for (let n = 0; n < 40; n++) {
      doc.change(d => { d.body.splice(d.body.length, 0, String(who)); d.votes.add(1); d.log.push({ who, n }); });
      if (n % 5 === 0) await new Promise(resolve => setTimeout(resolve, 3));
    }
    await doc.flushed();
  }, who)));
  await until(() => state(tabs), async () => {
    const values = await Promise.all(tabs.map(tab => tab.evaluate(() => JSON.stringify(doc.value))));
    return values.every(value => value === values[0]) && JSON.parse(values[0]).votes === 120;
  });
  await tabs[0].evaluate(() => doc.synced());
  assert.equal((await native.value('/tabs')).log.length, 120);
  await until(() => state(tabs), async () => (await Promise.all(tabs.map(tab => tab.evaluate(() => here.others.length)))).every(n => n === 2));
  // A guest that goes takes what it showed along.
  const guest = (await Promise.all(tabs.map(async tab => [tab, await tab.evaluate(() => space.status.role)]))).find(([, role]) => role === 'guest-tab')[0];
  await guest.close();
  const left = tabs.filter(tab => tab !== guest);
  await until(() => state(left), async () => (await Promise.all(left.map(tab => tab.evaluate(() => here.others.length)))).every(n => n === 1));
  for (const tab of left) assert.deepEqual([await tab.evaluate(() => errors), tab.complaints], [[], []]);
});

test('when the host tab dies another takes over, and nothing that was flushed is lost', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  const tabs = [await page(context, url), await page(context, url)];
  for (const tab of tabs) await tab.evaluate(OPEN);
  const kills = 20;
  const took = [];
  let written = 0;
  for (let kill = 0; kill < kills; kill++) {
    const roles = await Promise.all(tabs.map(tab => tab.evaluate(() => space.status.role)));
    const hosting = roles.indexOf('host-tab');
    assert.notEqual(hosting, -1, `round ${kill}: ${roles}`);
    const [host, guest] = [tabs[hosting], tabs[1 - hosting]];
    for (const tab of tabs) {
      await tab.evaluate(async () => { for (let n = 0; n < 5; n++) doc.change(d => { d.votes.add(1); d.log.push(n); }); await doc.flushed(); });
      written += 5;
    }
    // The guest types on while its host dies.
    const typing = guest.evaluate(async () => {
      let longest = 0;
      for (let n = 0; n < 30; n++) {
        const began = performance.now();
        await doc.change(d => { d.votes.add(1); d.log.push(n); }).saved;
        longest = Math.max(longest, performance.now() - began);
        if (n === 5) globalThis.ready = true;
        await new Promise(resolve => setTimeout(resolve, 5));
      }
      return longest;
    });
    await until('the guest types', () => guest.evaluate(() => globalThis.ready === true));
    await host.close({ runBeforeUnload: false });
    took.push(await typing);
    written += 30;
    const { votes, entries, role, wrong } = await guest.evaluate(() => {
      globalThis.ready = false;
      return { votes: doc.value.votes, entries: doc.value.log.length, role: space.status.role, wrong: errors };
    });
    assert.deepEqual({ votes, entries, wrong }, { votes: written, entries: written, wrong: [] }, `round ${kill}`);
    await until(() => state([guest]), () => guest.evaluate(() => space.status.role === 'host-tab'));
    void role;
    const fresh = await page(context, url);
    await fresh.evaluate(OPEN);
    await until(() => state([guest, fresh]), async () => (await fresh.evaluate(() => doc.value.votes)) === written);
    tabs.splice(0, 2, guest, fresh);
  }
  took.sort((a, b) => a - b);
  t.diagnostic(`takeover: median ${Math.round(took[took.length >> 1])} ms, longest ${Math.round(took.at(-1))} ms over ${took.length}`);
  await tabs[0].evaluate(() => doc.synced());
  const there = await native.value('/tabs');
  assert.deepEqual([there.votes, there.log.length], [written, written]);
  const members = (await native.run('members', '--json')).trim().split('\n').length;
  assert.equal(members, 2, 'one browser is one member');
});

test('an edit that a dying host stored and told nobody of is made once', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  const [host, guest] = [await page(context, url), await page(context, url)];
  // The host as it is once its page is dead and its worker not yet: the worker takes in one more edit, and nobody hears what it says.
  await host.evaluate(() => {
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...more) {
      if (globalThis.dying && message.request?.do === 'edit') this.onmessage = () => {};
      return post.call(this, message, ...more);
    };
  });
  for (const tab of [host, guest]) await tab.evaluate(OPEN);
  assert.deepEqual(await Promise.all([host, guest].map(tab => tab.evaluate(() => space.status.role))), ['host-tab', 'guest-tab']);
  await host.evaluate(() => { globalThis.dying = true; });
  await guest.evaluate(() => { globalThis.saved = doc.change(d => { d.votes.add(1); d.log.push('once'); }).saved; });
  await until('the peer has the edit', async () => (await native.value('/tabs'))?.votes === 1);
  assert.equal(await guest.evaluate(() => doc.state.pending), 1);
  await host.close({ runBeforeUnload: false });
  await guest.evaluate(() => globalThis.saved);
  await guest.evaluate(() => doc.synced());
  assert.deepEqual(await guest.evaluate(() => [doc.value.votes, doc.value.log, errors]), [1, ['once'], []]);
  const there = await native.value('/tabs');
  assert.deepEqual([there.votes, there.log], [1, ['once']]);
});

test('what a dying host left unanswered, the next one answers', async t => {
  const { url } = await serve(t);
  const context = await browse(t, await temporary(t));
  const [host, guest] = [await page(context, url), await page(context, url)];
  // A host whose worker hears nothing more.
  await host.evaluate(() => {
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...more) {
      if (!globalThis.dying) return post.call(this, message, ...more);
    };
  });
  for (const tab of [host, guest]) await tab.evaluate(OPEN);
  assert.deepEqual(await Promise.all([host, guest].map(tab => tab.evaluate(() => space.status.role))), ['host-tab', 'guest-tab']);
  await guest.evaluate(async () => {
    doc.change(d => { d.body.splice(0, 0, 'shore'); d.votes.add(1); });
    await doc.flushed();
    globalThis.entries = await space.soft('/places');
    entries.set('kept', 1);
    entries.set('dropped', 1);
    globalThis.body = doc.text(d => d.body);
  });
  await until('both entries are here', () => guest.evaluate(() => entries.entries().length === 2));
  await host.evaluate(() => { globalThis.dying = true; });
  await guest.evaluate(() => {
    entries.set('kept', 2);
    entries.delete('dropped');
    here.set({ name: 'guest' });
    globalThis.asked = Promise.all([
      body.cursor(2).then(cursor => body.locate([cursor])),
      doc.at(doc.heads).then(value => value.votes),
      doc.conflicts(d => d.votes).then(found => found.length),
      space.list('/').then(({ items }) => items[0].path),
      space.soft('/late').then(late => late.entries().length),
      space.document('/later', foreshore.template({ n: foreshore.counter() })).then(later => later.change(d => { d.n.add(3); }).saved).then(heads => heads.length),
    ]);
  });
  await host.close({ runBeforeUnload: false });
  assert.deepEqual(await guest.evaluate(() => asked), [[2], 1, 1, '/tabs', 0, 1]);
  await until('it shows what the guest set', () => guest.evaluate(() => JSON.stringify(entries.entries().map(entry => [entry.key, entry.value])) === '[["kept",2]]'));
  assert.deepEqual(await guest.evaluate(() => [space.status.role, errors]), ['host-tab', []]);
});

test('a tab of an older version gives the store up when a newer one opens', async t => {
  const { url } = await serve(t);
  const context = await browse(t, await temporary(t));
  const [older, newer] = [await page(context, url), await page(context, url)];
  await older.evaluate(OPEN);
  await older.evaluate(() => doc.change(d => { d.votes.add(1); }).saved);
  // What a newer version says of itself; the other tab here plays it, with the version's number alone.
  await newer.evaluate(() => new BroadcastChannel('foreshore:foreshore:version').postMessage(1_000));
  await until(() => older.evaluate(() => JSON.stringify(errors)), () => older.evaluate(() => space.closed.aborted && errors.some(error => error.startsWith('INCOMPATIBLE'))));
  await newer.evaluate(OPEN);
  assert.deepEqual(await newer.evaluate(() => [doc.value.votes, space.status.role]), [1, 'host-tab']);
});
