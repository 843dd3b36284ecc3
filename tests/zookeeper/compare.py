"""Does the same to two servers of ZooKeeper's protocol and compares what they answer, reply by reply and event by event.

usage: compare.py OURS THEIRS SEED SEQUENCES WORKERS

OURS and THEIRS are HOST:PORT. Each sequence is drawn from its own seed: a few dozen operations of two sessions on a small
tree of its own, so that they meet. Compared are the error code, the whole body of a reply, and every event, in order. What
two servers cannot have alike is brought to a common form first: session ids and passwords, times (they have to be near the
clock), and zxids, each of which is named after the operation that made it. Differences that docs/zookeeper.md lists are in
EXPECTED, each with the number that it has there; any other one is printed with its sequence, and makes this fail.

Only Python's standard library is used.
"""

import random
import socket
import struct
import sys
import threading
import time

PATIENCE = 60
OPEN = [(31, "world", "anyone")]

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = range(1, 10)
GET_CHILDREN2, CHECK, MULTI, CREATE2 = range(12, 16)
CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER = range(17, 20)
CREATE_TTL, MULTI_READ = 21, 22
AUTH, SET_WATCHES, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2 = 100, 101, 103, 104, 105
ADD_WATCH, WHO_AM_I, CLOSE, ERROR = 106, 107, -11, -1

NAMES = {value: name for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)}


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def flag(value):
    return b"\1" if value else b"\0"


def buffer(value):
    return i32(-1) if value is None else i32(len(value)) + value


def text(value):
    return buffer(value if value is None else value.encode())


def items(values, item):
    return i32(len(values)) + b"".join(item(value) for value in values)


def acl(entries):
    return items(entries, lambda entry: i32(entry[0]) + text(entry[1]) + text(entry[2]))


