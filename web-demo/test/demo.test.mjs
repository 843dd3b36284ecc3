// The demo as somebody uses it: clicked through, typed into, cut and healed, against three native peers.
import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { open, peer, ready, shot, stage, text, until, verdict } from './support.mjs';

const edge = (page, a, b) => page.locator(`[data-edge="${a}|${b}"]`);
const card = (page, title) => page.locator('.card', { hasText: title });
const column = (page, title) => page.locator('.column', { hasText: title });
const services = page => page.locator('.offers li:not(.none)').count();

/** Nothing was said on the console, and nothing moved by itself. */
async function quiet(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.complaints, []);
    const shifts = await page.evaluate(() => globalThis.shifts);
    assert.ok(shifts.sum < 0.1, `layout shifts of ${shifts.sum} on ${page.viewportSize()?.width}: ${shifts.worst.join('; ')}`);
  }
}

/**
 * Notes in the page, as `faded`, whether the one mark that it shows fades before it is gone. A page's mark fades for 1.25 s, so
 * this begins before it does; a browser that stands still for that long shows nothing of it.
 */
function watchMark(page) {
  return page.evaluate(() => {
    globalThis.faded = null;
    const watcher = new MutationObserver(() => {
      const mark = document.querySelector('.mark');
      if (mark && !mark.classList.contains('fading')) return;
      watcher.disconnect();
      globalThis.faded = mark !== null;
    });
    watcher.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['class'] });
  });
}

/** Types at the end of the note. */
async function write(page, what) {
  await page.locator('.cm-content').focus();
  await page.keyboard.press('Control+End');
  await page.keyboard.type(what);
}

test('a page shows its peers, who else is here, what they offer, and that there is a quorum', async t => {
  const { pages, names } = await stage(t);
  const [a, b] = [await open(t, pages[0]), await open(t, pages[1])];
  for (const name of names) await a.locator(`[data-node="${name}"]`).waitFor();
  for (const [one, other] of [[0, 1], [0, 2], [1, 2]]) {
    await until(() => edge(a, names[one], names[other]).innerText(), async () => /^\d+(\.\d)? ms$/.test(await edge(a, names[one], names[other]).innerText()));
  }
  assert.equal(await a.locator('.node.you').count(), 1);
  await until('each page sees the other', async () => (await a.locator('.face').count()) === 2 && (await b.locator('.node.page').count()) === 1);
  await until('every peer offers its page and its sync', async () => (await services(a)) === 6);
  await a.locator('.badge.ok').waitFor();
  for (const name of ['Take it', 'Stand']) await until(`${name} can be clicked`, () => a.getByRole('button', { name, exact: true }).isEnabled());
  await until('one native peer leads', async () => (await a.locator('.node.native.leads').count()) === 1);
  assert.equal(await verdict(a), 'Equal');
  await shot(a, 'light');
  await quiet(a, b);
});

test('two pages type and move cards, and see each other do so', async t => {
  const { pages } = await stage(t);
  const [a, b] = [await open(t, pages[0]), await open(t, pages[1])];
  const begun = (await text(a)).length;
  const words = ['from the harbour', 'from the pier'];
  await Promise.all([write(a, words[0]), write(b, words[1])]);
  await until(async () => `${await text(a)}\n----\n${await text(b)}`, async () => {
    const [one, other] = [await text(a), await text(b)];
    return one === other && one.length === begun + words.join('').length;
  });
  assert.match(await a.locator('.guide li').first().getAttribute('class'), /done/);
  await until('each sees where the other types', async () => (await a.locator('.foreshore-caret').count()) === 1 && (await b.locator('.foreshore-caret').count()) === 1);

  // By the mouse.
  await column(a, 'Afloat').scrollIntoViewIfNeeded();
  const from = await card(a, 'Chart the channel').boundingBox();
  const to = await column(a, 'Afloat').boundingBox();
  await a.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
  await a.mouse.down();
  await a.mouse.move(from.x + from.width, from.y + 40, { steps: 5 });
  await b.locator('.pointer').waitFor();
  await b.locator('.card.theirs').waitFor();
  await a.mouse.move(to.x + to.width / 2, to.y + to.height / 2, { steps: 10 });
  await a.locator('.column.over', { hasText: 'Afloat' }).waitFor();
  await shot(a, 'drag', false);
  await a.mouse.up();
  await column(b, 'Afloat').locator('.card', { hasText: 'Chart the channel' }).waitFor();

  // By the keyboard.
  await card(b, 'Caulk the hull').focus();
  await b.keyboard.press('Space');
  await b.keyboard.press('ArrowRight');
  await b.keyboard.press('ArrowUp');
  await b.keyboard.press('Space');
  await column(a, 'On the tide line').locator('.card', { hasText: 'Caulk the hull' }).waitFor();
  assert.match(await column(a, 'On the tide line').locator('.card').first().innerText(), /Caulk/);
  assert.equal(await b.evaluate(() => document.activeElement?.textContent.includes('Caulk')), true);

  // A new card gets its title at once.
  await column(a, 'Ashore').getByRole('button', { name: 'Add a card' }).click();
  await a.keyboard.type('Mend the nets');
  await a.keyboard.press('Enter');
  await column(b, 'Ashore').locator('.card', { hasText: 'Mend the nets' }).waitFor();
  await card(b, 'Mend the nets').focus();
  await b.keyboard.press('Delete');
  await until('it is gone for both', async () => (await card(a, 'Mend the nets').count()) === 0 && (await card(b, 'Mend the nets').count()) === 0);
  await until('both hold the same', async () => (await verdict(a)) === 'Equal' && (await verdict(b)) === 'Equal');
  await shot(b, 'together');
  await quiet(a, b);
});

