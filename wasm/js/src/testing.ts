// Peers in memory, for the tests of programs that use the package: real engines and a real sync between them, with no
// server, no socket and no storage, in Node as in a browser.
import { ASYNC_DISPOSE } from './dispose.js';
import type { Engine, EngineEvent } from './engine.js';
import { embedded } from './embedded.js';
import { abortable, ForeshoreError } from './errors.js';
import { inPlace } from './local-engine.js';
import { PageSpace } from './space.js';
import type { Member, Path, Space, Wait } from './types.js';

/** Devices in one space, linked each with each; the links are cut and healed at will. */
export interface Network extends AsyncDisposable {
  /**
   * Another device with a store of its own. The first one makes the space and is its admin, the others join it in `role`
   * (default: writer). `replicate` as in `openSpace`; a device that keeps a part never settles with one that keeps all.
   * `votes`: it is one of those whose majority locks, elections and the tree need; in memory, which is for tests only: a voter
   * forgets nothing. The first device votes if any does.
   */
  open(options?: Wait & { role?: Member['role']; replicate?: readonly Path[]; votes?: boolean }): Promise<Space>;
  /** From here on the two hear nothing from each other, but through others that are linked with both. `NOT_FOUND`: they are not linked. */
  cut(one: Space, other: Space): Promise<void>;
  /** Ends a device as a crash does: nobody hears that it goes. */
  kill(space: Space): Promise<void>;
  /** The voter that leads the others. `null`: none of those that vote does at the moment. */
  leader(): Promise<Space | null>;
  /** Links the two again. */
  heal(one: Space, other: Space): Promise<void>;
  /** Waits until every edit is stored, and whoever is linked has and shows the same. */
  settled(options?: Wait): Promise<void>;
  /** Closes every space. */
  close(): Promise<void>;
}

/**
 * A network in memory:
 *
 * ```ts
 * await using network = memoryNetwork();
 * const [ann, ben] = [await network.open(), await network.open()];
 * const [hers, his] = [await ann.document('/list', list), await ben.document('/list', list)];
 * hers.change(d => { d.items.push('bread'); });
 * await network.settled();
 * expect(his.value.items).toEqual(['bread']);
 * ```
 *
 * It takes real time: fake timers hold it up.
 */
export function memoryNetwork(): Network {
  return new Memory();
}

interface Link { id: string; member: boolean }
interface WireStatus { root: string | null; links: Link[]; offline: boolean }
interface Device { space: PageSpace; engine: Engine; address: string; votes: boolean }
interface Coordination { leads: boolean; voters: string[]; learners: string[] }

/** Addresses in memory are numbers, the same for all that run in this context. */
let address = 0;

/** How long to wait before looking again whether everybody is in step, in ms. */
const LOOK = 5;

class Memory implements Network {
  readonly #devices: Device[] = [];
  /** Who has blocked whom. */
  readonly #cuts: { by: Device; other: Device }[] = [];

  async open({ role = 'writer', replicate, votes = false, signal }: Wait & { role?: Member['role']; replicate?: readonly Path[]; votes?: boolean } = {}): Promise<Space> {
    return abortable(this.#open(role, votes, replicate), signal);
  }

  async #open(role: Member['role'], votes: boolean, replicate?: readonly Path[]): Promise<PageSpace> {
    const listen = `/memory/${++address}`;
    let space: PageSpace | undefined;
    const early: EngineEvent[] = [];
    const engine = await inPlace({ storage: 'memory', database: '', listen, votes }, embedded, event => (space ? space.hear(event) : early.push(event)));
    const [first] = this.#alive();
    if (votes && this.#devices.length > 0 && !this.#devices[0]?.votes) {
      await engine.close();
      throw ForeshoreError.make('UNSUPPORTED', 'the first device does not vote, so nobody can', { hint: 'open the first one with `votes`' });
    }
    const made = first
      ? await engine.call({ do: 'join', invitation: await first.space.invite({ role }), name: null })
      : await engine.call({ do: 'createSpace', name: 'memory' });
    space = new PageSpace(engine, (made as { id: string }).id, 'memory', true);
    const device = { space, engine, address: listen, votes };
    // It founds the group as long as nobody else may vote.
    if (votes && !first) await this.#group(device);
    for (const other of this.#alive()) await engine.call({ do: 'dial', address: other.address });
    this.#devices.push(device);
    await space.ready(replicate);
    for (const event of early) space.hear(event);
    await this.#until(async () => (await this.#statuses()).every(({ device: one, status }) => one !== device || this.#linked(one, status)));
    if (votes && first) await this.#addVoter(first, device);
    return space;
  }

  #group(device: Device): Promise<Coordination> {
    return device.engine.call({ do: 'coordination', space: device.space.id }) as unknown as Promise<Coordination>;
  }

