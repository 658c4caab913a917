"""Many objects into many files, by one call."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import pattern
from small_aistore import SmallAistore

import pget
import pget.aio

SIZES = [0, 1, 1000, 65_537, 3_000_000]


@pytest.fixture
def store(monkeypatch):
    with SmallAistore() as store:
        for size in SIZES:
            store.put("bucket", str(size), pattern(size, size))
        monkeypatch.setenv("AIS_ENDPOINT", store.endpoint)
        yield store


def ways(pairs, **options):
    """Returns the results of the call that waits and of the one that is awaited."""
    yield pget.get_files(pairs, **options)
    yield asyncio.run(pget.aio.get_files(pairs, **options))


def test_each_object_is_in_its_file(store, tmp_path):
    pairs = [(f"ais://bucket/{SIZES[n % 5]}", tmp_path / str(n)) for n in range(60)]
    for results in ways(pairs, at_once=7, sync=True):
        assert [done.delivered for done in results] == [SIZES[n % 5] for n in range(60)]
        for number, (_, path) in enumerate(pairs):
            assert path.read_bytes() == pattern(SIZES[number % 5], SIZES[number % 5])
            path.unlink()
        assert not os.listdir(tmp_path)
    assert pget.get_files([]) == []
    assert pget.Client(chunk_size=100_000).get_files(iter(pairs[:3]))[2].requests


def test_a_failure_does_not_end_the_others(store, tmp_path):
    pairs = [
        ("ais://bucket/1000", tmp_path / "one"),
        ("ais://bucket/none", tmp_path / "two"),
        ("nonsense://address", tmp_path / "three"),
        ("ais://bucket/1", tmp_path / "none/four"),
        ("ais://bucket/3000000", tmp_path / "five"),
    ]
    for results in ways(pairs, return_exceptions=True):
        assert isinstance(results[1], pget.NotFoundError) and isinstance(results[2], ValueError)
        assert isinstance(results[3], pget.DestinationError)
        assert results[0].delivered == 1000 and results[4].delivered == 3_000_000
        assert sorted(os.listdir(tmp_path)) == ["five", "one"]
    del pairs[2]
    for call in (pget.get_files, lambda pairs: asyncio.run(pget.aio.get_files(pairs))):
        with pytest.raises(pget.DestinationError) as caught:
            call(pairs)
        assert caught.value.__notes__ == ["2 of 4 objects failed"]
    for wrong in (0, 1025):
        with pytest.raises(ValueError):
            pget.get_files(pairs, at_once=wrong)


def test_no_more_at_once_than_wanted(store, tmp_path):
    lock, now, most = threading.Lock(), [0], [0]

    def count(request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1

    store.before_get = count
    pairs = [("ais://bucket/1000", tmp_path / str(n)) for n in range(20)]
    for results in ways(pairs, at_once=3):
        assert len(results) == 20 and most[0] <= 3


def test_several_objects_share_requests(store, tmp_path):
    pairs = [("ais://bucket/3000000", tmp_path / str(n)) for n in range(8)]
    for results in ways(pairs):
        assert {done.concurrency for done in results} == {8}
    for results in ways(pairs, concurrency=5):
        assert {done.concurrency for done in results} == {5}
    for results in ways(pairs, at_once=1000):
        assert len(results) == 8


def test_the_sums_are_reported_on_the_callers_thread(store, tmp_path):
    pairs = [(f"ais://bucket/{size}", tmp_path / str(size)) for size in SIZES]
    states, threads = [], set()

    def note(state):
        states.append(state)
        threads.add(threading.get_ident())

    pget.get_files(pairs, files_progress=note)
    last = states[-1]
    assert (last.delivered, last.total) == (sum(SIZES), sum(SIZES))
    assert (last.finished, last.failed, last.files) == (5, 0, 5)
    assert threads == {threading.get_ident()}

    def enough(_state):
        raise LookupError("enough")

    with pytest.raises(LookupError):
        pget.get_files(pairs, files_progress=enough)
    with pytest.raises(LookupError):
        pget.get_files(pairs, progress=enough)


def test_it_resumes_where_a_killed_process_was(store, tmp_path):
    size = 30_000_000
    data = pattern(size, 9)
    for number in range(4):
        store.put("bucket", f"big{number}", data)
    pairs = [
        (f"ais://bucket/big{number}", os.fspath(tmp_path / str(number))) for number in range(4)
    ]
    seen = [0]

    def slow(request):
        seen[0] += 1
        time.sleep(0.02 if seen[0] < 60 else 0.2)

    store.before_get = slow
    code = (
        "import pget, sys; options = dict(chunk_size=500_000, concurrency=2);"
        f"pget.get_files({pairs!r}, resume=True, **options)"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while seen[0] < 100 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(2.5)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert len([name for name in os.listdir(tmp_path) if "pget" in name]) > 0
    store.before_get = lambda request: None
    results = pget.get_files(pairs, resume=True, chunk_size=500_000)
    for _, path in pairs:
        with open(path, "rb") as file:
            assert file.read() == data
    received = sum(done.received for done in results)
    assert received < 4 * size, "what was there was not fetched again"
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3"]


def test_an_interrupt_ends_all(store, run, tmp_path):
    store.before_get = lambda request: time.sleep(30)
    out = run(
        """
