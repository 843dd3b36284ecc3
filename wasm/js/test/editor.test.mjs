// CodeMirror over a shared text, as an app uses it: editors stay equal to the document whatever is typed at once.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { test } from 'node:test';
import { build } from 'esbuild';
import { browse, load, Native, page, serve, temporary, until } from './support.mjs';

/** The binding with CodeMirror, as a bundler makes it. The package itself stays outside: the page has it already. */
async function bundle() {
  const out = new URL('../dist/test/', import.meta.url).pathname;
  await mkdir(out, { recursive: true });
  await build({
    stdin: { contents: "export * from './dist/codemirror.js'; export { EditorView } from '@codemirror/view'; export { EditorState } from '@codemirror/state';", resolveDir: new URL('..', import.meta.url).pathname },
    bundle: true, format: 'esm', outfile: `${out}editor.js`, logLevel: 'silent',
  });
}

const OPEN = async editors => {
  const { openSpace, template, text } = foreshore;
  const { EditorView, collab } = await import('/dist/test/editor.js');
  globalThis.errors = [];
  globalThis.space = await openSpace();
  space.on('error', error => errors.push(`${error.code} ${error.message}`));
  globalThis.doc = await space.document('/note', template({ body: text() }));
  globalThis.views = Array.from({ length: editors }, (_, n) => {
    const ref = doc.text(d => d.body);
    const carets = n === 0 ? space.presence('/note', { name: `Ann ${Math.random()}`, at: '' }) : undefined;
    const view = new EditorView({ doc: ref.value, extensions: [collab(ref, carets)], parent: document.body });
    view.dom.dataset.editor = n;
    return view;
  });
};

const TYPE = async ([who, rounds]) => {
  let seed = 7 * who + 3;
  const random = below => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  for (let n = 0; n < rounds; n++) {
    const view = views[random(views.length)];
    const length = view.state.doc.length;
    const at = random(length + 1);
    if (length > 30 && random(5) === 0) view.dispatch({ changes: [{ from: 1, to: 3 }, { from: 5, to: 6, insert: 'Z' }, { from: 9, insert: '\n' }] });
    else view.dispatch({ changes: { from: at, insert: `${'abc'[who]}${n % 10}` }, selection: { anchor: at } });
    if (random(3) === 0) await new Promise(resolve => setTimeout(resolve, random(12)));
  }
  await doc.flushed();
};

const texts = page => page.evaluate(() => [...views.map(view => view.state.doc.toString()), doc.value.body]);

test('editors on one page, on two pages and a native peer stay equal under concurrent typing', async t => {
  await bundle();
  const native = await Native.start(t, await temporary(t));
  const { url } = await serve(t, () => native);
  // Two tabs of one browser, and another browser.
  const context = await browse(t, await temporary(t));
  const pages = [await page(context, url), await page(context, url), await page(await browse(t, await temporary(t)), url)];
  for (const [n, tab] of pages.entries()) await tab.evaluate(OPEN, n === 0 ? 2 : 1);
  const typing = pages.map((tab, who) => tab.evaluate(TYPE, [who, 80]));
  for (let n = 0; n < 6; n++) await native.run('put', '/note', '--at', '/seen', String(n));
  await Promise.all(typing);
  await until(async () => JSON.stringify(await Promise.all(pages.map(texts))), async () => {
    const all = (await Promise.all(pages.map(texts))).flat();
    return all.every(text => text === all[0]) && all[0].length > 100;
  });
  const [first] = await texts(pages[0]);
  await until('the native peer has it too', async () => (await native.value('/note')).body === first);
  // Everybody sees where the others are.
  for (const tab of pages) {
    await tab.evaluate(() => views[0].dispatch({ selection: { anchor: 3 } }));
    await until(() => tab.evaluate(() => document.body.innerHTML), () => tab.evaluate(() => views[0].dom.querySelectorAll('.foreshore-caret').length === 2));
  }
  for (const tab of pages) assert.deepEqual([await tab.evaluate(() => errors), tab.complaints], [[], []]);
});