test('a peer that is cut off goes on with its page, and all is one again when it is healed', async t => {
  const { pages, names } = await stage(t);
  const [a, b] = [await open(t, pages[0]), await open(t, pages[1])];
  await until('every peer offers its services', async () => (await services(a)) === 6);
  // One link by a click on its line, which the other pages see; the way around still holds.
  await a.locator('.graph').scrollIntoViewIfNeeded();
  const [one, other] = [await edge(a, names[0], names[1]).boundingBox(), await a.locator(`[data-node="${names[0]}"]`).boundingBox()];
  await a.mouse.click((one.x * 2 + one.width + other.x * 2 + other.width) / 4 + 12, (one.y * 2 + one.height + other.y * 2 + other.height) / 4 - 10);
  await until(() => edge(b, names[0], names[1]).innerText(), async () => (await edge(b, names[0], names[1]).innerText()).includes('cut'));
  await write(a, ' around ');
  await until('it comes over the third peer', async () => (await text(b)).includes(' around '));
  // The second peer is cut off from all others.
  await edge(a, names[1], names[2]).click();
  await until('its services go with its lease', async () => (await services(a)) === 4);
  await write(a, 'one side');
  await write(b, 'other side');
  await until(() => verdict(a), async () => (await verdict(a)) === '2 states' && (await verdict(b)) === '2 states');
  assert.ok(!(await text(a)).includes('other side') && !(await text(b)).includes('one side'));
  await shot(a, 'cut');
  await shot(b, 'cut-other-side');
  // Healed by a click on the peer itself.
  await a.locator(`[data-node="${names[1]}"]`).click();
  await until(async () => `${await verdict(a)}\n${await text(a)}\n----\n${await text(b)}`, async () => {
    const [x, y] = [await text(a), await text(b)];
    return x === y && x.includes('one side') && x.includes('other side') && (await verdict(a)) === 'Equal' && (await verdict(b)) === 'Equal';
  });
  assert.match(await a.locator('.figures').innerText(), /\d m?s\s+after the link was healed/);
  await until('its services are back', async () => (await services(a)) === 6);
  assert.match(await a.locator('.guide li').last().innerText(), /Equal again in/);
  await shot(a, 'healed');
  await quiet(a, b);
});

