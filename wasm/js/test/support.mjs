// What the browser tests stand on: a native peer, a server for the package and pages, and a real Chromium.
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

/** Longer than anything takes on a busy machine. */
export const PATIENCE = 60_000;

const NODE = process.env.FORESHORE_BIN;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const PACKAGE = new URL('..', import.meta.url).pathname;

export async function until(what, ask, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain until ${typeof what === 'function' ? await what() : what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

export async function temporary(t) {
  const directory = await mkdtemp(join(tmpdir(), 'foreshore-browser-'));
  t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** A native peer that votes, or could; it is asked one thing after the other. */
export class Voter {
  static async start(t, data, dial = []) {
    const voter = new Voter();
    voter.process = spawn(join(dirname(NODE), 'voter'), ['--data', data, ...dial.flatMap(address => ['--dial', address])], { stdio: ['pipe', 'pipe', 'pipe'] });
    let log = '';
    voter.process.stderr.on('data', bytes => { log += bytes; });
    voter.process.stdin.on('error', () => {});
    voter.exited = new Promise(resolve => voter.process.on('exit', resolve));
    t.after(() => voter.stop());
    voter.answers = [];
    voter.waiting = [];
    createInterface({ input: voter.process.stdout }).on('line', line => voter.waiting.shift()?.resolve(JSON.parse(line)));
    void voter.exited.then(code => { for (const { reject } of voter.waiting.splice(0)) reject(new Error(`the voter ended with ${code}:\n${log}`)); });
    Object.assign(voter, await voter.#next());
    return voter;
  }

  #next() {
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  async ask(request) {
    const answer = this.#next();
    this.process.stdin.write(`${JSON.stringify(request)}\n`);
    const said = await answer;
    if (said.error) throw new Error(said.error);
    return said;
  }

  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    await this.exited;
  }
}

/** A space with so many voters, each a process, all linked with all. */
export async function group(t, count = 3) {
  const voters = [];
  for (let n = 0; n < count; n++) {
    const voter = await Voter.start(t, await temporary(t), voters.map(other => other.dial));
    voters.push(voter);
    const [first] = voters;
    if (n === 0) {
      voter.space = (await voter.ask({ create: 'group' })).space;
      continue;
    }
    for (const role of ['writer', 'voter']) await voter.ask({ join: (await first.ask({ invite: role })).invitation });
    for (const change of ['add', 'promote']) {
      // Refused while the newcomer is not linked, or has not caught up.
      await until(`voter ${n}: ${change}`, async () => {
        const { voters: now, learners } = await first.ask({ status: true });
        if (now.includes(voter.peer) || (change === 'add' && learners.includes(voter.peer))) return true;
        await first.ask({ change, peer: voter.peer }).catch(() => {});
        return false;
      });
    }
  }
  await until('everybody knows the group', async () => {
    const all = await Promise.all(voters.map(voter => voter.ask({ status: true })));
    return all.every(status => status.voters.length === count && status.leader);
  });
  return voters;
}

/** The voter of some that leads. */
export function leading(voters) {
  return until('one leads', async () => {
    for (const voter of voters) if ((await voter.ask({ status: true })).leads) return voter;
    return null;
  });
}

/** A native peer, `foreshore run`, with every port chosen by the system unless told otherwise. */
export class Native {
  static async start(t, data, ws = 0, more = []) {
    const peer = new Native();
    peer.data = data;
    const args = ['run', '--data', data, '--listen', `/ip4/127.0.0.1/tcp/${ws}/ws`, '--http', '127.0.0.1:0', '--json', ...more];
    peer.process = spawn(NODE, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let log = '';
    peer.process.stderr.on('data', bytes => { log += bytes; });
    peer.exited = new Promise(resolve => peer.process.on('exit', resolve));
    t.after(() => peer.stop());
    const ready = await new Promise((resolve, reject) => {
      createInterface({ input: peer.process.stdout }).on('line', line => {
        const said = JSON.parse(line);
        if (said.event === 'ready') resolve(said.status);
      });
      peer.exited.then(code => reject(new Error(`the native peer ended with ${code}:\n${log}`)));
    });
    peer.http = ready.http;
    peer.ws = ready.listen.find(address => address.includes('/ws'));
    peer.port = Number(/\/tcp\/(\d+)\/ws/.exec(peer.ws)[1]);
    return peer;
  }

  /** Runs a command against the peer and gives back what it prints. */
  async run(...args) {
    const child = spawn(NODE, ['--data', this.data, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [out, err] = ['', ''];
    child.stdout.on('data', bytes => { out += bytes; });
    child.stderr.on('data', bytes => { err += bytes; });
    const code = await new Promise(resolve => child.on('exit', resolve));
    if (code !== 0) throw new Error(`foreshore ${args.join(' ')} ended with ${code}: ${err}`);
    return out;
  }

  async value(path) {
    try {
      return JSON.parse(await this.run('get', path, '--json')).value;
    } catch (error) {
      if (/no document/.test(error.message)) return null;
      throw error;
    }
  }

  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    await this.exited;
  }
}

const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.html': 'text/html', '.wasm': 'application/wasm' };

/** Serves the package and an empty page; passes the way to a native peer on, as an app's own proxy would. */
export async function serve(t, native = () => null) {
  const answers = { wasm: null, cached: false };
  const server = createServer(async (incoming, outgoing) => {
    const path = new URL(incoming.url, 'http://x').pathname;
    if (path === '/.well-known/foreshore') {
      const peer = native();
      if (!peer) return outgoing.writeHead(404).end();
      const [host, port] = peer.http.replace('http://', '').split(':');
      const onward = request({ host, port, path, method: incoming.method, headers: incoming.headers }, answer => {
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.pipe(outgoing);
      });
      onward.on('error', () => outgoing.writeHead(502).end());
      return void incoming.pipe(onward);
    }
    if (path === '/') return outgoing.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><link rel="icon" href="data:,"><title>page</title>');
    if (answers.wasm && path.endsWith('.wasm')) return answers.wasm(outgoing);
    try {
      const body = await readFile(join(PACKAGE, path));
      const kept = answers.cached ? { 'cache-control': 'max-age=31536000, immutable' } : {};
      outgoing.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', ...kept }).end(body);
    } catch {
      outgoing.writeHead(404).end();
    }
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise(resolve => { server.closeAllConnections(); server.close(resolve); }));
  return { url: `http://127.0.0.1:${server.address().port}/`, answers };
}

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A browser with a profile of its own, so that what it stores outlives it; `without` what Playwright gives every browser. */
export async function browse(t, profile, without = []) {
  const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, headless: true, args: FLAGS, ignoreDefaultArgs: without });
  t.after(() => context.close().catch(() => {}));
  context.setDefaultTimeout(PATIENCE);
  return context;
}

/** A page with the package loaded as `foreshore`, and whatever it complains about collected. */
export async function page(context, url) {
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', error => page.complaints.push(String(error)));
  page.on('console', message => { if (message.type() === 'error') page.complaints.push(message.text()); });
  await load(page, url);
  return page;
}

/**
 * A browser as people have it, spoken to without Playwright, which has every page believe that it is looked at: of its tabs one
 * is in front, and the others are hidden and slowed down.
 */
export async function tabbed(t) {
  const process = spawn(CHROMIUM, ['--headless', ...FLAGS, `--user-data-dir=${await temporary(t)}`, '--remote-debugging-port=0', 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const gone = new Promise(resolve => process.once('exit', resolve));
  t.after(async () => { process.kill('SIGKILL'); await gone; });
  let said = '';
  const address = await new Promise((resolve, reject) => {
    process.once('exit', () => reject(new Error(`the browser ended: ${said}`)));
    process.stderr.on('data', data => {
      said += data;
      const found = /DevTools listening on (ws:\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
  });
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error('the browser does not answer')); });
  t.after(() => socket.close());
  const waiting = new Map();
  socket.onmessage = ({ data }) => {
    const { id, result, error } = JSON.parse(data);
    const [resolve, reject] = waiting.get(id) ?? [];
    waiting.delete(id);
    if (error) reject?.(new Error(error.message));
    else resolve?.(result);
  };
  let calls = 0;
  const send = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
    waiting.set(++calls, [resolve, reject]);
    socket.send(JSON.stringify({ id: calls, method, params, sessionId }));
  });
  return {
    /** A tab in front of those before. */
    async open(url) {
      const { targetId } = await send('Target.createTarget', { url });
      const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
      return {
        async evaluate(run, argument) {
          const expression = `(${run})(${JSON.stringify(argument)})`;
          const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true }, sessionId);
          if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
          return result.value;
        },
        show: () => send('Target.activateTarget', { targetId }),
      };
    },
  };
}

export async function load(page, url) {
  await page.goto(url);
  await page.evaluate(async () => { globalThis.foreshore = await import('/dist/index.js'); });
}

/** Kills the processes of the browser that uses a profile, at once: as a crash does, or the lack of power. */
export async function kill(profile) {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const line = await readFile(`/proc/${entry}/cmdline`, 'latin1').catch(() => '');
    if (line.split('\0').includes(`--user-data-dir=${profile}`)) {
      try {
        process.kill(Number(entry), 'SIGKILL');
      } catch {
        // It is gone already.
      }
    }
  }
}
