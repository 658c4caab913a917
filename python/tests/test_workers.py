"""Workers as a PyTorch DataLoader has them: forked, daemonic, fed by queues, after use in the
parent."""

import hashlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from aistore.sdk import Client

import pget
import pget.aistore

WORKERS, ITEMS, PREFETCH = 4, 48, 2
# Seconds within which a worker has to answer; a process that is stuck ends after them.
PATIENCE = 60


def digest(data: object) -> str:
    return hashlib.blake2b(data).hexdigest()


def work(item: Callable[[int], str], indices: multiprocessing.Queue, results: object) -> None:
    """The loop of one worker: takes indices until it gets None."""
    signal.alarm(PATIENCE)
    while (index := indices.get()) is not None:
        try:
            results.put((index, os.getpid(), item(index)))
        except BaseException as error:
            results.put((index, os.getpid(), repr(error)))


def load(item: Callable[[int], str], items: int = ITEMS) -> Iterator[tuple[int, str]]:
    """Yields the process and the result of each item, computed by forked workers.

    Indices go to the workers in turn, and each worker has up to PREFETCH of them at a time.
    """
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    queues = [fork.Queue() for _ in range(WORKERS)]
    workers = [
        fork.Process(target=work, args=(item, indices, results), daemon=True) for indices in queues
    ]
    for worker in workers:
        worker.start()
    try:
        sent = 0
        for done in range(items):
            while sent < items and sent < done + PREFETCH * WORKERS:
                queues[sent % WORKERS].put(sent)
                sent += 1
            _, process, result = results.get(timeout=PATIENCE)
            yield process, result
        with pytest.raises(queue.Empty):
            results.get_nowait()
    finally:
        for indices in queues:
            indices.put(None)
        for worker in workers:
            worker.join(PATIENCE)
            assert worker.exitcode == 0


@pytest.fixture
def busy(servers, good):
    """Reads in two threads of this process during the test; the digests are compared."""
    url, over, digests = f"{servers.nginx}/{len(good)}", threading.Event(), []

    def read() -> None:
        while not over.is_set():
            digests.append(digest(pget.read(url, chunk_size=200_000)))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert digests and set(digests) == {digest(good)}


def check(results: Iterator[tuple[int, str]], expected: str, items: int = ITEMS) -> None:
    """Checks each result, and that each worker has computed some."""
    processes = set()
    count = 0
    for process, result in results:
        assert result == expected
        processes.add(process)
        count += 1
    assert count == items and len(processes) == WORKERS and os.getpid() not in processes


def test_forked_workers_read_while_their_parent_reads(servers, good, busy):
    url = f"{servers.nginx}/{len(good)}"
    client = pget.Client(chunk_size=300_000)
    assert client.read(url) == good

    def item(index: int) -> str:
        if index % 3 == 0:
            return digest(client.read(url))
        if index % 3 == 1:
            place = bytearray(len(good))
            assert pget.read_into(url, place) == len(good)
            return digest(place)
        with pget.open(url) as reader:
            return digest(reader.read())

    for _epoch in range(2):
        check(load(item), digest(good))


def test_forked_workers_read_through_the_sdk(servers, good, busy):
    """The SDK's own reader cannot start in them: a daemonic process may have no children."""
    obj = Client(servers.aistore).bucket("bucket").object("good")

    def item(index: int) -> str:
        reader = obj.get_reader(chunk_size=1 << 20, num_workers=4)
        if index % 2 == 0:
            return digest(b"".join(reader))
        with reader.read_all() as whole:
            return digest(whole.tobytes())

    for _process, result in load(item, WORKERS):
        assert "daemonic processes are not allowed to have children" in result
    with pget.aistore.installed():
        assert item(0) == digest(good)
        check(load(item), digest(good))


def test_a_data_loader(servers, good, busy):
    torch = pytest.importorskip("torch", reason="torch is not installed: its loader is not tested")
    url = f"{servers.nginx}/{len(good)}"
    assert pget.read(url) == good

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return ITEMS

        def __getitem__(self, index):
            return os.getpid(), digest(pget.read(url))

    loader = torch.utils.data.DataLoader(
        Data(),
        num_workers=WORKERS,
        multiprocessing_context="fork",
        batch_size=None,
    )
    check(iter(loader), digest(good))