import os, pget, signal, sys, threading, time
def interrupt():
    time.sleep(0.5)
    global at
    at = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    pget.get_files([("ais://bucket/1000", f"{sys.argv[1]}/{n}") for n in range(50)])
except KeyboardInterrupt:
    print(time.monotonic() - at)
""",
        os.fspath(tmp_path),
    )
    assert float(out) < 5 and not os.listdir(tmp_path)


def test_a_small_object_costs_one_request(store, tmp_path):
    """Its size comes with its bytes: nothing is asked for before or beside them."""
    for number in range(100):
        store.put("many", str(number), pattern(500, number))
    urls = [f"ais://many/{number}" for number in range(100)]
    pairs = [(url, tmp_path / url[11:]) for url in urls]
    (tmp_path / "list").write_text("\n".join(urls) + "\n")
    program = os.path.join(os.path.dirname(sys.executable), "pget")
    arguments = [program, "get", "--input-file", tmp_path / "list", "--dir", tmp_path]
    for call in (
        lambda: pget.get_files(pairs),
        lambda: asyncio.run(pget.aio.get_files(pairs)),
        lambda: [pget.read(url) for url in urls],
        lambda: subprocess.run(arguments, check=True, timeout=60, capture_output=True),
    ):
        store.requests.clear()
        call()
        asked = [(request["method"], request["path"]) for request in store.requests]
        assert sorted(asked) == sorted(("GET", f"/v1/objects/many/{n}") for n in range(100))
    assert all(path.read_bytes() == pattern(500, n) for n, (_, path) in enumerate(pairs))


def test_each_object_takes_the_properties_of_its_kind(store, servers, good, tmp_path, monkeypatch):
    """Addresses of several kinds are read by one call, whose properties are of some of them."""
    monkeypatch.delenv("AIS_ENDPOINT")
    (tmp_path / "source").write_bytes(b"a file")
    pairs = [
        (servers.nginx + "/65536", tmp_path / "http"),
        ("ais://bucket/3000000", tmp_path / "ais"),
        (tmp_path / "source", tmp_path / "file"),
    ]
    properties = {"ais.endpoint": store.endpoint, "aws.region": "us-east-1"}
    wanted = {"http": good[:65536], "ais": pattern(3_000_000, 3_000_000), "file": b"a file"}
    if servers.s3 is not None:
        endpoint, key, secret, region, bucket = servers.s3
        pairs.append((f"s3://{bucket}/65536", tmp_path / "s3"))
        wanted["s3"] = good[:65536]
        properties |= {"aws.endpoint": endpoint, "aws.region": region}
        properties |= {"aws.access_key_id": key, "aws.secret_access_key": secret}
    else:
        # A property that no address of the list may have.
        del properties["aws.region"]
    for given in (properties, list(properties.items())):
        for results in ways(pairs, properties=given):
            assert len(results) == len(pairs)
            for name, data in wanted.items():
                assert (tmp_path / name).read_bytes() == data
                (tmp_path / name).unlink()
        client = pget.Client(properties=given)
        assert len(client.get_files(pairs)) == len(pairs)


def test_a_property_of_no_address_is_refused_for_each(store, servers, tmp_path):
    pairs = [
        (servers.nginx + "/1", tmp_path / "one"),
        ("ais://bucket/1", tmp_path / "two"),
        ("nonsense://address", tmp_path / "three"),
    ]
    properties = {"ais.endpoint": store.endpoint, "gs.region": "x"}
    for results in ways(pairs, properties=properties, return_exceptions=True):
        assert all(isinstance(result, ValueError) for result in results)
        assert all("gs.region" in str(result) for result in results[:2])
        assert not os.listdir(tmp_path)
    for results in ways(pairs, properties={"ais.endpoint": store.endpoint}, return_exceptions=True):
        assert [type(result) for result in results] == [pget.Stats, pget.Stats, ValueError]
