"""What the package owes its process: nothing at import, interrupts, fork, threads, and an end."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import FULL

import pget
import pget.aio


def test_import_starts_nothing(run):
    before = run(
        "import os; print(len(os.listdir('/proc/self/task')), sorted(os.listdir('/proc/self/fd')))"
    )
    after = run(
        "import pget, pget.aio, pget.progress, os;"
        "print(len(os.listdir('/proc/self/task')), sorted(os.listdir('/proc/self/fd')))"
    )
    assert before == after and after.startswith("1 ")


KINDS = [
    ("/missing", {}, pget.NotFoundError, "not_found"),
    ("/denied", {}, pget.AccessError, "permission_denied"),
    ("/unavailable", {"retries": 1}, pget.UnavailableError, "unavailable"),
    ("/nonsense", {"retries": 1, "chunk_size": 300_000}, pget.ProtocolError, "protocol"),
    ("/changed", {"chunk_size": 100_000}, pget.ObjectChangedError, "object_changed"),
    ("/silent", {"retries": 0, "first_byte_timeout": 0.2}, pget.TimedOutError, "timeout"),
    ("/good", {"offset": 10**9}, pget.RangeError, "range"),
    ("/good", {"verify": "require"}, pget.UnverifiableError, "unverifiable"),
]


@pytest.mark.parametrize("path, options, kind, word", KINDS)
def test_each_failure_is_its_exception(servers, path, options, kind, word):
    secret = (
        servers.hostile.replace("http://", "http://user:s3cret@") + path + "?X-Amz-Signature=s3cret"
    )
    for call in (
        pget.read,
        lambda *a, **o: asyncio.run(pget.aio.read(*a, **o)),
        lambda *a, **o: pget.open(*a, **o).read(),
    ):
        with pytest.raises(kind) as caught:
            call(secret, **options)
        error = caught.value
        assert isinstance(error, pget.PgetError) and isinstance(error, OSError)
        assert error.kind == word and error.errno and "\n" not in str(error)
        assert "s3cret" not in str(error) + repr(error) + str(error.filename) + error.object
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)
        assert again.errno == error.errno and again.filename == error.filename


def test_other_failures(servers, tmp_path):
    cancel = pget.Cancel()
    cancel.trigger()
    with pytest.raises(pget.CancelledError):
        pget.read(servers.hostile + "/good", cancel=cancel)
    with pytest.raises(pget.DestinationError) as caught:
        pget.get_file(servers.hostile + "/good", tmp_path / "none" / "file")
    assert caught.value.errno == 2
    with pytest.raises(ValueError):
        pget.read("nonsense://address")
    assert issubclass(pget.NotFoundError, FileNotFoundError) and issubclass(
        pget.TimedOutError, TimeoutError
    )


CALLS = {
    "read": "pget.read(url)",
    "read_into": "pget.read_into(url, buffer)",
    "open": "pget.open(url.replace('stalls', 'silent'))",
    "reader": "pget.open(url).read()",
    "ranges": "pget.read_ranges(url, [(0, 100), (10**6, 2 * 10**6)],"
    " into=[buffer[:100], buffer[10**6 : 2 * 10**6]])",
    "file": "pget.get_file(url, '/tmp/pget-test-interrupted')",
    "files": "pget.get_files([(url, '/tmp/pget-test-interrupted')])",
    "shared": "pget.get_shared(url).wait()",
    "stat": "pget.stat(url.replace('stalls', 'silent'))",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_interrupt_is_heard_and_leaves_no_writer(servers, run, call):
    out = run(
        f"""
import os, pget, signal, sys, threading, time
url, buffer = sys.argv[1], memoryview(bytearray(6 << 20))
def interrupt():
    time.sleep(0.3)
    global at
    at = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    {call}
except KeyboardInterrupt:
    late = time.monotonic() - at
    before = bytes(buffer)
    time.sleep(0.1)
    print(late, before == bytes(buffer))
""",
        servers.hostile + "/stalls",
    )
    late, same = out.split()
    assert float(late) < 0.2 * (1 if FULL else 3) and same == "True"


def test_interrupts_under_load_leave_the_buffer_alone(servers, good, run):
    out = run(
        f"""
import os, pget, random, signal, sys, threading, time
url, times = sys.argv[1], int(sys.argv[2])
size = {len(good)}
interrupted = worst = 0
armed = threading.Event()
def interrupts():
    while True:
        armed.wait()
        time.sleep(random.random() * 0.004)
        global at
        at = time.monotonic()
        armed.clear()
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupts, daemon=True).start()
for number in range(times):
    buffer = bytearray(size)
    try:
        armed.set()
        for _ in range(1000):
            pget.read_into(url, buffer, chunk_size=65536)
        raise SystemExit("never interrupted")
    except KeyboardInterrupt:
        worst = max(worst, time.monotonic() - at)
        buffer[:] = bytes(size)
        interrupted += 1
        time.sleep(0.002)
        assert not any(buffer), number
