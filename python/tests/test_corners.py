"""What a caller should not do, or rarely does: strange buffers, closed readers, other processes."""

import array
import copy
import ctypes
import gzip
import io
import lzma
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time

import numpy
import pytest
from conftest import GOOD

import pget
import pget.aio
from pget import errors


@pytest.fixture
def url(servers, good):
    return f"{servers.nginx}/{len(good)}"


def test_every_exception_is_copied_and_pickled():
    for kind, (made, _) in errors._CLASSES.items():
        for code in (None, 28):
            error = errors._make(kind, "a line", "s3://b/k", (1, 2), 3, 4, code)
            assert type(error) is made and error.strerror == "a line"
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
                again = pickle.loads(pickle.dumps(error, protocol))
                assert (type(again), vars(again), again.args) == (made, vars(error), error.args)
            for again in (copy.copy(error), copy.deepcopy(error)):
                assert (str(again), again.errno) == (str(error), error.errno)
    error = errors._make("a kind to come", "a line", "", None, 0, None, None)
    assert type(error) is pget.PgetError and pickle.loads(pickle.dumps(error)).kind == error.kind


def test_clients_are_copied_and_pickled():
    client = pget.Client(chunk_size=100_000, headers={"a": "b"}, verify="off")
    for kind in (pget.Client, pget.aio.Client):
        made = kind(chunk_size=100_000)
        for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert type(again) is kind and repr(again) == repr(made)
    assert repr(pickle.loads(pickle.dumps(client))) == repr(client)
    # They live in this process only, and say so.
    for alive in (pget.Cancel(), pget.open("/dev/null"), pget.Client(cancel=pget.Cancel())):
        with pytest.raises(TypeError):
            pickle.dumps(alive)


def read_there(client, url):
    return hash(client.read(url)) == hash(client.read(url)), len(client.read(url))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_started_anew(url, method):
    client = pget.Client(chunk_size=200_000)
    assert len(client.read(url)) == GOOD
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        found = pool.starmap_async(read_there, [(client, url)] * 4).get(120)
        assert found == [(True, GOOD)] * 4


def test_forks_while_threads_read(url, good):
    stop, wrong, rounds = threading.Event(), [], []

    def read():
        buffer = bytearray(len(good))
        while not stop.is_set():
            for call in (
                lambda: pget.read(url, chunk_size=100_000),
                lambda: bytes(buffer[: pget.read_into(url, buffer)]),
                lambda: b"".join(pget.open(url, chunk_size=65536)),
            ):
                if call() != good:
                    wrong.append(call)
            rounds.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    signal.alarm(60)
                    code = 0 if pget.read(url) == good else 2
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0, number
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not wrong and rounds


def test_buffers_that_cannot_be_filled(url, tmp_path):
    (tmp_path / "file").write_bytes(bytes(GOOD))
    with open(tmp_path / "file", "rb") as file:
        mapped = mmap.mmap(file.fileno(), GOOD, prot=mmap.PROT_READ)
    two = numpy.zeros((100, GOOD // 100 + 1), dtype=numpy.uint8)
    for buffer, kind in (
        (bytes(GOOD), BufferError),
        (mapped, BufferError),
        (memoryview(bytearray(2 * GOOD))[::2], BufferError),
        (memoryview(bytearray(GOOD)).toreadonly(), BufferError),
        (numpy.asfortranarray(two), BufferError),
        (two[:, 1:], BufferError),
        ("text", TypeError),
        (None, TypeError),
        (7, TypeError),
        ([0] * GOOD, TypeError),
    ):
        with pytest.raises(kind):
            pget.read_into(url, buffer)
        with pytest.raises(kind):
            pget.read_ranges(url, [(0, 1)], into=[buffer])
        with pget.open(url) as reader, pytest.raises(kind):
            reader.readinto(buffer)
    with pytest.raises(pget.BufferTooSmallError) as caught:
        pget.read_into(url, bytearray())
    assert caught.value.needed == GOOD and isinstance(caught.value, BufferError)
    released = memoryview(bytearray(GOOD))
    released.release()
    with pytest.raises(ValueError):
        pget.read_into(url, released)


def test_buffers_of_every_shape(url, good, servers):
    count = len(good) // 8 + 1
    typed = array.array("d", bytes(8 * count))
    shaped = memoryview(bytearray(8 * count)).cast("B", [8, count])
    for buffer in (
        typed,
        shaped,
        memoryview(bytearray(8 * count)).cast("q"),
        (ctypes.c_double * count)(),
        numpy.zeros((2, 4, count), dtype="u1"),
        numpy.zeros(count, dtype=">c8"),
        numpy.zeros(count, dtype=[("a", "i4"), ("b", "f4")]),
        memoryview(bytearray(9 * count))[count:],
        mmap.mmap(-1, 8 * count),
    ):
        assert pget.read_into(url, buffer) == len(good)
        assert memoryview(buffer).tobytes()[: len(good)] == good
    assert pget.read_into(servers.nginx + "/0", bytearray()) == 0
    assert pget.read_into(url, bytearray(), offset=len(good)) == 0
    assert pget.read_into(url, numpy.zeros(0), length=0) == 0
    assert pget.read_into(url, numpy.zeros((), dtype="u1"), length=1) == 1


def test_a_buffer_cannot_be_resized_while_it_is_filled(servers, good):
    cancel, buffer = pget.Cancel(), bytearray(len(good))
    failed = []

    def read():
        try:
            pget.read_into(servers.hostile + "/stalls", buffer, cancel=cancel)
        except pget.CancelledError as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    with pytest.raises(BufferError):
        buffer.clear()
    cancel.trigger()
    thread.join(20)
    assert len(failed) == 1
    buffer.clear()


def test_a_reader_refuses_what_it_is_not_for(url, good):
    reader = pget.open(url, chunk_size=100_000)
    for call in (reader.fileno, reader.detach, lambda: reader.write(b""), reader.truncate):
        with pytest.raises(io.UnsupportedOperation):
            call()
    assert not reader.isatty() and reader.flush() is None
    for wrong in (-1, -(2**70)):
        with pytest.raises((ValueError, OverflowError)):
            reader.seek(wrong)
    with pytest.raises(ValueError):
        reader.seek(0, 5)
    assert reader.tell() == 0 and reader.readinto(bytearray()) == 0 and reader.read(0) == b""
    assert reader.seek(2**62) == 2**62 and reader.read() == reader.peek() == b""
    assert reader.read(2**62) == b"" and reader.readinto(bytearray(5)) == 0
    assert reader.seek(-3, os.SEEK_END) == len(good) - 3 and reader.read(2**62) == good[-3:]
    reader.seek(5)
    assert reader.read(None) == good[5:]
    reader.seek(0)
    assert b"".join(reader.readlines()) == good
    reader.close()
    reader.close()
    buffer = bytearray(5)
    for call in (
        reader.read,
        reader.read1,
        lambda: reader.readinto(buffer),
        lambda: reader.readinto1(buffer),
        reader.peek,
        reader.readline,
        reader.readable,
        reader.seekable,
        reader.tell,
        lambda: reader.seek(0),
        lambda: next(reader),
        lambda: list(reader),
        reader.__enter__,
    ):
        with pytest.raises(ValueError):
            call()
    assert buffer == bytes(5) and "closed" in repr(reader)
    for options in ({"offset": -1}, {"length": -1}, {"offset": 2**64}):
        with pytest.raises(ValueError):
            pget.open(url, **options)
    with pytest.raises(pget.RangeError):
        pget.open(url, offset=len(good) + 1)


def test_readers_of_a_part(url, good):
    with pget.open(url, offset=1000, length=500) as reader:
        assert reader.total == 500 and reader.read() == good[1000:1500]
        assert reader.seek(-10, os.SEEK_END) == 490 and reader.read() == good[1490:1500]
        assert reader.seek(600) == 600 and reader.read() == b""
    for length in (0, 1):
        with pget.open(url, offset=1000, length=length) as reader:
            assert reader.read() == good[1000 : 1000 + length]
    with pget.open(url, offset=len(good) - 5, length=100) as reader:
        assert reader.read() == good[-5:]
    with pget.open(url, offset=len(good)) as reader:
        assert reader.read() == b"" and list(reader) == []


def test_what_wraps_a_reader(url, good, tmp_path):
    buffered = io.BufferedReader(pget.open(url, chunk_size=100_000), 70_000)
    assert buffered.read(10) == good[:10] and buffered.peek(1)[:1] == good[10:11]
    assert buffered.seek(-10, os.SEEK_END) == len(good) - 10 and buffered.read() == good[-10:]
    assert buffered.seek(3) == 3 and buffered.read() == good[3:]
    lines = io.BytesIO(good).readlines()
    buffered.seek(0)
    assert list(buffered) == lines
    text = io.TextIOWrapper(pget.open(url), encoding="latin-1", newline="")
    assert text.read() == good.decode("latin-1")
    text.seek(0)
    assert text.readline() == io.TextIOWrapper(io.BytesIO(good), "latin-1", newline="").readline()
    for module in (gzip, lzma):
        with module.open(tmp_path / module.__name__, "wb") as out:
            out.write(good)
        with module.open(pget.open(tmp_path / module.__name__)) as opened:
            assert opened.read() == good
            opened.seek(1_000_000)
            assert opened.read(10) == good[1_000_000:1_000_010]
    try:
        import pyarrow
    except ImportError:
        print("pyarrow is not installed: not tested")
    else:
        file = pyarrow.PythonFile(pget.open(url), mode="r")
        assert file.read(10) == good[:10] and file.size() == len(good)


def test_leases_that_were_released(url, good):
    with pget.open(url, chunk_size=100_000) as reader:
        lease = next(reader)
        with memoryview(lease) as view:
            with pytest.raises(BufferError):
                lease.release()
            assert view.readonly and good.startswith(view)
        lease.release()
        lease.release()
        for call in (lambda: memoryview(lease), lease.bytes, lambda: bytes(lease)):
            with pytest.raises((BufferError, ValueError, TypeError)):
                call()
        with pytest.raises(TypeError):
            pickle.dumps(lease)


def test_a_second_interpreter_is_refused_clearly(run):
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    out = run(
        f"""
import {module} as interpreters
import pget
one = interpreters.create()
code = '''
try:
    import pget
except ImportError as error:
    text = str(error)
else:
    text = "imported"
assert "interpreter" in text, text
'''
print(interpreters.run_string(one, code) or "refused")
interpreters.destroy(one)
assert pget.read("/dev/null") == b""
"""
    )
    assert out.strip() == "refused"
