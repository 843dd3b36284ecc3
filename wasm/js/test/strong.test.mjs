// Strong state in a browser: locks, elections, the tree and queues, with native peers as voters.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browse, group, leading, Native, page, serve, temporary, until } from './support.mjs';

/** Opens a space in a page, with ways to see what it ends in. */
const OPEN = async options => {
  globalThis.space = await foreshore.openSpace(options);
  globalThis.errors = [];
  space.on('error', error => errors.push(`${error.code} ${error.message}`));
  globalThis.bytes = text => new TextEncoder().encode(text);
  globalThis.text = data => new TextDecoder().decode(data);
  globalThis.code = async act => {
    try {
      await act();
      return 'done';
    } catch (error) {
      if (!foreshore.ForeshoreError.is(error)) return String(error);
      return error.hint || error.code === 'TIMEOUT' || error.code === 'ABORTED' ? error.code : `${error.code} without a hint: ${error.message}`;
    }
  };
};

/** Two browsers, each with a page of the space behind the server's. */
async function two(t) {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const pages = [];
  for (let n = 0; n < 2; n++) {
    const tab = await page(await browse(t, await temporary(t)), url);
    await tab.evaluate(OPEN);
    pages.push(tab);
  }
  return { native, pages };
}

const quiet = async (...pages) => {
  for (const page of pages) assert.deepEqual([await page.evaluate(() => errors), page.complaints], [[], []]);
};

test('one page holds a lock at a time, each with a greater token, and waits for its turn', async t => {
  const { pages: [a, b] } = await two(t);
  const first = await a.evaluate(async () => {
    globalThis.lock = await space.locks.acquire('/x');
    return { token: lock.token, mode: lock.mode, aborted: lock.signal.aborted, quorum: space.status.quorum };
  });
  assert.deepEqual([first.mode, first.aborted, Number.isSafeInteger(first.token)], ['exclusive', false, true]);
  await until('the page knows of the quorum', () => a.evaluate(() => space.status.quorum === 'ok'));
  assert.equal(await b.evaluate(() => space.locks.tryAcquire('/x')), null);
  assert.equal(await b.evaluate(() => space.locks.request('/x', { ifAvailable: true }, lock => lock === null)), true);
  assert.equal(await b.evaluate(() => code(() => space.locks.acquire('/x', { deadlineMs: 50 }))), 'TIMEOUT');
  assert.equal(await b.evaluate(() => code(() => space.locks.acquire('/x', { signal: AbortSignal.timeout(50) }))), 'TIMEOUT');
  assert.equal(await b.evaluate(() => code(() => { const stop = new AbortController(); setTimeout(() => stop.abort(), 20); return space.locks.acquire('/x', { signal: stop.signal }); })), 'ABORTED');
  assert.equal(await b.evaluate(() => code(() => space.locks.acquire('no/slash'))), 'INVALID without a hint: "no/slash" is not a path: it begins with a slash');
  // Wishes that were given up stand in nobody's way.
  await until('nobody waits', () => b.evaluate(async () => (await space.locks.query('/x')).waiting === 0));
  const seen = await b.evaluate(() => space.locks.query('/x'));
  assert.deepEqual(seen.held, [{ path: '/x', mode: 'exclusive', owner: { peer: await a.evaluate(() => space.me.peer) }, token: first.token }]);
  await b.evaluate(() => { globalThis.turn = space.locks.request('/x', lock => lock.token); });
  await until('the other waits', () => a.evaluate(async () => (await space.locks.query('/x')).waiting === 1));
  await a.evaluate(() => lock.release());
  assert.ok((await b.evaluate(() => turn)) > first.token);
  await a.evaluate(() => lock.release());
  await quiet(a, b);
});

test('shared locks are held together, and keep whoever wants it alone waiting', async t => {
  const { pages: [a, b] } = await two(t);
  for (const page of [a, b]) await page.evaluate(async () => { globalThis.lock = await space.locks.acquire('/s', { mode: 'shared' }); });
  assert.deepEqual(await a.evaluate(async () => (await space.locks.query('/s')).held.map(held => held.mode)), ['shared', 'shared']);
  assert.equal(await a.evaluate(() => space.locks.tryAcquire('/s')), null);
  await a.evaluate(() => { globalThis.alone = space.locks.request('/s', lock => lock.mode); });
  await until('it waits', () => b.evaluate(async () => (await space.locks.query('/s')).waiting === 1));
  for (const page of [a, b]) await page.evaluate(() => lock.release());
  assert.equal(await a.evaluate(() => alone), 'exclusive');
  const thrown = await a.evaluate(async () => {
    const error = await space.locks.request('/s', () => { throw new Error('mine'); }).catch(error => error.message);
    return [error, (await space.locks.query('/s')).held.length];
  });
  assert.deepEqual(thrown, ['mine', 0], 'a body that throws lets go');
  await quiet(a, b);
});

test('a lock whose voters are silent is lost before anybody else can have it', async t => {
  const { native, pages: [a, b] } = await two(t);
  const token = await a.evaluate(async () => {
    globalThis.lock = await space.locks.acquire('/l', { leaseMs: 2000 });
    globalThis.work = code(() => space.locks.request('/m', { leaseMs: 2000 }, held => new Promise(resolve => held.signal.addEventListener('abort', resolve))));
    while ((await space.locks.query('/m')).held.length === 0) await new Promise(resolve => setTimeout(resolve, 20));
    return lock.token;
  });
  native.process.kill('SIGSTOP');
  t.after(() => native.process.kill('SIGCONT'));
  await until('it is lost', () => a.evaluate(() => lock.signal.aborted));
  assert.equal(await a.evaluate(() => work), 'LEASE_LOST');
  assert.equal(await a.evaluate(() => code(() => lock.release())), 'NOT_HELD');
  assert.equal(await a.evaluate(() => foreshore.ForeshoreError.is(lock.signal.reason, 'LEASE_LOST')), true);
  await until('it says so', () => a.evaluate(() => space.status.quorum === 'lost'));
  native.process.kill('SIGCONT');
  assert.ok((await b.evaluate(() => space.locks.request('/l', lock => lock.token))) > token);
  assert.ok((await a.evaluate(() => space.locks.request('/l', lock => lock.token))) > token, 'and whoever lost it may ask again');
});

test('the leader is seen by all, and the next one follows when it goes', async t => {
  const { pages: [a, b] } = await two(t);
  for (const page of [a, b]) await page.evaluate(() => { globalThis.seen = space.elections.observe('/leader'); });
  await until('nobody leads yet', () => b.evaluate(() => seen.known && seen.leader === null));
  await a.evaluate(() => {
    globalThis.stop = new AbortController();
    globalThis.led = space.elections.lead('/leader', term => new Promise(resolve => stop.signal.addEventListener('abort', () => resolve(term.token))), { value: 'a' });
  });
  await until('it is seen', () => b.evaluate(() => seen.leader?.value === 'a'));
  const first = await b.evaluate(() => seen.leader);
  assert.equal(first.owner.peer, await a.evaluate(() => space.me.peer));
  await b.evaluate(() => { void space.elections.lead('/leader', () => new Promise(() => {}), { value: 'b' }); });
  await a.evaluate(() => stop.abort());
  assert.equal(await a.evaluate(() => led), first.token);
  await until('the next one is seen', () => a.evaluate(() => seen.leader?.value === 'b'));
  assert.ok((await a.evaluate(() => seen.leader.token)) > first.token);
  // A leader whose page is closed is followed as well, when its lease is over.
  await a.evaluate(() => { globalThis.again = new Promise(resolve => { void space.elections.lead('/leader', term => { resolve(term.token); return new Promise(() => {}); }, { value: 'a again' }); }); });
  const second = await a.evaluate(() => seen.leader.token);
  await b.evaluate(() => space.close());
  assert.ok((await a.evaluate(() => again)) > second);
  await quiet(a);
});