print(interrupted, worst)
""",
        servers.nginx + "/" + str(len(good)),
        "500" if FULL else "40",
        timeout=600,
    )
    count, worst = out.split()
    assert int(count) == (500 if FULL else 40)
    print("worst", worst)


EXIT = """
import pget, sys, threading, time
url = sys.argv[1]
reader = pget.open(url, chunk_size=65536)
next(iter(reader))
threading.Thread(target=lambda: pget.read(url.replace(sys.argv[2], 'silent')), daemon=True).start()
time.sleep(0.05)
"""


def test_a_process_ends_with_downloads_in_flight(servers, good):
    url = servers.hostile + "/good"
    for _ in range(100 if FULL else 10):
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", EXIT, url, "good"], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        if FULL:
            print("exit", time.monotonic() - begun)


def read_in_child(url):
    return hash(pget.read(url))


def test_workers_that_were_forked_read(servers, good):
    url = servers.nginx + "/" + str(len(good))
    client, reader = pget.Client(chunk_size=200_000), pget.open(url, chunk_size=100_000)
    lease = next(iter(reader))
    assert client.read(url) == good
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert set(pool.map(read_in_child, [url] * 40)) == {hash(good)}
    for _ in range(200 if FULL else 20):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(60)
                for use in (reader.read, reader.tell, lambda: reader.stats):
                    with pytest.raises(pget.ForkedError):
                        use()
                assert bytes(lease) == good[: len(lease)]
                assert client.read(url) == good and asyncio.run(pget.aio.read(url)) == good
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert bytes(lease) + reader.read() == good, "the parent's reader goes on"


def test_eight_threads_on_one_of_each(servers, good):
    url = servers.nginx + "/" + str(len(good))
    client, shared = pget.Client(), pget.get_shared(url)
    reader = pget.open(url, chunk_size=65536)
    refused, parts, wrong = [], [], []
    lock = threading.Lock()

    def use():
        try:
            assert client.read(url) == good
            with shared.wait() as view:
                assert view == good
            while True:
                try:
                    with lock:
                        lease = reader._raw.next()
                        if lease is None:
                            return
                        parts.append(lease)
                    reader.tell()
                except RuntimeError as error:
                    refused.append(error)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert b"".join(sorted(parts, key=lambda lease: lease.offset)) == good
    assert all("in use by another thread" in str(error) for error in refused)
    shared.close()


def test_two_threads_in_one_reader(servers):
    reader = pget.open(servers.hostile + "/silent-later", chunk_size=65536, concurrency=2)
    failed = []

    def read():
        try:
            reader.read()
        except pget.CancelledError as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        reader.read()
    reader.cancel()
    thread.join(5)
    assert not thread.is_alive() and len(failed) == 1


def test_many_opens_leave_nothing(servers):
    url = servers.nginx + "/1"

    def state():
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return (
            int(fields["VmRSS"].split()[0]),
            int(fields["Threads"]),
            len(os.listdir("/proc/self/fd")),
        )

    def opens(count):
        for _ in range(count):
            with pget.open(url) as reader:
                reader.read()

    opens(200)
    before = state()
    opens(10_000 if FULL else 300)
    after = state()
    print("memory KiB, threads, descriptors:", before, after)
    assert after[0] < before[0] + 8192 and after[1] <= before[1] + 1 and after[2] <= before[2] + 2


def test_asyncio_beside_a_heartbeat(servers, good):
    loops = [asyncio.new_event_loop]
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed: not tested")
    else:
        loops.append(uvloop.new_event_loop)
    url, small = servers.nginx + "/" + str(len(good)), servers.nginx + "/1"
    big = 64 * 1024 * 1024 + 5

    async def iterate():
        """Iterates over 64 MiB, or 1 GiB, without looking at the bytes."""
        count = 0
        for _ in range(16 if FULL else 1):
            async with await pget.aio.open(f"{servers.nginx}/{big}") as reader:
                async for lease in reader:
                    count += len(lease)
        return count

    async def body():
        late = [0.0]

        async def heartbeat():
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0.01)
                late[0] = max(late[0], time.monotonic() - begun - 0.01)

        beats = asyncio.create_task(heartbeat())
        many = [pget.aio.read(small) for _ in range(1000 if FULL else 200)]
        results = await asyncio.gather(pget.aio.read(url), *many)
        assert await iterate() == big * (16 if FULL else 1)
        beats.cancel()
        assert results[0] == good and set(results[1:]) == {good[:1]}
        buffer = bytearray(len(good))
        for wait in (0.0, 0.001, 0.003):
            task = asyncio.create_task(pget.aio.read_into(url, buffer, chunk_size=65536))
            await asyncio.sleep(wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            buffer[:] = bytes(len(good))
            await asyncio.sleep(0.02)
            assert not any(buffer), "a cancelled await leaves no writer"
        async with await pget.aio.open(url, chunk_size=100_000) as reader:
            got = bytearray()
            while True:
                try:
                    lease = await asyncio.wait_for(anext(reader), 0.002)
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
                got += lease
            assert got == good, "a wait that is given up loses no byte"
        return late[0]

    for loop in loops:
        with asyncio.Runner(loop_factory=loop) as runner:
            late = runner.run(body())
        print("late", late)
        if FULL:
            assert late < 0.05


def test_the_program(servers, good, tmp_path):
    program = os.path.join(os.path.dirname(sys.executable), "pget")
    url = servers.nginx + "/" + str(len(good))
    assert subprocess.run([program, "cat", url], capture_output=True, check=True).stdout == good
    missing = subprocess.run([program, "cat", url + "0"], capture_output=True)
    assert missing.returncode == 3 and missing.stderr.startswith(b"pget: ")
    assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout
