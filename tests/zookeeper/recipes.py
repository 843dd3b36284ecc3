"""Every recipe of kazoo through ZooKeeper's door, as kazoo's users write them.

usage: recipes.py HOSTS

HOSTS is what a kazoo client takes. Prints a line for each recipe. Then it holds and waits for all kinds of things at once,
prints `kill the leader`, and waits for a line on standard input that says that this was done. What was held has to be held
still, nothing that was acknowledged may be gone, nobody may be let in twice, and everything has to go on.
"""

import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (BadVersionError, CancelledError, ConnectionLoss, LockTimeout, NoAuthError, NodeExistsError,
                              NoNodeError, NotEmptyError, SessionExpiredError)
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.partitioner import PartitionState
from kazoo.recipe.watchers import PatientChildrenWatch
from kazoo.retry import KazooRetry
from kazoo.security import make_acl, make_digest_acl

HOSTS = sys.argv[1]
PATIENCE = 60
RECIPES = []


def until(what, look):
    """Looks again and again until there is something to see."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain until {what}")


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r}, not {wanted!r}")


def raises(kind, call, *arguments, **named):
    try:
        found = call(*arguments, **named)
    except kind:
        return
    raise AssertionError(f"{found!r} instead of {kind.__name__}")


def connect(**options):
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5, deadline=PATIENCE)
    client = KazooClient(hosts=HOSTS, timeout=10, connection_retry=retry, command_retry=retry.copy(), **options)
    client.start(timeout=PATIENCE)
    return client


@contextmanager
def clients(count, **options):
    opened = [connect(**options) for _ in range(count)]
    try:
        yield opened
    finally:
        for client in opened:
            client.stop()
            client.close()


def thread(target, *arguments):
    started = threading.Thread(target=target, args=arguments, daemon=True)
    started.start()
    return started


def joined(started):
    started.join(PATIENCE)
    if started.is_alive():
        raise AssertionError("a thread does not end")


def recipe(function):
    RECIPES.append(function)
    return function


@recipe
def nodes():
    with clients(2) as (one, two):
        one.ensure_path("/nodes/deep/er")
        same(one.create("/nodes/a", b"1", include_data=True)[1].version, 0)
        raises(NodeExistsError, two.create, "/nodes/a")
        stat = two.set("/nodes/a", b"2", version=0)
        same((stat.version, stat.dataLength), (1, 1))
        raises(BadVersionError, one.set, "/nodes/a", b"3", version=0)
        one.sync("/nodes/a")
        same(one.get("/nodes/a")[0], b"2")
        raises(NotEmptyError, one.delete, "/nodes/deep")
        raises(NoNodeError, one.get, "/nodes/none")
        same(one.exists("/nodes/none"), None)
        same(sorted(one.get_children("/nodes")), ["a", "deep"])
        names = [one.create("/nodes/deep/s-", sequence=True) for _ in range(3)]
        same(names, sorted(names))
        one.create("/nodes/mine", ephemeral=True)
        same(one.get("/nodes/mine")[1].ephemeralOwner, one.client_id[0])
        two.sync("/nodes")
        same(two.exists("/nodes/mine").owner_session_id, one.client_id[0])
        one.delete("/nodes/deep", recursive=True)
        transaction = one.transaction()
        transaction.check("/nodes/a", 1)
        transaction.create("/nodes/b", b"x", sequence=True)
        transaction.set_data("/nodes/a", b"4")
        transaction.delete("/nodes/mine")
        found = transaction.commit()
        same((found[0], found[2].version, found[3]), (True, 2, True))
        transaction = one.transaction()
        transaction.create("/nodes/c")
        transaction.check("/nodes/a", 7)
        same([type(part).__name__ for part in transaction.commit()], ["RolledBackError", "BadVersionError"])
        same(one.exists("/nodes/c"), None)
        same(one.create("/nodes/big", b"x" * 900_000), "/nodes/big")
        same(len(one.get("/nodes/big")[0]), 900_000)
        # What is under way at once is answered in its order.
        results = [one.set_async("/nodes/a", str(n).encode()) for n in range(200)]
        reads = [one.get_async("/nodes/a") for _ in range(50)]
        versions = [result.get(PATIENCE).version for result in results]
        same(versions, list(range(versions[0], versions[0] + 200)))
        same({read.get(PATIENCE)[0] for read in reads}, {b"199"})


@recipe
def expiry():
    """A client that dies is gone with its nodes when its time is over; one that stops, at once."""
    program = f"""