class Bytes:
    """Reads records."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("a record ends early")
        self.at += count
        return found

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def flag(self):
        return self.take(1) != b"\0"

    def buffer(self):
        length = self.i32()
        return None if length == -1 else self.take(length)

    def text(self):
        found = self.buffer()
        return None if found is None else found.decode()

    def items(self, item):
        return [item() for _ in range(max(0, self.i32()))]

    def done(self):
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes too many")


class Closed(Exception):
    """The server closed the connection."""


class Connection:
    """One connection of one server."""

    def __init__(self, server, timeout=30_000, session=0, password=b"\0" * 16, seen=0):
        self.server = server
        self.socket = socket.create_connection(server.address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE)
        self.waiting = b""
        self.send(i32(0) + i64(seen) + i32(timeout) + i64(session) + buffer(password) + flag(False))
        answer = Bytes(self.frame())
        answer.i32()
        self.timeout, self.session, self.password = answer.i32(), answer.i64(), answer.buffer()
        self.xid = 0

    def send(self, body):
        self.socket.sendall(i32(len(body)) + body)

    def frame(self):
        def more(count):
            while len(self.waiting) < count:
                try:
                    part = self.socket.recv(65536)
                except ConnectionResetError:
                    part = b""
                if not part:
                    raise Closed
                self.waiting += part
            found, self.waiting = self.waiting[:count], self.waiting[count:]
            return found

        return more(struct.unpack(">i", more(4))[0])

    def ask(self, code, body, xid=None):
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.asked = xid
        try:
            self.send(i32(xid) + i32(code) + body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self):
        """Events before the answer, and the answer: zxid, error, body. Or how the server closed the connection."""
        events = []
        while True:
            frame = Bytes(self.frame())
            xid, zxid, error = frame.i32(), frame.i64(), frame.i32()
            if xid == -1:
                kind, state, path = frame.i32(), frame.i32(), frame.text()
                frame.done()
                events.append((zxid, error, kind, state, path))
                continue
            if xid != self.asked:
                raise ValueError(f"an answer to {xid}, not {self.asked}")
            return events, zxid, error, frame

    def close(self):
        self.socket.close()


class Server:
    """One of the two: where it is, and what its numbers stand for."""

    def __init__(self, name, address):
        host, port = address.rsplit(":", 1)
        self.name, self.address = name, (host, int(port))


class Side:
    """One server's half of a sequence."""

    def __init__(self, server):
        self.server = server
        self.connections = {}
        self.zxids = {}
        self.sessions = {}
        self.seen = [0]
        self.newest = 0
        self.left = []

    def zxid(self, number):
        if number <= 0:
            return number
        return self.zxids.get(number, "?")

    def owner(self, number):
        return self.sessions.get(number, number)

    def stat(self, r):
        czxid, mzxid = self.zxid(r.i64()), self.zxid(r.i64())
        times = [r.i64(), r.i64()]
        now = time.time() * 1000
        times = [0 if number == 0 else "now" if abs(now - number) < 600_000 else number for number in times]
        version, cversion, aversion, owner, length, children = (
            r.i32(), r.i32(), r.i32(), self.owner(r.i64()), r.i32(), r.i32())
        return {"czxid": czxid, "mzxid": mzxid, "times": times, "version": version, "cversion": cversion,
                "aversion": aversion, "owner": owner, "length": length, "children": children,
                "pzxid": self.zxid(r.i64())}

    def body(self, code, r):
        if code == CREATE or code == SYNC:
            found = r.text()
        elif code in (CREATE2, CREATE_CONTAINER, CREATE_TTL):
            found = (r.text(), self.stat(r))
        elif code in (EXISTS, SET_DATA, SET_ACL):
            found = self.stat(r)
        elif code == GET_DATA:
            found = (r.buffer(), self.stat(r))
        elif code == GET_ACL:
            found = (r.items(lambda: (r.i32(), r.text(), r.text())), self.stat(r))
        elif code == GET_CHILDREN:
            found = sorted(r.items(r.text))
        elif code == GET_CHILDREN2:
            found = (sorted(r.items(r.text)), self.stat(r))
        elif code in (MULTI, MULTI_READ):
            found = self.parts(r)
        elif code == WHO_AM_I:
            found = sorted(r.items(lambda: (r.text(), r.text())))
        elif code == GET_EPHEMERALS:
            found = sorted(r.items(r.text))
        elif code in (GET_ALL_CHILDREN_NUMBER, ADD_WATCH):
            found = r.i32()
        else:
            found = r.data[r.at :].hex()
            r.at = len(r.data)
        r.done()
        return found

    def parts(self, r):
        found = []
        while True:
            code, done, error = r.i32(), r.flag(), r.i32()
            if done:
                return found + [(code, error)]
            if code == ERROR:
                found.append((code, error, r.i32()))
            elif code == GET_DATA:
                found.append((code, error, r.buffer(), self.stat(r)))
            elif code == GET_CHILDREN:
                found.append((code, error, sorted(r.items(r.text))))
            elif code == CREATE:
                found.append((code, error, r.text()))
            elif code == CREATE2:
                found.append((code, error, r.text(), self.stat(r)))
            elif code == SET_DATA:
                found.append((code, error, self.stat(r)))
            else:
                found.append((code, error))


class Op:
    """An operation of a sequence."""

    def __init__(self, client, code, body, words, writes=False, ends=False, xid=None, about=None, watch=False, mode=0):
        self.client, self.code, self.body, self.words = client, code, body, words
        self.writes, self.ends, self.xid = writes, ends, xid
        self.about, self.watch, self.mode = about, watch, mode

    def __str__(self):
        name = self.code if isinstance(self.code, str) else NAMES.get(self.code, self.code)
        return f"client {self.client}: {name} {self.words}"