  async leader(): Promise<Space | null> {
    return (await this.#leading())?.space ?? null;
  }

  async #leading(): Promise<Device | undefined> {
    const voters = this.#alive().filter(device => device.votes);
    const groups = await Promise.all(voters.map(voter => this.#group(voter)));
    return voters[groups.findIndex(group => group.leads)];
  }

  /** A device becomes a voter: it is let, it learns the log, and it is promoted when it has caught up. */
  async #addVoter(admin: Device, device: Device): Promise<void> {
    await device.engine.call({ do: 'join', invitation: await admin.space.invite({ role: 'voter' }), name: null });
    const { peer } = device.engine.me;
    await this.#until(async () => {
      const leader = await this.#leading();
      if (!leader) return false;
      const { voters, learners } = await this.#group(leader);
      if (voters.includes(peer)) return (await this.#group(device)).voters.includes(peer);
      const change = learners.includes(peer) ? 'promote' : 'add';
      // Refused while its right to vote is on its way, or it has not caught up.
      await leader.engine.call({ do: 'changeVoters', space: leader.space.id, change, peer }).catch(() => {});
      return false;
    });
  }

  async kill(space: Space): Promise<void> {
    const device = this.#device(space);
    for (const other of this.#alive()) if (other !== device) await this.cut(space, other.space);
    await space.close();
  }

  #alive(): Device[] {
    return this.#devices.filter(device => !device.space.closed.aborted);
  }

  #device(space: Space): Device {
    const device = this.#alive().find(known => known.space === space);
    if (!device) throw ForeshoreError.make('NOT_FOUND', 'the space is none of this network, or closed');
    return device;
  }

  #isCut(one: Device, other: Device): boolean {
    return this.#cuts.some(cut => (cut.by === one && cut.other === other) || (cut.by === other && cut.other === one));
  }

  async #statuses(): Promise<{ device: Device; status: WireStatus }[]> {
    const look = async (device: Device) => ({ device, status: (await device.engine.call({ do: 'status', space: device.space.id })) as unknown as WireStatus });
    const all = await Promise.all(this.#alive().map(look));
    return all.filter(({ status }) => !status.offline);
  }

  /** Whether a device is linked with everybody that nothing cuts it off from. */
  #linked(one: Device, status: WireStatus, among: readonly Device[] = this.#alive()): boolean {
    const peers = new Set(status.links.filter(link => link.member).map(link => link.id));
    return among.every(other => other === one || this.#isCut(one, other) || peers.has(other.engine.me.peer));
  }

  async #until(reached: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    while (!(await abortable(reached(), signal))) await new Promise(resolve => setTimeout(resolve, LOOK));
  }

  async cut(one: Space, other: Space): Promise<void> {
    const cut = { by: this.#device(one), other: this.#device(other) };
    if (this.#isCut(cut.by, cut.other)) return;
    const peer = cut.other.engine.me.peer;
    await cut.by.engine.call({ do: 'cut', peer, cut: true });
    this.#cuts.push(cut);
    await this.#until(async () => (await this.#statuses()).every(({ device, status }) => {
      const gone = device === cut.by ? peer : device === cut.other ? cut.by.engine.me.peer : undefined;
      return !status.links.some(link => link.id === gone);
    }));
  }

  async heal(one: Space, other: Space): Promise<void> {
    const [a, b] = [this.#device(one), this.#device(other)];
    for (const [i, cut] of [...this.#cuts.entries()].reverse()) {
      if (![cut.by, cut.other].includes(a) || ![cut.by, cut.other].includes(b)) continue;
      this.#cuts.splice(i, 1);
      await cut.by.engine.call({ do: 'cut', peer: cut.other.engine.me.peer, cut: false });
    }
  }

  async settled({ signal }: Wait = {}): Promise<void> {
    await this.#until(async () => {
      await Promise.all(this.#alive().map(({ space }) => space.flushed()));
      const all = await this.#statuses();
      const devices = all.map(({ device }) => device);
      const linked = all.every(({ device, status }) => this.#linked(device, status, devices));
      const same = all.every(({ device, status }) => all.every(other => this.#isCut(device, other.device) || other.status.root === status.root));
      return linked && same;
    }, signal);
    await Promise.all(this.#alive().map(({ space }) => space.told()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#alive().map(({ space }) => space.close()));
  }

  [ASYNC_DISPOSE](): Promise<void> {
    return this.close();
  }
}
