// Marks of a text as a page shows them: guessed while it types, and exact as soon as the engine has spoken.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { template, text } from '../dist/node.js';
import { memoryNetwork } from '../dist/testing.js';
import { between, carry, grow, paint, spansOf } from '../dist/marks.js';

const note = template({ body: text('hello world') });

function network(t) {
  const net = memoryNetwork();
  const alive = setInterval(() => {}, 1000);
  t.after(async () => { await net.close(); clearInterval(alive); });
  return net;
}

const runs = ref => ref.spans.map(span => [span.text, ...Object.entries(span.marks).flat()]);

test('a mark shows at once here, everywhere else after that, and to whoever opens later', async t => {
  const net = network(t);
  const [ann, ben] = [await net.open(), await net.open()];
  const [hers, his] = [await ann.document('/note', note), await ben.document('/note', note)];
  const [a, b] = [hers.text(d => d.body), his.text(d => d.body)];
  const told = [];
  b.subscribe(event => told.push(...event.marks));
  hers.change(d => d.body.mark(0, 5, 'bold', true));
  hers.change(d => d.body.mark(3, 8, 'link', 'https://example.org'));
  const expected = [['hel', 'bold', true], ['lo', 'bold', true, 'link', 'https://example.org'], [' wo', 'link', 'https://example.org'], ['rld']];
  assert.deepEqual(runs(a), expected);
  await net.settled();
  assert.deepEqual(runs(b), expected);
  assert.equal(told.length > 0, true);
  const late = await (await net.open()).document('/note', note);
  await net.settled();
  assert.deepEqual(runs(late.text(d => d.body)), expected);
  hers.change(d => d.body.mark(0, 11, 'bold', null));
  await net.settled();
  assert.deepEqual(runs(b), [['hel'], ['lo wo', 'link', 'https://example.org'], ['rld']]);
});

test('what is typed at the ends of a mark is marked as its expansion says, on the page that types as elsewhere', async t => {
  const net = network(t);
  const [ann, ben] = [await net.open(), await net.open()];
  const [hers, his] = [await ann.document('/note', note), await ben.document('/note', note)];
  const [a, b] = [hers.text(d => d.body), his.text(d => d.body)];
  hers.change(d => { d.body.mark(0, 5, 'bold', true); d.body.mark(6, 11, 'code', true, 'none'); });
  hers.change(d => { d.body.splice(11, 0, '!'); d.body.splice(5, 0, '?'); d.body.splice(2, 1, 'LL'); });
  await net.settled();
  assert.deepEqual(runs(a), [['heLLlo?', 'bold', true], [' '], ['world', 'code', true], ['!']]);
  assert.deepEqual(runs(b), runs(a));
});

test('pages that type and mark at the same time end with the same runs', async t => {
  const net = network(t);
  const spaces = [await net.open(), await net.open(), await net.open()];
  const docs = await Promise.all(spaces.map(space => space.document('/note', note)));
  let seed = 7;
  const random = below => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  for (let round = 0; round < 60; round++) {
    for (const doc of docs) doc.change(d => {
      const length = d.body.length;
      const from = random(length + 1);
      switch (random(4)) {
        case 0: return d.body.splice(from, random(3), 'xyz'.slice(random(3)));
        case 1: return from < length && d.body.mark(from, from + 1 + random(length - from), ['bold', 'link'][random(2)], [true, null, 'v'][random(3)], ['before', 'after', 'both', 'none'][random(4)]);
        case 2: return d.body.splice(from, random(4));
        default: return d.body.splice(length, 0, `${round}`);
      }
    });
    if (round % 10 === 9) {
      await net.settled();
      const [first, ...others] = docs.map(doc => runs(doc.text(d => d.body)));
      for (const other of others) assert.deepEqual(other, first, `after round ${round}`);
    }
  }
});

test('marks follow edits, and mark edits lead from one state to another', () => {
  const bold = (from, to, value = true) => ({ from, to, name: 'bold', value });
  const [start] = [[bold(2, 6)]];
  assert.deepEqual(carry(start, [{ from: 4, to: 4, insert: 'ab' }]), [bold(2, 4), bold(6, 8)], 'what others type carries none');
  assert.deepEqual(grow(start, [{ from: 4, to: 4, insert: 'ab' }]), [bold(2, 8)]);
  assert.deepEqual(grow(start, [{ from: 6, to: 6, insert: 'ab' }]), [bold(2, 8)]);
  assert.deepEqual(grow(start, [{ from: 2, to: 2, insert: 'ab' }]), [bold(4, 8)]);
  assert.deepEqual(grow(start, [{ from: 0, to: 3, insert: 'x' }, { from: 5, to: 9, insert: 'yz' }]), [bold(1, 5)]);
  assert.deepEqual(grow(start, [{ from: 1, to: 7, insert: 'gone' }]), []);
  assert.deepEqual(paint(start, bold(4, 9)), [bold(2, 9)]);
  assert.deepEqual(paint(start, bold(3, 4, null)), [bold(2, 3), bold(4, 6)]);
  assert.deepEqual(paint(start, bold(3, 4, 'x')), [bold(2, 3), bold(3, 4, 'x'), bold(4, 6)]);
  const wanted = [bold(0, 3, 'x'), bold(5, 6)];
  assert.deepEqual(between(start, wanted).reduce(paint, start), wanted);
  assert.deepEqual(between(start, start), []);
  assert.deepEqual(spansOf('', []), []);
});