class Generator:
    """Draws the operations of one sequence."""

    def __init__(self, seed, root):
        self.dice = random.Random(seed)
        self.root = root

    def path(self, nodes=True):
        """A path, or now and then what is none. `nodes`: the root, which is not alike, is not among them."""
        dice = self.dice
        if dice.random() < 0.03:
            return dice.choice(([] if nodes else ["", "/"]) + ["x", self.root + "/", self.root + "//a", self.root + "/./a", self.root + "/\x01",
                                self.root + "/a/", "//", self.root + "/.."] + ([self.root] if nodes else []))
        return self.node()

    def node(self):
        dice = self.dice
        depth = dice.choice([1, 1, 1, 2, 2, 3])
        return self.root + "".join("/" + dice.choice("ab") for _ in range(depth))

    def version(self):
        return self.dice.choice([-1, -1, -1, 0, 0, 1, 2, 7, -2])

    def data(self):
        return self.dice.choice([b"", b"x", b"some data", bytes(range(200))])

    def acl(self):
        dice = self.dice
        if dice.random() < 0.6:
            return OPEN
        return dice.choice([
            [], [(31, "auth", "")], [(1, "world", "anyone")], [(31, "world", "nobody")], [(31, "digest", "a")],
            [(31, "digest", "a:b:c")], [(31, "ip", "127.0.0.1")], [(31, "ip", "10.0.0.0/8"), (1, "world", "anyone")],
            [(31, "ip", "10.0.0.0/40")], [(31, "nothing", "x")], [(31, "world", "anyone"), (31, "world", "anyone")],
            [(5, "world", "anyone"), (31, "auth", "")], [(31, "digest", "u0:x"), (9, "world", "anyone")],
            [(0, "world", "anyone")], [(15, "world", "anyone"), (16, "auth", "x")], [(3, "ip", "127.0.0.1/8")],
            [(17, "digest", "u1:h"), (12, "world", "anyone")], [(31, "ip", "nowhere")],
        ])

    def create(self, kind=None):
        """The code, the body and the words of a creation."""
        dice = self.dice
        path, data, entries = self.path(False), self.data(), self.acl()
        code = kind or dice.choice([CREATE, CREATE, CREATE, CREATE2, CREATE2, CREATE_CONTAINER, CREATE_TTL])
        if path in ("", "/"):
            # Numbers below the root are not alike.
            flags = dice.choice([0, 1, 4])
        elif code == CREATE_CONTAINER:
            flags = dice.choice([4, 4, 4, 0, 1])
        elif code == CREATE_TTL:
            flags = dice.choice([5, 5, 6, 6, 0, 9])
        else:
            flags = dice.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 7, -1])
        body = text(path) + buffer(data) + acl(entries) + i32(flags)
        words = f"{path!r} {len(data)} bytes {entries} flags {flags}"
        if code == CREATE_TTL:
            # A node without a time that is given none stops ZooKeeper 3.8.0 for good.
            none = [-1] if flags in (5, 6) else []
            ttl = dice.choice([100_000, 100_000, 100_000, 0, 1 << 40, (1 << 40) - 1, *none])
            body += i64(ttl)
            words += f" ttl {ttl}"
        return code, body, words

    def part(self):
        kind = self.dice.choice([CREATE, CREATE, DELETE, SET_DATA, CHECK])
        if kind == CREATE:
            return self.create()
        path, version = self.path(), self.version()
        if kind == SET_DATA:
            data = self.data()
            return kind, text(path) + buffer(data) + i32(version), f"{path!r} version {version}"
        return kind, text(path) + i32(version), f"{path!r} version {version}"

    def op(self):
        dice = self.dice
        client = dice.choice([0, 0, 1])
        path, watch = self.path(), dice.random() < 0.4
        kind = dice.choices(
            ["create", "delete", "set", "multi", "set acl", "exists", "data", "children", "children2",
             "get acl", "sync", "multi read", "add watch", "remove watches", "check watches", "set watches", "auth",
             "who am i", "ephemerals", "count", "reattach", "close", "unknown"],
            [26, 10, 12, 9, 4, 10, 10, 8, 4, 4, 2, 3, 5, 4, 3, 2, 2, 1, 2, 2, 1.5, 1.5, 0.2])[0]
        if kind == "create":
            code, body, words = self.create()
            return Op(client, code, body, words, True)
        if kind == "delete":
            path, version = self.path(False), self.version()
            return Op(client, DELETE, text(path) + i32(version), f"{path!r} version {version}", True)
        if kind == "set":
            version = self.version()
            return Op(client, SET_DATA, text(path) + buffer(self.data()) + i32(version), f"{path!r} {version}", True)
        if kind == "set acl":
            entries, version = self.acl(), self.version()
            return Op(client, SET_ACL, text(path) + acl(entries) + i32(version), f"{path!r} {entries} {version}", True)
        if kind == "multi":
            parts = [self.part() for _ in range(dice.choice([0, 1, 2, 2, 3, 4]))]
            body = b"".join(i32(code) + flag(False) + i32(-1) + part for code, part, _ in parts)
            words = "; ".join(f"{NAMES[code]} {part}" for code, _, part in parts)
            return Op(client, MULTI, body + i32(-1) + flag(True) + i32(-1), words, True)
        if kind == "multi read":
            parts = [(dice.choice([GET_DATA, GET_CHILDREN]), self.path()) for _ in range(dice.choice([0, 1, 2, 3]))]
            body = b"".join(i32(code) + flag(False) + i32(-1) + text(part) + flag(False) for code, part in parts)
            return Op(client, MULTI_READ, body + i32(-1) + flag(True) + i32(-1), f"{parts}")
        reads = {"exists": EXISTS, "data": GET_DATA, "children": GET_CHILDREN, "children2": GET_CHILDREN2}
        if kind in reads:
            words = f"{path!r} watch {watch}"
            return Op(client, reads[kind], text(path) + flag(watch), words, about=path, watch=watch)
        plain = {"get acl": GET_ACL, "sync": SYNC, "ephemerals": GET_EPHEMERALS, "count": GET_ALL_CHILDREN_NUMBER}
        if kind == "ephemerals":
            path = self.root + dice.choice(["", "/a", "/b/"])
        if kind in plain:
            return Op(client, plain[kind], text(path), f"{path!r}")
        if kind == "add watch":
            mode = dice.choice([0, 0, 1, 1, 2])
            return Op(client, ADD_WATCH, text(path) + i32(mode), f"{path!r} mode {mode}", about=path, mode=mode)
        if kind in ("remove watches", "check watches"):
            code = {"remove watches": REMOVE_WATCHES, "check watches": CHECK_WATCHES}[kind]
            which = dice.choice([1, 2, 3, 3, 9])
            return Op(client, code, text(path) + i32(which), f"{path!r} type {which}", about=path)
        if kind == "set watches":
            lists = [[self.node() for _ in range(dice.choice([0, 1, 2]))] for _ in range(5)]
            return Op(client, "set watches", (dice.random(), lists), f"{lists}", xid=-8)
        if kind == "auth":
            scheme = "digest" if dice.random() < 0.95 else dice.choice(["nothing", "world"])
            user = dice.choice(["u0:x", "u1:y"])
            return Op(client, AUTH, i32(0) + text(scheme) + buffer(user.encode()), f"{scheme} {user}", xid=-4)
        if kind == "who am i":
            return Op(client, WHO_AM_I, b"", "")
        if kind == "reattach":
            return Op(client, "reattach", dice.random() < 0.1, "")
        if kind == "close":
            return Op(client, CLOSE, b"", "", True, True)
        return Op(client, dice.choice([99, 1000]), b"", "")


