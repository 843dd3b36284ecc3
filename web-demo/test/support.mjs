// What the demo's tests stand on: the stage with its three native peers, and pages in a real Chromium.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

/** Longer than anything takes on a busy machine. */
export const PATIENCE = 60_000;

const STAGE = process.env.FORESHORE_STAGE;
const NODE = process.env.FORESHORE_BIN;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const SHOTS = process.env.FORESHORE_SHOTS ?? 'shots';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain until ${typeof what === 'function' ? await what() : what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** The three native peers. */
export async function stage(t, ...options) {
  const child = spawn(STAGE, ['--json', '--port', '0', ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', bytes => { log += bytes; });
  const exited = new Promise(resolve => child.on('exit', resolve));
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await exited;
  });
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => resolve(JSON.parse(line)));
    void exited.then(code => reject(new Error(`the stage ended with ${code}:\n${log}`)));
  });
}

/** A native peer as anybody runs one: `foreshore run` over a directory, and the commands that talk to it. */
export async function peer(t) {
  const data = await mkdtemp(join(tmpdir(), 'foreshore-demo-'));
  const child = spawn(NODE, ['run', '--data', data, '--listen', '/ip4/127.0.0.1/tcp/0/ws', '--http', '127.0.0.1:0', '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', bytes => { log += bytes; });
  const exited = new Promise(resolve => child.on('exit', resolve));
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await exited;
    await rm(data, { recursive: true, force: true });
  });
  const status = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => resolve(JSON.parse(line).status));
    void exited.then(code => reject(new Error(`the peer ended with ${code}:\n${log}`)));
  });
  const run = (...words) => new Promise((resolve, reject) => {
    execFile(NODE, ['--data', data, ...words], (error, out, err) => (error ? reject(new Error(`${words.join(' ')}: ${err}`)) : resolve(out)));
  });
  return { url: `http://${status.http}/`, run };
}

/** Sums up what moves on a page without anybody having asked for it. */
const WATCH_SHIFTS = () => {
  globalThis.shifts = { sum: 0, worst: [] };
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) {
      if (entry.hadRecentInput) continue;
      shifts.sum += entry.value;
      shifts.worst.push(`${entry.value.toFixed(4)} ${entry.sources.map(({ node, previousRect: from, currentRect: to }) => `${node?.getAttribute?.('class') ?? node?.nodeName} ${[from.x, from.y, from.width, from.height]} to ${[to.x, to.y, to.width, to.height]}`).join(' and ')}`);
    }
  }).observe({ type: 'layout-shift', buffered: true });
};

/** A browser of its own with one page in it, and whatever that complains about collected. */
export async function open(t, url, options = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'foreshore-demo-'));
  const settings = { executablePath: CHROMIUM, headless: true, args: FLAGS, viewport: { width: 1280, height: 900 }, ...options };
  // A browser that crashes as it starts, which happens, has shown nothing of the page: another one is started.
  const context = await chromium.launchPersistentContext(profile, settings).catch(() => chromium.launchPersistentContext(profile, settings));
  t.after(async () => {
    await context.close().catch(() => {});
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(WATCH_SHIFTS);
  const page = context.pages()[0] ?? (await context.newPage());
  page.complaints = [];
  page.on('pageerror', error => page.complaints.push(String(error)));
  page.on('console', message => { if (message.type() !== 'info' && message.type() !== 'log') page.complaints.push(`${message.type()}: ${message.text()}`); });
  await page.goto(url);
  await ready(page);
  return page;
}

/** The page's peer is open and in step. */
export async function ready(page) {
  await page.locator('.cm-content').waitFor();
  await until(async () => `${await page.locator('main').innerText()}`, async () => (await verdict(page)) === 'Equal' && (await page.getByRole('switch').innerText()).startsWith('Online'));
}

export const verdict = page => page.locator('.figures .big dd').innerText();

export const text = page => page.locator('.cm-content').evaluate(content => [...content.querySelectorAll('.cm-line')].map(line => line.textContent).join('\n'));

/** A screenshot, kept: of the whole page, or of what is seen of it now. */
export async function shot(page, name, whole = true) {
  mkdirSync(SHOTS, { recursive: true });
  // What sticks to the top is drawn where the page is scrolled to.
  if (whole) await page.evaluate(() => scrollTo({ top: 0, behavior: 'instant' }));
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: whole });
}
