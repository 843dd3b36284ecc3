// What an invitation says, read from its text alone: no engine is needed to show it to a person. Whether it holds is found
// out by joining. The format is the library's: docs/wire.md.
import type { Member } from './types.js';

const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyz';
const ROLES: readonly Member['role'][] = ['reader', 'writer', 'admin', 'voter'];
const [GRANT, VERSION, MOST] = [1, 1, 64 * 1024];

export function parseInvitation(invitation: string): { readonly space: string; readonly role: Member['role']; readonly expires?: Date } | null {
  const text = String(invitation).trim().replace(/^foreshore:/i, '');
  if (text.length > MOST || (text !== text.toLowerCase() && text !== text.toUpperCase())) return null;
  const digits = text.toLowerCase();
  if (!digits.startsWith('fsi1') || !CHARACTERS.includes(digits[4] ?? ' ')) return null;
  const fives = [...digits.slice(4)].map(c => ALPHABET.indexOf(c));
  if (fives.includes(-1)) return null;
  try {
    return read(new Reader(bytesOf(fives)));
  } catch {
    return null;
  }
}

function read(r: Reader): { space: string; role: Member['role']; expires?: Date } | null {
  if (r.varint() !== VERSION) return null;
  const space = r.take(32);
  for (let left = r.varint(); left > 0; left--) r.take(r.varint());
  let found: { role: number; end: number | undefined } | undefined;
  for (let left = r.varint(); left > 0; left--) {
    const kind = r.varint();
    r.take(32);
    if (r.varint() >= 2) r.take(32);
    const body = new Reader(r.take(r.varint()));
    r.take(64);
    if (kind !== GRANT) continue;
    body.take(32);
    const [role, flags] = [body.byte(), body.byte()];
    body.take(body.varint());
    const end = flags & 1 ? body.zigzag() : undefined;
    // Only what is handed on concerns the reader; the rest stands behind it.
    if (flags & 2 && (!found || role > found.role)) found = { role, end };
  }
  const role = found && ROLES[found.role];
  if (!found || !role) return null;
  return { space: toBech32('fs', space), role, ...(found.end === undefined ? {} : { expires: new Date(found.end) }) };
}

class Reader {
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  take(length: number): Uint8Array {
    if (this.#at + length > this.bytes.length) throw new RangeError('the invitation ends early');
    return this.bytes.subarray(this.#at, (this.#at += length));
  }

  byte(): number {
    return this.take(1)[0] as number;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 53; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number is too large');
  }

  zigzag(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

function bytesOf(fives: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  let [held, bits] = [0, 0];
  for (const five of fives) {
    held = ((held << 5) | five) & 0xfff;
    bits += 5;
    if (bits >= 8) bytes.push((held >> (bits -= 8)) & 0xff);
  }
  return Uint8Array.from(bytes);
}

/** bech32m (BIP 350), as space ids are shown. */
function toBech32(prefix: string, bytes: Uint8Array): string {
  const fives: number[] = [];
  let [held, bits] = [0, 0];
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    for (bits += 8; bits >= 5; ) fives.push((held >> (bits -= 5)) & 31);
  }
  if (bits > 0) fives.push((held << (5 - bits)) & 31);
  const high = [...prefix].map(c => c.charCodeAt(0) >> 5);
  const low = [...prefix].map(c => c.charCodeAt(0) & 31);
  const sum = checksum([...high, 0, ...low, ...fives, 0, 0, 0, 0, 0, 0]) ^ 0x2bc830a3;
  const check = [25, 20, 15, 10, 5, 0].map(shift => (sum >>> shift) & 31);
  return `${prefix}1${[...fives, ...check].map(five => ALPHABET[five]).join('')}`;
}

function checksum(values: readonly number[]): number {
  const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    generators.forEach((generator, i) => { if ((top >> i) & 1) sum ^= generator; });
  }
  return sum;
}