class Difference(Exception):
    """The two do not answer alike."""


class Run:
    """One sequence on both servers."""

    def __init__(self, servers, seed, length, strict, setup):
        self.seed, self.length, self.strict = seed, length, strict
        self.sides = [Side(server) for server in servers]
        self.root = f"/compare/{seed}"
        self.watched = [{}, {}]
        self.mixed = [set(), set()]
        self.setup = setup
        self.log = []
        self.steps = 0

    def connect(self, client):
        self.steps += 1
        for side in self.sides:
            connection = Connection(side.server)
            if connection.session == 0:
                raise Difference(f"{side.server.name} opens no session")
            side.connections[client] = connection
            side.sessions[connection.session] = f"session {client}, the {self.steps}th"

    def attach(self, side, old):
        """Another connection for a session whose own was closed by the server."""
        old.close()
        new = Connection(side.server, 30_000, old.session, old.password)
        self.settle(side, new)
        return new

    def settle(self, side, connection):
        """3: a session that comes back is an entry of the log here. It counts as the one before."""
        connection.ask(EXISTS, text(self.root) + flag(False))
        side.zxids.setdefault(connection.answer()[1], side.newest)

    def exchange(self, client, code, body, xid=None):
        """Asks both; what each answers."""
        for side, own in zip(self.sides, body if isinstance(body, tuple) else (body, body)):
            side.connections[client].ask(code, own, xid)
        return [self.hear(side, client, code) for side in self.sides]

    def hear(self, side, client, code):
        try:
            events, zxid, error, r = side.connections[client].answer()
        except Closed:
            return {"closed": True}
        return {"events": events, "error": error, "zxid": zxid, "raw": r}

    def finish(self, told, code, step, writes):
        """Names the zxid after its step, then brings the answers to their common form."""
        for side, own in zip(self.sides, told):
            if "closed" in own:
                continue
            if writes and own["zxid"] > 0:
                # 2: what cannot be read is refused at the door, and no entry of the log is spent on it.
                name = side.newest if own["error"] == -5 else f"step {step}"
                side.newest = side.zxids.setdefault(own["zxid"], name)
                side.seen.append(own["zxid"])
            r = own.pop("raw")
            try:
                own["body"] = side.body(code, r) if own["error"] == 0 else r.data[r.at :].hex()
            except (ValueError, UnicodeDecodeError) as error:
                own["body"] = f"not a record: {error}: {r.data.hex()}"
            own["zxid"] = side.zxid(own["zxid"]) if self.strict else own["zxid"] > 0

    def note(self, op):
        """6: a client of ours watches a path in several ways at once, one of theirs in the last way that it asked for; and half
        of a watch that stays can be taken back there. From then on events of such a path are not compared."""
        ways = []
        if op.code == ADD_WATCH:
            ways = [(op.about, "recursive" if op.mode == 1 else "persistent")]
        elif op.code == "set watches":
            names = ["once", "once", "once", "persistent", "recursive"]
            ways = [(path, way) for way, paths in zip(names, op.body[1]) for path in paths]
        elif op.about is not None and op.code in (EXISTS, GET_DATA, GET_CHILDREN, GET_CHILDREN2) and op.watch:
            ways = [(op.about, "once")]
        elif op.code == REMOVE_WATCHES and self.watched[op.client].get(op.about, "once") != "once":
            ways = [(op.about, "half")]
        watched, mixed = self.watched[op.client], self.mixed[op.client]
        for path, way in ways:
            if watched.setdefault(path, way) != way:
                mixed.add(path)

    def is_mixed(self, client, path):
        return any(path == other or path.startswith(other + "/") for other in self.mixed[client])

    def check(self, op, told):
        ours, theirs = told
        for side in told if isinstance(ours, dict) else []:
            if "events" in side:
                side["events"] = [event for event in side["events"] if not self.is_mixed(op.client, event[-1])]
        # Entries of the server's own, such as the end of an empty container of another sequence, are nobody's step.
        if isinstance(ours, dict) and "?" in (ours.get("zxid"), theirs.get("zxid")):
            ours["zxid"] = theirs["zxid"] = "?"
        if op.code in (CHECK_WATCHES, REMOVE_WATCHES) and self.is_mixed(op.client, op.about):
            return
        if ours != theirs:
            raise Difference(f"{op}\n    ours:   {ours}\n    theirs: {theirs}")

    def run(self):
        self.setup(self.sides[0].server), self.setup(self.sides[1].server)
        for client in (0, 1):
            self.connect(client)
        try:
            self.step(0, Op(0, CREATE, text(self.root) + buffer(b"") + acl(OPEN) + i32(0), self.root, True))
            generator = Generator(self.seed, self.root)
            for step in range(1, self.length):
                self.step(step, generator.op())
        finally:
            # Sessions that were left to their time would be entries of the log in the middle of another sequence.
            for side in self.sides:
                for connection in [*side.connections.values(), *side.left]:
                    try:
                        connection.ask(CLOSE, b"")
                        connection.answer()
                    except (Closed, ValueError, OSError):
                        pass
                    connection.close()

    def step(self, step, op):
        self.log.append(f"{step:3} {op}")
        if op.code == "reattach":
            return self.reattach(op)
        self.note(op)
        code, body = op.code, op.body
        if code == "set watches":
            code = SET_WATCHES2
            share, lists = body
            lists = b"".join(items(paths, text) for paths in lists)
            body = tuple(i64(side.seen[int(share * len(side.seen))]) + lists for side in self.sides)
        told = self.exchange(op.client, code, body, op.xid)
        self.finish(told, code, step, op.writes)
        if EXPECTED(self, op, told):
            raise Ended
        self.check(op, told)
        if "closed" in told[0] or op.ends or (op.code == AUTH and told[0]["error"]) or told[0]["error"] == -6:
            for side in self.sides:
                if not op.ends:
                    side.left.append(self.attach(side, side.connections[op.client]))
            self.connect(op.client)
            self.watched[op.client], self.mixed[op.client] = {}, set()
        if op.writes:
            # What the other session is told comes before what it reads.
            for client in (0, 1):
                told = self.exchange(client, EXISTS, text(self.root + "/none") + flag(False))
                self.finish(told, EXISTS, step, False)
                self.check(Op(client, EXISTS, b"", "of nothing, after the step before"), told)

    def reattach(self, op):
        """Another connection for the same session, or one that has not its password."""
        answers = []
        for side in self.sides:
            old = side.connections[op.client]
            if op.body:
                side.left.append(old)
            else:
                old.close()
            password = b"\1" * 16 if op.body else old.password
            new = Connection(side.server, 30_000, old.session, password, side.seen[-1])
            answers.append((new.session == old.session, new.session == 0, new.timeout == 0))
            side.connections[op.client] = new
        self.check(op, answers)
        if op.body:
            self.connect(op.client)
            self.watched[op.client], self.mixed[op.client] = {}, set()
        for side in self.sides:
            self.settle(side, side.connections[op.client])