test('the tree keeps versions, does all or nothing, and tells watchers what happened', async t => {
  const { pages: [a, b] } = await two(t);
  const outcome = await a.evaluate(async () => {
    const { tree } = space;
    const made = await tree.create('/app/config', bytes('one'), { parents: true });
    const got = await tree.get('/app/config', { consistency: 'linearizable' });
    const set = await tree.set('/app/config', bytes('two'), { version: 0 });
    const names = [];
    for (let n = 0; n < 2; n++) names.push((await tree.create('/app/item-', bytes('x'), { sequential: true })).path);
    const multi = await tree.multi([{ check: '/app/config', version: 1 }, { create: '/app/c' }, { set: '/app/c', data: bytes('y') }, { delete: names[0] }]);
    return {
      made: [made.path, made.stat.version, made.stat.bytes], got: [text(got.data), got.stat.children], set: set.version, names,
      multi: multi.map(stat => stat && stat.version), children: await tree.children('/app'),
      codes: [
        await code(() => tree.set('/app/config', bytes('z'), { version: 0 })), await code(() => tree.create('/app/config')), await code(() => tree.delete('/app')),
        await code(() => tree.delete('/none')), await code(() => tree.children('/none')), await code(() => tree.create('/a/b')), await code(() => tree.set('/app/c', new Uint8Array(2 ** 20 + 1))),
        await code(() => tree.multi([{ create: '/app/d' }, { delete: '/none' }])),
      ],
      none: await tree.get('/none'), half: await tree.get('/app/d'), large: (await tree.set('/app/c', new Uint8Array(2 ** 20).fill(7))).bytes,
    };
  });
  assert.deepEqual(outcome.made, ['/app/config', 0, 3]);
  assert.deepEqual([outcome.got, outcome.set], [['one', 0], 1]);
  assert.deepEqual(outcome.names, ['/app/item-0000000001', '/app/item-0000000002']);
  assert.deepEqual([outcome.multi, outcome.children], [[null, 0, 1, null], ['c', 'config', 'item-0000000002']]);
  assert.deepEqual(outcome.codes, ['BAD_VERSION', 'EXISTS', 'NOT_EMPTY', 'NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND', 'TOO_LARGE', 'NOT_FOUND']);
  assert.deepEqual([outcome.none, outcome.half, outcome.large], [null, null, 2 ** 20]);

  await b.evaluate(async () => {
    globalThis.told = [];
    globalThis.below = [];
    const follow = async (events, list) => { for await (const { type, path } of events) list.push(`${type} ${path}`); };
    void follow(space.tree.watch('/app/live'), told);
    void follow(space.tree.watch('/app', { recursive: true }), below);
    // The answer to a later request comes after the watches are set.
    await space.tree.get('/app');
  });
  await a.evaluate(async () => {
    await space.tree.create('/app/live', bytes('1'), { ephemeral: true });
    await space.tree.set('/app/live', bytes('2'));
  });
  await until('it is told', () => b.evaluate(() => told.length >= 2 && below.length >= 2));
  assert.deepEqual(await b.evaluate(() => told), ['created /app/live', 'changed /app/live']);
  assert.deepEqual(await b.evaluate(() => below), ['created /app/live', 'changed /app/live']);
  assert.equal(await b.evaluate(async () => (await space.tree.get('/app/live')).stat.ephemeralOwner.length), 16);
  await a.evaluate(() => space.close());
  await until('what is ephemeral goes with its page', () => b.evaluate(() => told.includes('deleted /app/live')));
  await quiet(b);
});

test('an item of a queue is worked on by one at a time, and put aside when nobody manages', async t => {
  const { pages: [a, b] } = await two(t);
  await a.evaluate(async () => {
    globalThis.queue = space.queue('/jobs');
    for (const what of ['one', 'two']) await queue.put(bytes(what), { maxAttempts: 2 });
  });
  await b.evaluate(() => { globalThis.queue = space.queue('/jobs'); });
  const claim = page => page.evaluate(async () => {
    globalThis.item = await queue.claim();
    return item && [text(item.body), item.attempt];
  });
  assert.deepEqual([await claim(a), await claim(b)], [['one', 1], ['two', 1]]);
  assert.deepEqual(await a.evaluate(() => queue.state()), { ready: 0, claimed: 2, dead: [] });
  await a.evaluate(() => item.ack());
  assert.equal(await a.evaluate(() => code(() => item.ack())), 'NOT_FOUND');
  await a.evaluate(() => { globalThis.next = queue.take({ visibilityMs: 60_000 }).then(found => { globalThis.item = found; return [text(found.body), found.attempt]; }); });
  await b.evaluate(() => item.nack());
  assert.deepEqual(await a.evaluate(() => next), ['two', 2]);
  assert.equal(await b.evaluate(() => code(() => item.ack())), 'NOT_HELD');
  await a.evaluate(() => item.nack());
  const dead = await b.evaluate(async () => (await queue.state()).dead);
  assert.equal(dead.length, 1);
  await b.evaluate(number => queue.revive(number), dead[0]);
  assert.deepEqual(await claim(b), ['two', 1]);
  assert.equal(await a.evaluate(() => queue.claim()), null);
  await quiet(a, b);
});

