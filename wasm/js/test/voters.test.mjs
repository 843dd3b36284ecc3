// A group of voters made of wasm engines in Node: the same consensus, the same state machine, no native peer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSpace, ForeshoreError } from '../dist/node.js';
import { memoryNetwork } from '../dist/testing.js';

/** A network that ends with the test; Node waits for neither an engine nor a promise. */
function network(t) {
  const net = memoryNetwork();
  const alive = setInterval(() => {}, 1000);
  t.after(async () => { await net.close(); clearInterval(alive); });
  return net;
}

async function until(what, reached) {
  for (const end = Date.now() + 60_000; ; ) {
    const value = await reached();
    if (value) return value;
    assert.ok(Date.now() < end, `waited in vain until ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

const group = space => space.engine.call({ do: 'coordination', space: space.id });

const refused = async (code, act) => {
  const error = await act().then(() => null, error => error);
  assert.ok(ForeshoreError.is(error, code), `${code}, not ${error?.code}: ${error?.message}`);
  return error;
};

test('three wasm voters elect a leader, and a lock outlives it', async t => {
  const net = network(t);
  const voters = [];
  for (let n = 0; n < 3; n++) voters.push(await net.open({ votes: true }));
  const [client, other] = [await net.open(), await net.open()];
  for (const voter of voters) await until('all know of three voters', async () => (await group(voter)).voters.length === 3);
  const leader = await until('one leads', () => net.leader());

  const lock = await client.locks.acquire('/x', { leaseMs: 60_000 });
  await client.tree.create('/before', new TextEncoder().encode('kept'));
  const term = (await group(leader)).term;
  const left = voters.filter(voter => voter !== leader);
  await net.kill(leader);
  const next = await until('another leads', () => net.leader());
  assert.ok(left.includes(next) && (await group(next)).term > term);

  assert.equal(lock.signal.aborted, false);
  assert.equal(await other.locks.tryAcquire('/x'), null, 'it is still held');
  assert.deepEqual((await other.locks.query('/x')).held.map(held => [held.token, held.owner.peer]), [[lock.token, client.me.peer]]);
  assert.equal(new TextDecoder().decode((await other.tree.get('/before', { consistency: 'linearizable' })).data), 'kept');
  const turn = other.locks.request('/x', held => held.token);
  await until('it waits', async () => (await client.locks.query('/x')).waiting === 1);
  await lock.release();
  assert.ok((await turn) > lock.token);
  await until('both replicas are the same, byte for byte', async () => {
    const [a, b] = await Promise.all(left.map(group));
    return a.applied === b.applied && a.digest === b.digest;
  });

  // One of three is no majority: nothing is granted, and whoever asks is told.
  await net.kill(next);
  await until('the quorum is lost', () => client.status.quorum === 'lost');
  const error = await refused('NO_QUORUM', () => client.locks.acquire('/y'));
  assert.deepEqual([error.retryable, error.hint.length > 0], [true, true]);
});

test('on the minority side of a cut nothing is granted, and what was held there is lost', async t => {
  const net = network(t);
  const voters = [];
  for (let n = 0; n < 3; n++) voters.push(await net.open({ votes: true }));
  for (const voter of voters) await until('all know of three voters', async () => (await group(voter)).voters.length === 3);
  const leader = await until('one leads', () => net.leader());
  const others = voters.filter(voter => voter !== leader);
  const lock = await leader.locks.acquire('/x', { leaseMs: 1500 });
  for (const voter of others) await net.cut(leader, voter);
  await until('the lease is in doubt', () => lock.signal.aborted);
  assert.ok(ForeshoreError.is(lock.signal.reason, 'LEASE_LOST'));
  const token = await others[0].locks.request('/x', held => held.token);
  assert.ok(token > lock.token, 'the majority grants it anew');
  for (const voter of others) await net.heal(leader, voter);
  assert.ok((await leader.locks.request('/x', held => held.token)) > token);
});

test('who is no voter cannot become one, and is told why', async t => {
  const net = network(t);
  const [voter, page] = [await net.open({ votes: true }), await net.open()];
  await until('it leads', () => net.leader());
  await page.engine.call({ do: 'join', invitation: await voter.invite({ role: 'voter' }), name: null });
  const add = () => voter.engine.call({ do: 'changeVoters', space: voter.id, change: 'add', peer: page.me.peer });
  // Until its right is known it is refused for that.
  const error = await until('it is refused for good', async () => {
    const error = await add().then(() => null, error => error);
    return error?.code === 'UNSUPPORTED' ? error : null;
  });
  assert.match(error.message, /never votes/);
  assert.deepEqual((await group(voter)).voters, [voter.me.peer]);
  const own = await createSpace({ engine: 'inline', storage: 'memory' });
  t.after(() => own.close());
  const none = await refused('NO_QUORUM', () => own.locks.acquire('/x'));
  assert.match(none.message, /no voters/);
  const later = network(t);
  await later.open();
  await refused('UNSUPPORTED', () => later.open({ votes: true }));
});