test('a lock has one holder, outlives the voter that leads, and is refused on the smaller side of a cut', async t => {
  const { pages, names } = await stage(t);
  const [a, b] = [await open(t, pages[0]), await open(t, pages[1])];
  const lock = page => page.locator('[data-thing="lock"]');
  const elected = page => page.locator('[data-thing="elected"]');
  const voters = page => page.locator('[data-thing="voters"]');
  const says = (page, part, what) => until(async () => `${await part(page).innerText()} (for ${what})`, async () => (await part(page).innerText()).includes(what));
  for (const page of [a, b]) await page.locator('.badge.ok').waitFor();
  await lock(a).getByRole('button', { name: 'Take it' }).click();
  await says(a, lock, 'You hold the lock');
  const token = Number(/token (\d+)/.exec(await lock(a).innerText())[1]);
  await says(b, lock, 'Held by');
  await elected(b).getByRole('button', { name: 'Stand' }).click();
  await says(b, elected, 'You are elected');
  await says(a, elected, 'is elected');
  const term = Number(/term (\d+)/.exec(await voters(a).innerText())[1]);
  await shot(a, 'strong');

  // The third peer leads from here on or not; whichever does is killed, and nobody loses the lock for it.
  await voters(a).getByRole('button', { name: 'Kill the leader' }).click();
  await says(a, voters, 'is dead for a while');
  await until(() => voters(a).innerText(), async () => {
    const said = await voters(a).innerText();
    return /leads the voters/.test(said) && !/is dead/.test(said) && Number(/term (\d+)/.exec(said)?.[1]) > term;
  });
  for (const page of [a, b]) await page.locator('.badge.ok').waitFor();
  await shot(a, 'killed');

  // The second peer is cut off with its page: that side is red and grants nothing.
  for (const other of [names[0], names[2]]) {
    await edge(a, ...(other === names[0] ? [names[0], names[1]] : [names[1], names[2]])).click();
  }
  await b.locator('.badge.lost').waitFor();
  await until('the cut-off peer is marked', async () => (await a.locator(`[data-node="${names[1]}"].alone`).count()) === 1);
  await b.locator('.node.you.alone').waitFor();
  assert.ok(await lock(b).getByRole('button', { name: 'Take it' }).isDisabled());
  await a.locator('.badge.ok').waitFor();
  await shot(b, 'minority');
  await a.locator(`[data-node="${names[1]}"]`).click();
  await b.locator('.badge.ok').waitFor();
  const before = await lock(a).innerText();
  if (before.includes('You hold')) await lock(a).getByRole('button', { name: 'Release' }).click();
  await lock(b).getByRole('button', { name: 'Take it' }).click();
  await says(b, lock, 'You hold the lock');
  assert.ok(Number(/token (\d+)/.exec(await lock(b).innerText())[1]) > token);
  await quiet(a, b);
});

test('a page works offline, its mark fades for the others, and it catches up', async t => {
  const { pages } = await stage(t);
  const [a, b] = [await open(t, pages[0]), await open(t, pages[0])];
  await a.getByRole('button', { name: 'A star' }).click();
  for (let attempt = 1; ; attempt++) {
    await b.locator('.mark:not(.fading)').waitFor();
    await watchMark(b);
    // By the keyboard alone.
    await a.getByRole('switch').focus();
    await a.keyboard.press('Space');
    await until('it is offline', async () => (await a.getByRole('switch').innerText()).startsWith('Offline'));
    await until('its mark fades or goes', async () => (await b.evaluate(() => globalThis.faded)) !== null);
    if (await b.evaluate(() => globalThis.faded)) break;
    assert.ok(attempt < 5, 'a mark went five times and was never seen to fade');
    await a.getByRole('switch').click();
  }
  await shot(b, 'fading');
  await write(a, 'written offline');
  await until('it waits to be sent', async () => /\d to send/.test(await a.getByRole('switch').innerText()));
  await until(() => verdict(a), async () => (await verdict(a)) === '2 states');
  await shot(a, 'offline');
  await until('its mark is gone', async () => (await b.locator('.mark').count()) === 0);
  assert.ok(!(await text(b)).includes('written offline'));
  await a.getByRole('switch').click();
  await until(() => text(b), async () => (await text(b)).includes('written offline') && (await verdict(a)) === 'Equal');
  await b.locator('.mark:not(.fading)').waitFor();
  await until('all is sent', async () => /all sent/.test(await a.getByRole('switch').innerText()));
  // What cuts the page's own link is healed without waiting for the next attempt to dial.
  const own = a.locator('.edge[data-edge*="You"]');
  await own.click();
  await until(() => own.innerText(), async () => (await own.innerText()).includes('cut'));
  await write(a, ', and cut');
  await until(() => verdict(a), async () => (await verdict(a)) === '2 states');
  await own.click();
  await until(() => text(b), async () => (await text(b)).includes(', and cut') && (await verdict(a)) === 'Equal');
  await quiet(a, b);
});

