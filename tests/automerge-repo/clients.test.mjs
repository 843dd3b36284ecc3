// Clients of automerge-repo, unchanged, at the doors of real peers.
import assert from 'node:assert/strict';
import { spawn, execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { Repo, parseAutomergeUrl, stringifyAutomergeUrl, generateAutomergeUrl } from '@automerge/automerge-repo';
import { WebSocketClientAdapter } from '@automerge/automerge-repo-network-websocket';
import { NodeFSStorageAdapter } from '@automerge/automerge-repo-storage-nodefs';

const BINARY = process.env.FORESHORE_BIN;
const PATIENCE = 60_000;
const DOCUMENTS = 200;

async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise(resolve => setTimeout(resolve, 25));
  }
}

/** Gone with the process: a client's storage writes on for a while after its test. */
function temporary() {
  const directory = mkdtempSync(join(tmpdir(), 'foreshore-repo-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** A peer with its doors open. */
class Peer {
  static async start(t, data, { door = '127.0.0.1:0', more = [] } = {}) {
    const peer = new Peer();
    peer.data = data;
    const args = ['--data', data, '--json', 'run', '--http', '127.0.0.1:0', '--http-api', '--listen', '/ip4/127.0.0.1/tcp/0'];
    peer.process = spawn(BINARY, [...args, '--automerge-repo', door, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
    let log = '';
    peer.process.stderr.on('data', bytes => { log += bytes; });
    peer.exited = new Promise(resolve => peer.process.on('exit', resolve));
    t.after(() => peer.stop());
    const line = await new Promise((resolve, reject) => {
      createInterface({ input: peer.process.stdout }).once('line', resolve);
      void peer.exited.then(code => reject(new Error(`the peer ended with ${code}:\n${log}`)));
    });
    const { status } = JSON.parse(line);
    peer.door = status.automerge_repo;
    peer.http = status.http;
    peer.status = status;
    return peer;
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.exited;
  }

  async cli(...args) {
    const { stdout } = await promisify(execFile)(BINARY, ['--data', this.data, ...args]);
    return stdout;
  }

  async read(document) {
    const answer = await fetch(`http://${this.http}/v1/documents/automerge/${document}`);
    return answer.ok ? await answer.json() : undefined;
  }

  async put(document, value) {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`http://${this.http}/v1/documents/automerge/${document}`, { method: 'PUT', headers, body: JSON.stringify(value) });
    assert.ok(answer.ok, await answer.text());
  }

  async patch(document, patch) {
    const answer = await fetch(`http://${this.http}/v1/documents/automerge/${document}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify(patch),
    });
    assert.ok(answer.ok, await answer.text());
  }
}

/** A client; `storage` keeps its documents in a directory. */
function repo(t, door, { storage, query = '' } = {}) {
  const adapter = new WebSocketClientAdapter(`ws://${door}/${query}`, 200);
  const made = new Repo({
    network: [adapter],
    storage: storage && new NodeFSStorageAdapter(storage),
    enableRemoteHeadsGossiping: true,
  });
  t.after(() => adapter.disconnect());
  made.adapter = adapter;
  return made;
}

const idOf = url => parseAutomergeUrl(url).documentId;
/** A document that another client has just made. */
const found = (client, url) => until(`${url} is found`, () => client.find(url).catch(() => undefined));

const same = (...handles) => handles.every(handle => JSON.stringify(handle.heads()) === JSON.stringify(handles[0].heads()));

test('two clients and the peer edit one document, and the door is closed and opened in between', { timeout: 180_000 }, async t => {
  const data = join(temporary(), 'data');
  let peer = await Peer.start(t, data);
  const [one, two] = [repo(t, peer.door, { storage: temporary() }), repo(t, peer.door)];
  const mine = one.create({ title: 'plans', steps: ['a'] });
  const theirs = await found(two, mine.url);
  assert.deepEqual(theirs.doc(), { title: 'plans', steps: ['a'] });
  theirs.change(doc => { doc.steps.push('b'); });
  await until('the first hears of it', () => mine.doc().steps.length === 2);

  // The peer itself.
  const id = idOf(mine.url);
  await until('the peer has it', async () => (await peer.read(id))?.steps?.length === 2);
  await peer.patch(id, { by: 7 });
  await until('both hear of it', () => mine.doc().by === 7 && theirs.doc().by === 7);

  // Everybody edits while the door is closed.
  const door = peer.door;
  await peer.stop('SIGKILL');
  mine.change(doc => { doc.steps.push('c'); });
  theirs.change(doc => { doc.title = 'other plans'; });
  peer = await Peer.start(t, data, { door });
  await peer.patch(id, { again: true });
  await until('all three have everything', async () => {
    const value = await peer.read(id);
    return same(mine, theirs) && mine.doc().again && mine.doc().steps.includes('c') && mine.doc().title === 'other plans'
      && JSON.stringify(value?.steps) === JSON.stringify(mine.doc().steps) && value.title === 'other plans';
  });
  assert.deepEqual(mine.doc(), theirs.doc());
});

test('what is created without content is a document like others', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const [one, two] = [repo(t, peer.door), repo(t, peer.door)];
  const mine = one.create();
  mine.change(doc => { doc.text = 'hello'; });
  const theirs = await found(two, mine.url);
  await until('its content is there', () => theirs.doc().text === 'hello');
  assert.equal((await peer.read(idOf(mine.url))).text, 'hello');
});

test('clients at the doors of two peers', { timeout: 180_000 }, async t => {
  const home = temporary();
  const first = await Peer.start(t, join(home, 'first'));
  const invitation = (await first.cli('--json', 'invite')).trim();
  const secondData = join(home, 'second');
  await new Promise((resolve, reject) => {
    const join = spawn(BINARY, ['--data', secondData, 'join', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
    join.on('exit', code => (code === 0 ? resolve() : reject(new Error(`join: ${code}`))));
    join.stdin.end(JSON.parse(invitation).link ?? JSON.parse(invitation).invitation);
  });
  const second = await Peer.start(t, secondData);
  const [one, two] = [repo(t, first.door), repo(t, second.door)];
  const mine = one.create({ n: 0 });
  await until('the second peer has it', () => second.read(idOf(mine.url)));
  const theirs = await found(two, mine.url);
  for (let n = 1; n <= 20; n++) (n % 2 ? mine : theirs).change(doc => { doc[`k${n}`] = n; });
  await until('they are the same', () => same(mine, theirs) && Object.keys(mine.doc()).length === 21);

  // What is passed on and kept nowhere goes from door to door.
  const heard = [];
  theirs.on('ephemeral-message', ({ message }) => heard.push(message));
  await until('a signal arrives', () => {
    mine.broadcast({ cursor: 7 });
    return heard.length > 0;
  });
  assert.deepEqual(heard[0], { cursor: 7 });
});

test('what is passed on reaches whoever has the document open, once', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const [one, two, three] = [repo(t, peer.door), repo(t, peer.door), repo(t, peer.door)];
  const mine = one.create({});
  const theirs = await found(two, mine.url);
  const elsewhere = three.create({});
  await until('the third has its document there', () => peer.read(idOf(elsewhere.url)));
  const [heard, own, others] = [[], [], []];
  theirs.on('ephemeral-message', ({ message }) => heard.push(message.n));
  mine.on('ephemeral-message', ({ message }) => own.push(message.n));
  elsewhere.on('ephemeral-message', ({ message }) => others.push(message.n));
  for (let n = 0; n < 50; n++) mine.broadcast({ n });
  await until('all have come', () => heard.length === 50);
  theirs.broadcast({ n: 'back' });
  await until('the answer has come', () => own.length === 1);
  assert.deepEqual(heard, Array.from({ length: 50 }, (_, n) => n));
  assert.deepEqual([own, others], [['back'], []]);
});

test('a document that nobody has is unavailable, and there when it is made', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const client = repo(t, peer.door);
  const url = generateAutomergeUrl();
  await assert.rejects(client.find(url), /unavailable/);
  await peer.put(idOf(url), { made: 1 });
  const handle = await found(client, url);
  assert.deepEqual(handle.doc(), { made: 1 });

  // Deleted at the peer: a client that comes for it is told so.
  const deleted = repo(t, peer.door);
  await fetch(`http://${peer.http}/v1/documents/automerge/${idOf(url)}`, { method: 'DELETE' });
  await assert.rejects(deleted.find(url), /unavailable/);
});

test(`${DOCUMENTS} documents open at once`, { timeout: 240_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const [one, two] = [repo(t, peer.door), repo(t, peer.door)];
  const mine = Array.from({ length: DOCUMENTS }, (_, n) => one.create({ n }));
  const theirs = await Promise.all(mine.map(handle => found(two, handle.url)));
  theirs.forEach((handle, n) => handle.change(doc => { doc.seen = n; }));
  await until('all have come back', () => mine.every((handle, n) => handle.doc().seen === n));
  const status = await (await fetch(`http://${peer.http}/status`)).json();
  assert.equal(status.hot_documents ?? status.documents?.hot ?? 0, 0, 'no document is hydrated for it');
});

test('what a storage has is told to who asks', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const [one, two] = [repo(t, peer.door, { storage: temporary() }), repo(t, peer.door)];
  const mine = one.create({ n: 1 });
  const theirs = await found(two, mine.url);
  const storage = await one.storageId();
  two.subscribeToRemotes([storage]);
  mine.change(doc => { doc.n = 2; });
  const info = await until('the heads are told', () => {
    const found = theirs.getSyncInfo(storage);
    return found && JSON.stringify(found.lastHeads) === JSON.stringify(mine.heads()) && found;
  });
  assert.ok(info.lastSyncTimestamp > 0);
});

test('a token opens what it is for, and no more', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const writer = repo(t, peer.door);
  const mine = writer.create({ n: 1 });
  await until('the peer has it', () => peer.read(idOf(mine.url)));
  const { token } = JSON.parse(await peer.cli('--json', 'token', 'create', '--path', '/automerge'));
  const reader = repo(t, peer.door, { query: `?token=${token}` });
  const theirs = await found(reader, mine.url);
  theirs.change(doc => { doc.n = 99; });
  mine.change(doc => { doc.m = 2; });
  await until('the reader reads', () => theirs.doc().m === 2);
  assert.equal((await peer.read(idOf(mine.url))).n, 1);
  assert.equal(mine.doc().n, 1);

  const elsewhere = JSON.parse(await peer.cli('--json', 'token', 'create', '--path', '/other')).token;
  await assert.rejects(repo(t, peer.door, { query: `?token=${elsewhere}` }).find(mine.url), /unavailable/);
  const refused = await fetch(`http://${peer.door}/?token=fst_wrong`);
  assert.equal(refused.status, 401);
  const page = await fetch(`http://${peer.door}/`, { headers: { origin: 'https://evil.example' } });
  assert.equal(page.status, 403);
});

test('a client that lies, stalls or speaks something else is sent away, and others are served', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const { default: WebSocket } = await import('ws');
  const { encode, decode } = await import('cbor-x');
  const hello = { type: 'join', senderId: 'x', peerMetadata: {}, supportedProtocolVersions: ['1'] };
  const id = idOf(generateAutomergeUrl());
  const talk = frames => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${peer.door}/`);
    const said = [];
    socket.on('open', () => frames.forEach(frame => socket.send(frame)));
    socket.on('message', bytes => said.push(decode(bytes)));
    socket.on('close', () => resolve(said));
    socket.on('error', reject);
  });
  const sync = data => encode({ type: 'sync', senderId: 'x', targetId: 'y', documentId: id, data });
  const bad = {
    'no CBOR': [Buffer.from([0xff, 0xff])],
    'a text': ['hello'],
    'no join': [sync(new Uint8Array([0x42]))],
    'another version': [encode({ ...hello, supportedProtocolVersions: ['9'] })],
    'two joins': [encode(hello), encode(hello)],
    'no sync message': [encode(hello), sync(new Uint8Array([1, 2, 3]))],
    'a filter without bits': [encode(hello), sync(new Uint8Array([0x42, 0, 0, 1, 0, 3, 1, 0, 7, 0]))],
  };
  for (const [what, frames] of Object.entries(bad)) {
    const said = await talk(frames);
    assert.equal(said.at(-1)?.type, 'error', what);
    assert.ok(said.at(-1).message.length > 0, what);
  }
  const nothing = await fetch(`http://${peer.door}/`);
  assert.equal(nothing.status, 426);
  const client = repo(t, peer.door);
  const mine = client.create({ fine: true });
  await until('others are served', () => peer.read(idOf(mine.url)));
  assert.ok(stringifyAutomergeUrl({ documentId: idOf(mine.url) }));
});

test('who asks again for what nobody has is answered again', { timeout: 120_000 }, async t => {
  const peer = await Peer.start(t, join(temporary(), 'data'));
  const { default: WebSocket } = await import('ws');
  const { encode, decode } = await import('cbor-x');
  const id = idOf(generateAutomergeUrl());
  const socket = new WebSocket(`ws://${peer.door}/`);
  t.after(() => socket.terminate());
  const said = [];
  socket.on('message', bytes => said.push(decode(bytes)));
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  socket.send(encode({ type: 'join', senderId: 'x', peerMetadata: {}, supportedProtocolVersions: ['1'] }));
  // Automerge's sync message of a client that has nothing.
  const ask = () => socket.send(encode({ type: 'request', senderId: 'x', targetId: 'y', documentId: id, data: new Uint8Array([0x42, 0, 0, 0, 0]) }));
  const refusals = () => said.filter(message => message.type === 'doc-unavailable' && message.documentId === id).length;
  for (let asked = 1; asked <= 3; asked++) {
    ask();
    await until(`request ${asked} is answered`, () => refusals() === asked);
  }
});
