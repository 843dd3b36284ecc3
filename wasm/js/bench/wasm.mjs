// What the package costs a page: `node bench/wasm.mjs [--quick] [large] [warm] [sizes]` in a built package prints one JSON
// object with the parts that are named, or all.
//
// A large document is opened from the page's own storage while the browser traces the main thread; a store with a thousand
// documents is opened by fresh pages, each with an engine of its own.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { browse, page, serve } from '../test/support.mjs';
import { sizes } from '../test/sizes.mjs';

const QUICK = process.argv.includes('--quick');
const NAMED = process.argv.slice(2).filter(arg => !arg.startsWith('--'));
const wanted = part => NAMED.length === 0 || NAMED.includes(part);
/** A tenth in a quick run. */
const of = full => (QUICK ? Math.max(1, full / 10) : full);
/** Elements of the large document's list, of some 500 bytes each, beside a text of a tenth of that. */
const CARDS = of(28_000);
const DOCUMENTS = of(1000);
const OPENINGS = of(40);

/** What must be undone at the end, newest first, as a test's context has it. */
const undone = [];
const scope = { after: undo => undone.unshift(undo) };

async function profile() {
  const directory = await mkdtemp(join(tmpdir(), 'foreshore-bench-'));
  scope.after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** The tasks of a page's main thread between its two marks, in ms each: as the clock had them, and without what other programs took. */
async function tasks(tab, act) {
  const cdp = await tab.context().newCDPSession(tab);
  const events = [];
  cdp.on('Tracing.dataCollected', ({ value }) => events.push(...value));
  await cdp.send('Tracing.start', { transferMode: 'ReportEvents', traceConfig: { includedCategories: ['toplevel', 'blink.user_timing', 'disabled-by-default-devtools.timeline'] } });
  const result = await act();
  const ended = new Promise(resolve => cdp.once('Tracing.tracingComplete', resolve));
  await cdp.send('Tracing.end');
  await ended;
  const [from, to] = ['bench-begin', 'bench-end'].map(name => events.find(event => event.name === name));
  if (!from || !to) throw new Error('the trace lacks the marks');
  const own = events.filter(event => event.pid === from.pid && event.tid === from.tid && /RunTask$/.test(event.name) && event.dur && event.ts + event.dur >= from.ts && event.ts <= to.ts);
  return { result, wall: own.map(event => event.dur / 1000), cpu: own.map(event => (event.tdur ?? event.dur) / 1000) };
}

async function largeDocument(url) {
  const context = await browse(scope, await profile());
  const writer = await page(context, url);
  const bytes = await writer.evaluate(async ({ cards }) => {
    const { openSpace, template, text } = foreshore;
    const space = await openSpace();
    const doc = await space.document('/large', template({ body: text(), cards: [] }));
    const words = n => Array.from({ length: 64 }, (_, i) => ((n * 2654435761 + i * 40503) >>> 0).toString(36)).join(' ');
    for (let n = 0; n < cards; n += 500) {
      doc.change(d => {
        d.cards.push(...Array.from({ length: Math.min(500, cards - n) }, (_, i) => ({ id: n + i, title: `card ${n + i}`, done: i % 3 === 0, tags: ['a', 'b'], notes: words(n + i) })));
        for (let i = 0; i < 50; i++) d.body.splice(d.body.length, 0, `${words(n + i)}\n`);
      });
      await doc.flushed();
    }
    await space.close();
    return JSON.stringify(doc.value).length;
  }, { cards: CARDS });
  await writer.close();
  const reader = await page(context, url);
  const { result, wall, cpu } = await tasks(reader, () => reader.evaluate(async () => {
    const { openSpace, template, text } = foreshore;
    performance.mark('bench-begin');
    const began = performance.now();
    const space = await openSpace();
    const doc = await space.document('/large', template({ body: text(), cards: [] }));
    // As an app does that shows it: the value is there at once, and costs nothing more.
    const shown = doc.value.cards.length + doc.value.body.length;
    const took = performance.now() - began;
    await new Promise(resolve => setTimeout(resolve, 200));
    performance.mark('bench-end');
    return { took, shown };
  }));
  await context.close();
  return { large_document_mb: bytes / 1e6, large_open_ms: result.took, main_thread_longest_task_ms: Math.max(...wall), main_thread_longest_task_cpu_ms: Math.max(...cpu), main_thread_tasks: wall.length };
}

async function warmOpen(url) {
  const context = await browse(scope, await profile());
  const writer = await page(context, url);
  await writer.evaluate(async ({ documents }) => {
    const { openSpace, template } = foreshore;
    const space = await openSpace();
    for (let n = 0; n < documents; n += 25) {
      await Promise.all(Array.from({ length: Math.min(25, documents - n) }, async (_, i) => {
        const doc = await space.document(`/documents/${n + i}`, template({ title: '', items: [] }));
        await doc.change(d => { d.title = `document ${n + i}`; d.items.push({ text: 'bread', done: false }, { text: 'milk', done: true }); }).saved;
        doc[Symbol.dispose]();
      }));
    }
    await space.close();
  }, { documents: DOCUMENTS });
  await writer.close();
  const took = [];
  for (let n = 0; n < OPENINGS; n++) {
    const tab = await page(context, url);
    const { ms, title } = await tab.evaluate(async path => {
      const { openSpace, template } = foreshore;
      const began = performance.now();
      const space = await openSpace();
      const doc = await space.document(path, template({ title: '', items: [] }));
      const { title } = doc.value;
      const ms = performance.now() - began;
      await space.close();
      return { ms, title };
    }, `/documents/${(n * 37) % DOCUMENTS}`);
    if (title !== `document ${(n * 37) % DOCUMENTS}`) throw new Error(`opened as ${JSON.stringify(title)}`);
    took.push(ms);
    await tab.close();
  }
  await context.close();
  took.sort((a, b) => a - b);
  return { warm_open_ms_median: took[took.length >> 1], warm_open_ms_p95: took[Math.min(took.length - 1, Math.ceil(took.length * 0.95) - 1)] };
}

try {
  const { url, answers } = await serve(scope);
  // As a host of an app serves what has a hash in its name: a browser that was here before fetches and compiles nothing again.
  answers.cached = true;
  console.log(JSON.stringify({ ...(wanted('large') && (await largeDocument(url))), ...(wanted('warm') && (await warmOpen(url))), ...(wanted('sizes') && sizes()) }));
} finally {
  for (const undo of undone) await undo();
}