test('the page is read in the dark, on a phone, and by keyboard alone', async t => {
  const { pages } = await stage(t);
  const dark = await open(t, pages[0], { colorScheme: 'dark' });
  const phone = await open(t, pages[1], { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, reducedMotion: 'reduce' });
  const background = page => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await background(dark), 'rgb(9, 20, 24)');
  assert.equal(await background(phone), 'rgb(244, 241, 233)');
  await dark.getByRole('button', { name: 'A shell' }).click();
  await phone.locator('.mark').waitFor();
  await write(phone, 'from a phone');
  await until('it is here', async () => (await text(dark)).includes('from a phone'));
  await shot(dark, 'dark');
  await shot(phone, 'phone');
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the phone');
  // A finger moves a card by its grip.
  await phone.locator('.card', { hasText: 'Wait for the tide' }).locator('.grip').scrollIntoViewIfNeeded();
  // Colours are chosen by hand, too, and kept.
  const theme = dark.getByRole('button', { name: /^Colours/ });
  await theme.press('Enter');
  assert.equal(await background(dark), 'rgb(244, 241, 233)');
  await dark.reload();
  await ready(dark);
  assert.equal(await background(dark), 'rgb(244, 241, 233)');

  // Everything that can be done is reached by Tab, and shows that it is.
  const reached = new Set();
  await dark.evaluate(() => (document.activeElement instanceof HTMLElement ? document.activeElement.blur() : null));
  for (let n = 0; n < 60; n++) {
    await dark.keyboard.press('Tab');
    const at = await dark.evaluate(() => {
      const element = document.activeElement;
      // Past the end comes the browser's own frame.
      if (!element || element === document.body) return null;
      // The editor shows it on its frame.
      const ring = getComputedStyle(element).outlineStyle !== 'none' || element.classList.contains('cm-content');
      return { name: element.getAttribute('aria-label') ?? element.textContent?.trim() ?? '', ring };
    });
    if (!at) continue;
    assert.ok(at.ring, `${at.name} shows its focus`);
    reached.add(at.name);
  }
  for (const wanted of [/^This page is online/, /^Colours/, /^at the peer/, /^The shared note/, /^Harbour to Pier/, /^Native peer Buoy/, /^Chart the channel/, /^Add a card/, /^A shell/]) {
    assert.ok([...reached].some(name => wanted.test(name)), `${wanted} is reached by keyboard: ${[...reached].join(' | ')}`);
  }
  await quiet(dark, phone);
});

test('another device joins by the code, and may look at the controls only', async t => {
  const outside = Object.values(networkInterfaces()).flat().find(address => address?.family === 'IPv4' && !address.internal);
  if (!outside) return t.skip('this machine has no address but loopback');
  const alone = await open(t, (await stage(t)).pages[0]);
  await alone.getByText('cargo xtask demo --share').waitFor();
  assert.equal(await alone.getByRole('button', { name: 'Show the code' }).count(), 0);

  const { pages } = await stage(t, '--share');
  const here = await open(t, pages[0]);
  await here.getByRole('button', { name: 'Show the code' }).click();
  await here.locator('.qr').waitFor();
  await shot(here, 'code');
  const link = await here.locator('.share a.address').getAttribute('href');
  assert.match(link, /^http:\/\/\d+\.\d+\.\d+\.\d+:\d+\/#join=fsi1/);
  const there = await open(t, link, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  assert.equal(await there.evaluate(() => location.hash), '');
  await write(there, 'from another device');
  await until('it is here', async () => (await text(here)).includes('from another device'));
  // It is in for good: the code is not needed again.
  await there.reload();
  await ready(there);
  await there.getByText('Links are cut and healed on the machine').waitFor();
  const refused = await there.evaluate(async () => (await fetch('/demo/links', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"ends":["a","b"],"cut":true}' })).status);
  assert.equal(refused, 403);
  await quiet(alone, here);
  // Chromium notes the refusal of the request above.
  assert.ok(there.complaints.every(said => said.includes('403')), there.complaints.join('\n'));
});

test('a peer that anybody runs serves the page, which goes on without it', async t => {
  const { url, run } = await peer(t);
  const page = await open(t, url);
  await write(page, 'to a peer of its own');
  await until('the peer has it', async () => (await run('get', '/demo/note').catch(() => '')).includes('to a peer of its own'));
  await card(page, 'Caulk the hull').focus();
  for (const key of ['Space', 'ArrowRight', 'Space']) await page.keyboard.press(key);
  await until('the peer has the board', async () => (await run('get', '/demo/board').catch(() => '')).includes('Caulk'));
  await run('put', '/demo/board', '--at', '/cards/chart/title', '"Told by the shell"');
  await card(page, 'Told by the shell').waitFor();
  assert.equal(await page.locator('.node.native').count(), 1);
  // It has no controls; the page may leave by its own link.
  const own = page.locator('button.edge');
  assert.equal(await own.count(), 1);
  await own.click();
  await until('it is offline', async () => (await page.getByRole('switch').innerText()).startsWith('Offline'));
  await write(page, ', later');
  await own.click();
  await until('the peer has that, too', async () => (await run('get', '/demo/note')).includes(', later'));
  await shot(page, 'alone');
  await quiet(page);
});