test('a lock is its tab\'s: other tabs of the browser wait, and get it when the tab is closed or crashes', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  let host = await page(context, url);
  await host.evaluate(OPEN);
  let token = 0;
  for (const end of ['close', 'crash']) {
    let guest = await page(context, url);
    await guest.evaluate(OPEN);
    // On a busy machine the host may have seemed frozen while the other one opened, and is the guest from then on.
    const role = tab => tab.evaluate(() => space.status.role);
    await until('one of them hosts', async () => {
      const roles = [await role(host), await role(guest)];
      if (roles.join() === 'guest-tab,host-tab') [host, guest] = [guest, host];
      return roles[0] !== roles[1];
    });
    const held = await guest.evaluate(async () => { globalThis.lock = await space.locks.acquire('/t'); return lock.token; });
    assert.ok(held > token);
    assert.equal(await host.evaluate(() => space.locks.tryAcquire('/t')), null);
    const next = host.evaluate(() => space.locks.request('/t', lock => lock.token));
    await until('it waits', () => guest.evaluate(async () => (await space.locks.query('/t')).waiting === 1));
    if (end === 'close') await guest.close();
    else {
      // The process is gone before anybody could say anything.
      const session = await context.newCDPSession(guest);
      void session.send('Page.crash').catch(() => {});
    }
    token = await next;
    assert.ok(token > held, end);
  }
  assert.deepEqual(await host.evaluate(() => errors), []);
});

test('when the tab that hosts goes, what its guests hold is lost and said to be, and can be had again', async t => {
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  const context = await browse(t, await temporary(t));
  const [host, guest] = [await page(context, url), await page(context, url)];
  await host.evaluate(OPEN);
  await guest.evaluate(OPEN);
  const token = await guest.evaluate(async () => {
    globalThis.lock = await space.locks.acquire('/t', { leaseMs: 3000 });
    globalThis.seen = [];
    void (async () => { for await (const event of space.tree.watch('/w')) seen.push(event.type); })();
    await space.tree.get('/w');
    return lock.token;
  });
  await host.close();
  await until('it is lost', () => guest.evaluate(() => lock.signal.aborted && foreshore.ForeshoreError.is(lock.signal.reason, 'LEASE_LOST')));
  assert.ok((await guest.evaluate(() => space.locks.request('/t', lock => lock.token))) > token);
  await until('watches are set again', () => guest.evaluate(() => seen.includes('resync')));
  await guest.evaluate(() => space.tree.create('/w'));
  await until('and tell', () => guest.evaluate(() => seen.includes('created')));
  assert.equal(await guest.evaluate(() => space.status.role), 'host-tab');
});

test('a lock outlives the voter that leads, and without a majority nothing is granted', async t => {
  const voters = await group(t);
  const { url } = await serve(t);
  const pages = [];
  for (let n = 0; n < 2; n++) {
    const tab = await page(await browse(t, await temporary(t)), url);
    const { invitation } = await voters[0].ask({ invite: 'writer' });
    await tab.evaluate(OPEN, { space: invitation, peers: voters.map(voter => voter.ws) });
    await until('the page is linked with every voter', () => tab.evaluate(() => space.status.peers.length === 3));
    pages.push(tab);
  }
  const [a, b] = pages;
  const token = await a.evaluate(async () => {
    globalThis.lock = await space.locks.acquire('/x', { leaseMs: 30_000 });
    globalThis.counts = 0;
    return lock.token;
  });
  await b.evaluate(() => { globalThis.seen = space.elections.observe('/leader'); void space.elections.lead('/leader', () => new Promise(() => {}), { value: 'b' }); });
  await until('it leads', () => a.evaluate(async () => { globalThis.seen ??= space.elections.observe('/leader'); return seen.leader?.value === 'b'; }));
  const leader = await leading(voters);
  const left = voters.filter(voter => voter !== leader);
  await leader.stop('SIGKILL');
  // Work goes on with the two that are left, under the lock of before.
  for (let n = 0; n < 5; n++) await a.evaluate(n => space.tree.create(`/n${n}`), n);
  assert.deepEqual(await a.evaluate(async () => [lock.signal.aborted, (await space.locks.query('/x')).held[0]?.token]), [false, token]);
  assert.equal(await b.evaluate(() => space.locks.tryAcquire('/x')), null);
  assert.equal(await a.evaluate(() => seen.leader?.value), 'b');
  const next = b.evaluate(() => space.locks.request('/x', lock => lock.token));
  await until('it waits', () => a.evaluate(async () => (await space.locks.query('/x')).waiting === 1));
  await a.evaluate(() => lock.release());
  assert.ok((await next) > token);
  assert.equal((await leading(left)).process.exitCode, null);
  // One of three is no majority.
  await left[0].stop('SIGKILL');
  await until('the quorum is seen to be lost', () => a.evaluate(() => space.status.quorum === 'lost'));
  assert.deepEqual(await Promise.all([a.evaluate(() => code(() => space.locks.acquire('/y'))), b.evaluate(() => code(() => space.tree.get('/n0', { consistency: 'linearizable' })))]), ['NO_QUORUM', 'NO_QUORUM']);
});