import sys, time
from kazoo.client import KazooClient
client = KazooClient(hosts={HOSTS!r}, timeout=2)
client.start(timeout={PATIENCE})
client.create("/dying", ephemeral=True)
print("here", flush=True)
time.sleep(600)
"""
    with clients(2) as (watcher, other):
        gone = threading.Event()
        dying = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        try:
            dying.stdout.readline()
            watcher.sync("/")
            assert watcher.exists("/dying", watch=lambda event: gone.set())
            assert not gone.wait(4), "a client that lives is not expired"
        finally:
            dying.kill()
            dying.wait()
        if not gone.wait(PATIENCE):
            raise AssertionError("a dead client's node stays")
        same(watcher.exists("/dying"), None)
        other.create("/stopping", ephemeral=True)
        watcher.sync("/")
        stopped = threading.Event()
        assert watcher.exists("/stopping", watch=lambda event: stopped.set())
        other.stop()
        if not stopped.wait(PATIENCE):
            raise AssertionError("a stopped client's node stays")
    wrong = KazooClient(hosts=HOSTS, timeout=10, client_id=(4711, b"\1" * 16))
    wrong.start(timeout=PATIENCE)
    assert wrong.client_id[0] != 4711, "nobody's session is opened anew"
    wrong.stop()
    wrong.close()


@recipe
def access():
    digest = ("digest", "joe:secret")
    with clients(1, auth_data=[digest]) as (joe,), clients(1) as (other,):
        own = make_digest_acl("joe", "secret", all=True)
        joe.create("/access", b"x", acl=[own])
        same(joe.get("/access")[0], b"x")
        until("it is seen", lambda: other.exists("/access"))
        raises(NoAuthError, other.get, "/access")
        raises(NoAuthError, other.set, "/access", b"y")
        raises(NoAuthError, other.create, "/access/child")
        joe.set_acls("/access", [own, make_acl("world", "anyone", read=True)])
        other.sync("/access")
        same(other.get("/access")[0], b"x")
        other.add_auth(*digest)
        same(other.set("/access", b"z").version, 1)
        same(len(other.get_acls("/access")[0]), 2)


@recipe
def data_watch():
    with clients(2) as (one, two):
        seen = []
        one.ensure_path("/watched")

        @one.DataWatch("/watched/data")
        def told(data, stat):
            seen.append(data)

        two.create("/watched/data", b"0")
        until("the creation is told", lambda: seen[-1:] == [b"0"])
        for n in range(1, 20):
            two.set("/watched/data", str(n).encode())
        until("the last change is told", lambda: seen[-1:] == [b"19"])
        numbers = [int(data) for data in seen if data is not None]
        same(numbers, sorted(numbers))
        two.delete("/watched/data")
        until("the deletion is told", lambda: seen[-1] is None)


@recipe
def children_watch():
    with clients(2) as (one, two):
        seen = []
        one.ensure_path("/watched/children")

        @one.ChildrenWatch("/watched/children")
        def told(children):
            seen.append(sorted(children))

        for name in "abc":
            two.create(f"/watched/children/{name}")
        until("all are told", lambda: seen[-1:] == [["a", "b", "c"]])
        two.delete("/watched/children/b")
        until("the deletion is told", lambda: seen[-1] == ["a", "c"])
        children, result = PatientChildrenWatch(one, "/watched/children", time_boundary=0.2).start().get(PATIENCE)
        same(sorted(children), ["a", "c"])
        two.create("/watched/children/d")
        result.get(PATIENCE)


@recipe
def tree_cache():
    with clients(2) as (one, two):
        one.ensure_path("/cached")
        cache, events = TreeCache(one, "/cached"), []
        cache.listen(lambda event: events.append(event.event_type))
        cache.start()
        two.create("/cached/a", b"1")
        two.create("/cached/a/b", b"2")
        until("both are there", lambda: cache.get_data("/cached/a/b"))
        same(cache.get_children("/cached", set()), frozenset(["a"]))
        two.set("/cached/a/b", b"3")
        until("the change is there", lambda: cache.get_data("/cached/a/b").data == b"3")
        two.delete("/cached/a/b")
        until("it is gone", lambda: cache.get_data("/cached/a/b") is None)
        cache.close()


@recipe
def persistent_watches():
    """kazoo has no call for them: the requests themselves."""
    from kazoo.protocol.serialization import int_struct, write_string

    class AddWatch:
        type = 106

        def __init__(self, path, mode):
            self.path, self.mode = path, mode

        def serialize(self):
            return write_string(self.path) + int_struct.pack(self.mode)

        @classmethod
        def deserialize(cls, data, offset):
            return int_struct.unpack_from(data, offset)[0]

    with clients(2) as (one, two):
        one.ensure_path("/persistent")
        result = one.handler.async_result()
        one._call(AddWatch("/persistent", 1), result)
        same(result.get(PATIENCE), 0)
        seen = []
        # kazoo hands events to whoever it thinks has set a watch.
        original = one._connection._read_watch_event

        def read(data, offset):
            from kazoo.protocol.serialization import Watch

            seen.append((Watch.deserialize(data, offset)[0].type, Watch.deserialize(data, offset)[0].path))
            return original(data, offset)

        one._connection._read_watch_event = read
        two.create("/persistent/a")
        two.set("/persistent/a", b"x")
        two.set("/persistent/a", b"y")
        two.delete("/persistent/a")
        until("all is told", lambda: len(seen) == 4)
        same(seen, [(kind, "/persistent/a") for kind in (1, 3, 3, 2)])


@recipe
def lock():
    with clients(3) as opened:
        inside, most, turns = [], [], []

        def work(client, name):
            for _ in range(10):
                with client.Lock("/lock", name):
                    inside.append(name)
                    most.append(len(inside))
                    turns.append(name)
                    inside.remove(name)

        workers = [thread(work, client, f"w{n}") for n, client in enumerate(opened)]
        for worker in workers:
            joined(worker)
        same((max(most), len(turns)), (1, 30))
        held = opened[0].Lock("/lock", "holder")
        same(held.acquire(), True)
        same(opened[1].Lock("/lock").contenders(), ["holder"])
        same(opened[1].Lock("/lock", "other").acquire(blocking=False), False)
        raises(LockTimeout, opened[1].Lock("/lock", "late").acquire, timeout=0.3)
        waiting = opened[2].Lock("/lock", "cancelled")
        failed = []

        def wait():
            try:
                waiting.acquire()
            except CancelledError:
                failed.append(True)

        waiter = thread(wait)
        until("it waits", lambda: len(opened[1].Lock("/lock").contenders()) == 2)
        waiting.cancel()
        joined(waiter)
        same(failed, [True])
        held.release()


@recipe
def read_write_locks():
    with clients(3) as (one, two, three):
        first, second = one.ReadLock("/rwlock", "r1"), two.ReadLock("/rwlock", "r2")
        same((first.acquire(), second.acquire()), (True, True))
        writer, got = three.WriteLock("/rwlock", "w"), threading.Event()

        def write():
            writer.acquire()
            got.set()

        waiter = thread(write)
        until("the writer waits", lambda: "w" in one.WriteLock("/rwlock").contenders())
        same(one.ReadLock("/rwlock", "r3").acquire(blocking=False), False)
        first.release()
        assert not got.wait(0.2)
        second.release()
        joined(waiter)
        assert got.is_set()
        writer.release()


@recipe
def semaphore():
    with clients(3) as opened:
        inside, most, guard = [], [], threading.Lock()

        def work(client):
            for _ in range(6):
                with client.Semaphore("/semaphore", max_leases=2):
                    with guard:
                        inside.append(1)
                        most.append(len(inside))
                    time.sleep(0.01)
                    with guard:
                        inside.pop()

        workers = [thread(work, client) for client in opened]
        for worker in workers:
            joined(worker)
        assert max(most) <= 2, most
        same(len(most), 18)


@recipe
def leases():
    from datetime import timedelta

    with clients(2) as (one, two):
        same(bool(one.NonBlockingLease("/lease", timedelta(seconds=60), "a")), True)
        same(bool(two.NonBlockingLease("/lease", timedelta(seconds=60), "b")), False)
        many = [bool(client.MultiNonBlockingLease(1, "/leases", timedelta(seconds=60), name))
                for client, name in ((one, "a"), (two, "b"))]
        same(many, [True, False])


@recipe
def election():
    with clients(3) as opened:
        led, release = [], threading.Event()
        elections = [client.Election("/election", f"c{n}") for n, client in enumerate(opened)]

        def lead(name):
            led.append(name)
            if len(led) < 3:
                time.sleep(0.05)
            release.wait(PATIENCE)

        runners = [thread(elections[n].run, lead, n) for n in range(3)]
        until("somebody leads and two wait", lambda: led and len(elections[0].contenders()) == 3)
        same(len(led), 1)
        release.set()
        for runner in runners:
            joined(runner)
        same(sorted(led), [0, 1, 2])


@recipe
def party():
    with clients(2) as (one, two):
        for kind in ("Party", "ShallowParty"):
            here = getattr(one, kind)(f"/{kind}", "one")
            there = getattr(two, kind)(f"/{kind}", "two")
            here.join()
            there.join()
            until("both are in", lambda: sorted(here) == ["one", "two"] and len(there) == 2)
            there.leave()
            until("one is in", lambda: list(here) == ["one"])
            here.leave()


@recipe
def barrier():
    with clients(2) as (one, two):
        closed, passed = one.Barrier("/barrier"), threading.Event()
        closed.create()

        def wait():
            two.sync("/barrier")
            two.Barrier("/barrier").wait(PATIENCE)
            passed.set()

        waiter = thread(wait)
        assert not passed.wait(0.3)
        closed.remove()
        joined(waiter)
        assert passed.is_set()


@recipe
def double_barrier():
    with clients(3) as opened:
        inside, guard = [], threading.Lock()

        def work(client, n):
            gate = client.DoubleBarrier("/double", num_clients=3, identifier=f"d{n}")
            gate.enter()
            with guard:
                inside.append(n)
            gate.leave()

        workers = [thread(work, client, n) for n, client in enumerate(opened)]
        for worker in workers:
            joined(worker)
        same(sorted(inside), [0, 1, 2])


@recipe
def queue():
    with clients(2) as (one, two):
        line = one.Queue("/queue")
        for n in range(20):
            line.put(str(n).encode(), priority=100 if n % 2 else 50)
        same(len(line), 20)
        two.sync("/queue")
        taken = [int(two.Queue("/queue").get()) for _ in range(20)]
        same(taken, list(range(0, 20, 2)) + list(range(1, 20, 2)))
        same(line.get(), None)


@recipe
def locking_queue():
    with clients(2) as (one, two):
        line, other = one.LockingQueue("/locking"), two.LockingQueue("/locking")
        line.put_all([b"a", b"b", b"c"])
        same(line.get(PATIENCE), b"a")
        same(line.holds_lock(), True)
        same(other.get(PATIENCE), b"b")
        same(line.consume(), True)
        same(other.release(), True)
        same(sorted([line.get(PATIENCE), other.get(PATIENCE)]), [b"b", b"c"])
        same((line.consume(), other.consume()), (True, True))
        same(line.get(0.2), None)


@recipe
def counter():
    with clients(3) as opened:
        def work(client):
            number = client.Counter("/counter")
            for _ in range(20):
                number += 1

        workers = [thread(work, client) for client in opened]
        for worker in workers:
            joined(worker)
        opened[0].sync("/counter")
        same(opened[0].Counter("/counter").value, 60)
        real = opened[0].Counter("/counter_f", default=0.5)
        real += 1.5
        real -= 0.5
        same(real.value, 1.5)


@recipe
def partitioner():
    with clients(2) as (one, two):
        parts = []
        for n, client in enumerate((one, two)):
            parts.append(client.SetPartitioner("/partitioned", set=tuple(range(6)), identifier=f"p{n}", time_boundary=1))

        def acquired():
            for part in parts:
                if part.state == PartitionState.RELEASE:
                    part.release_set()
                elif part.state == PartitionState.ALLOCATING:
                    part.wait_for_acquire(0.5)
            return all(part.acquired for part in parts) and sorted(sum([list(part) for part in parts], [])) == [*range(6)]

        until("all is given out", acquired)
        same(sorted(len(list(part)) for part in parts), [3, 3])
        parts[1].finish()
        parts = parts[:1]
        until("one has all", acquired)
        parts[0].finish()


def across_a_kill():
    """Everything at once, while the leader dies."""
    opened = [connect() for _ in range(6)]
    keeper, contender, counting, feeding, eating, watching = opened
    sessions = [client.client_id[0] for client in opened]
    lost = []
    for client in opened:
        client.add_listener(lambda state: lost.append(state) if state == KazooState.LOST else None)
    keeper.ensure_path("/kill")
    for client in opened:
        client.sync("/kill")

    held = keeper.Lock("/kill/lock", "keeper")
    held.acquire()
    got = threading.Event()
    wanted = contender.Lock("/kill/lock", "contender")

    def contend():
        wanted.acquire()
        got.set()

    contending = thread(contend)
    members = [client.Party("/kill/party", f"m{n}") for n, client in enumerate(opened)]
    for member in members:
        member.join()
    cache = TreeCache(watching, "/kill/cached")
    keeper.ensure_path("/kill/cached")
    cache.start()
    seen, children = [], []
    keeper.ensure_path("/kill/children")

    @watching.DataWatch("/kill/data")
    def told(data, stat):
        seen.append(data)

    @watching.ChildrenWatch("/kill/children")
    def told_children(names):
        children.append(sorted(names))

    stop = threading.Event()
    counted, unknown, put, taken, unsure, errors = [], [], [], [], [], []

    def guarded(work):
        def run():
            try:
                while not stop.is_set():
                    work()
            except Exception:
                errors.append(traceback.format_exc())
        return thread(run)

    def count():
        # Not tried again by kazoo: whether it was done is looked up by the version.
        number = len(counted) + len(unknown)
        try:
            counting._set_once = counting.set_async("/kill/count", str(number).encode()).get(PATIENCE)
            counted.append(number)
        except (ConnectionLoss, SessionExpiredError):
            unknown.append(number)
            until("it is connected again", lambda: counting.connected)

    counting.create("/kill/count", b"")
    adding = counting.Counter("/kill/counter")
    added = []

    def add():
        nonlocal adding
        adding += 1
        added.append(1)

    def feed():
        item = f"item {len(put)}".encode()
        feeding.retry(feeding.create, "/kill/items/i-", item, sequence=True)
        put.append(item)
        time.sleep(0.01)

    def eat():
        line, item = eating.LockingQueue("/kill/line"), None
        try:
            item = line.get(1)
            if item is not None and line.consume():
                taken.append(item)
        except ConnectionLoss:
            # kazoo leaves open whether it has consumed it.
            unsure.extend([item] if item is not None else [])
            until("it is connected again", lambda: eating.connected)

    feeding.ensure_path("/kill/items")
    filled = feeding.LockingQueue("/kill/line")
    filled.put_all([f"line {n}".encode() for n in range(40)])
    workers = [guarded(work) for work in (count, add, feed, eat)]
    until("work goes on", lambda: len(counted) > 20 and len(added) > 5 and len(put) > 20 and taken)

    print("kill the leader", flush=True)
    sys.stdin.readline()
    marks = [len(counted), len(added), len(put)]

    def go_on():
        if errors:
            raise AssertionError(errors[0])
        now = [len(counted), len(added), len(put)]
        return all(b >= a + 20 for a, b in zip(marks, now))

    until("work goes on without it", go_on)
    stop.set()
    for worker in workers:
        joined(worker)
    same(errors, [])
    # No session was lost, so nothing was let go of.
    same((lost, [client.client_id[0] for client in opened]), ([], sessions))
    assert not got.is_set(), "two have the lock"
    counting.sync("/kill")
    version = counting.get("/kill/count")[1].version
    assert len(counted) <= version <= len(counted) + len(unknown), (len(counted), version, len(unknown))
    feeding.sync("/kill")
    there = [feeding.get(f"/kill/items/{name}")[0] for name in feeding.get_children("/kill/items")]
    missing = set(put) - set(there)
    assert not missing, f"acknowledged and gone: {missing}"
    assert counting.Counter("/kill/counter").value >= len(added)
    keeper.sync("/kill")
    until("all are in", lambda: sorted(members[0]) == [f"m{n}" for n in range(6)])
    # Watches that were set before are set still.
    keeper.create("/kill/data", b"new")
    keeper.create("/kill/children/c", b"")
    keeper.create("/kill/cached/x", b"y")
    until("the watch tells", lambda: seen[-1:] == [b"new"])
    until("the watch of children tells", lambda: children[-1:] == [["c"]])
    until("the cache has it", lambda: cache.get_data("/kill/cached/x"))
    held.release()
    joined(contending)
    assert got.is_set()
    wanted.release()
    # What it may have taken and does not know of is free again when its session ends.
    eating.stop()
    keeper.sync("/kill")
    rest, line = [], keeper.LockingQueue("/kill/line")
    while (item := line.get(2)) is not None:
        same(line.consume(), True)
        rest.append(item)
    all_of_it = {f"line {n}".encode() for n in range(40)}
    same((set(taken) | set(unsure) | set(rest)), all_of_it)
    assert len(taken) == len(set(taken)) and not set(taken) & set(rest), "an item was consumed twice"
    cache.close()
    for client in opened:
        client.stop()
        client.close()
    print(f"across a kill: ok ({len(counted)} writes, {len(unknown)} of unknown outcome)", flush=True)


def main():
    failed = False
    for function in RECIPES:
        try:
            function()
            print(f"{function.__name__}: ok", flush=True)
        except Exception:
            failed = True
            print(f"{function.__name__}: FAILED\n{traceback.format_exc()}", flush=True)
    if failed:
        sys.exit(1)
    across_a_kill()


if __name__ == "__main__":
    main()