class Ended(Exception):
    """A difference that is known ended the comparison of this sequence."""


def EXPECTED(run, op, told):
    """Whether this difference is one of those that docs/zookeeper.md lists; brings what it touches to a common form."""
    ours, theirs = told
    if "closed" in ours or "closed" in theirs:
        return False
    # 5: there somebody else's watch counts too.
    if op.code == CHECK_WATCHES and (ours["error"], theirs["error"]) == (-121, 0):
        theirs["error"] = -121
    # 4: watches that stay are told what they missed.
    if op.code == "set watches" and any(op.body[1][3:]):
        left = iter(ours["events"])
        if all(event in left for event in theirs["events"]):
            ours["events"] = theirs["events"]
    return False


def worker(servers, seeds, length, strict, setup, failures, counts, lock):
    for seed in seeds:
        run = Run(servers, seed, length, strict, setup)
        try:
            run.run()
            kind = "alike"
        except Ended:
            kind = "known"
        except Exception as difference:  # noqa: BLE001: whatever it is, it is told
            kind = "different"
            with lock:
                failures.append((seed, run.log, difference))
        with lock:
            counts[kind] = counts.get(kind, 0) + 1
            counts["operations"] = counts.get("operations", 0) + len(run.log)


def setup_once(server, done={}, lock=threading.Lock()):
    with lock:
        if server.name in done:
            return
        connection = Connection(server)
        connection.ask(CREATE, text("/compare") + buffer(b"") + acl(OPEN) + i32(0))
        connection.answer()
        connection.ask(CLOSE, b"")
        connection.answer()
        done[server.name] = True


def main():
    ours, theirs, seed, sequences, workers = sys.argv[1:6]
    length = int(sys.argv[6]) if len(sys.argv) > 6 else 24
    servers = [Server("ours", ours), Server("theirs", theirs)]
    failures, counts, lock = [], {}, threading.Lock()
    seeds = range(int(seed), int(seed) + int(sequences))
    workers = int(workers)
    threads = [
        threading.Thread(target=worker,
                         args=(servers, seeds[n::workers], length, workers == 1, setup_once, failures, counts, lock))
        for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = 0
    for failed, log, difference in sorted(failures, key=lambda failure: failure[0]):
        shown += 1
        if shown <= 12:
            print(f"sequence {failed}: {type(difference).__name__}: {difference}")
            if shown <= 3:
                print("  after:\n    " + "\n    ".join(log[-12:]))
    print(f"{counts}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
