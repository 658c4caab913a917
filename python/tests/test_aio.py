"""Event loops: nothing that pget does keeps a loop for long, and a cancelled wait loses nothing."""

import asyncio
import threading
import time

import pytest
from conftest import pattern
from small_aistore import SmallAistore

import pget
import pget.aio

SIZE = 3_000_000
DATA = pattern(SIZE, 5)


@pytest.fixture
def store(monkeypatch):
    with SmallAistore() as store:
        store.put("bucket", "data", DATA)
        store.put("bucket", "small", DATA[:1000])
        monkeypatch.setenv("AIS_ENDPOINT", store.endpoint)
        yield store


def test_a_cancelled_read_of_a_reader_takes_nothing(store):
    slow = [0.05]
    store.before_get = lambda request: time.sleep(slow[0])

    async def body():
        url = "ais://bucket/data"
        async with await pget.aio.open(url, chunk_size=200_000, concurrency=2) as reader:
            assert await reader.read(10) == DATA[:10] and await reader.read(0) == b""
            buffer = bytearray(SIZE)
            for call in (reader.read, lambda: reader.readinto(buffer)):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await call()
                assert reader.tell() == 10, "what was not returned was not taken"
            slow[0] = 0
            assert await reader.read(1_000_000) == DATA[10:1_000_010]
            assert await reader.readinto(memoryview(buffer)[:500_000]) == 500_000
            assert buffer[:500_000] == DATA[1_000_010:1_500_010]
            assert await reader.read() == DATA[1_500_010:] and await reader.read() == b""
            reader.seek(SIZE - 5)
            assert await reader.read(100) == DATA[-5:]

    asyncio.run(body())


class CannotSeek:
    """The core of a reader that cannot seek; `taken` is set when it has handed out three leases."""

    def __init__(self, raw):
        self.raw, self.count, self.taken = raw, 0, asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def take(self, most=None):
        lease = self.raw.take(most)
        self.count += lease is not None
        if self.count == 3:
            self.taken.set()
        return lease

    def seekable(self):
        return False

    def seek(self, place):
        raise AssertionError("it cannot seek")


def test_where_no_revision_is_known_bytes_are_put_back(servers, good):
    """A reader cannot go back by asking again there."""

    async def body():
        async with await pget.aio.open(f"{servers.nginx}/{len(good)}", chunk_size=65536) as reader:
            raw, buffer = reader._raw, bytearray(len(good))
            for call in (reader.read, lambda: reader.readinto(buffer), reader.read):
                reader._raw = CannotSeek(raw)
                task = asyncio.create_task(call())
                await asyncio.wait_for(reader._raw.taken.wait(), 30)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert reader.tell() == 0
            first = await anext(reader)
            rest = await reader.read(100)
            assert bytes(first) + rest + await reader.read() == good

    asyncio.run(body())


def test_a_loop_runs_other_work_between_the_ends_of_many_calls(servers, good):
    """All ends are there before the loop looks: it hears of them in more than one pass."""

    async def body():
        from pget import _pget

        bridge, count, url = _pget.Bridge(), 600, f"{servers.nginx}/{len(good)}"
        calls = {token: _pget.read(url, {"offset": 0, "length": 200_000}) for token in range(count)}
        for token, call in calls.items():
            call.start(bridge, token)
        deadline = time.monotonic() + 60
        ends, passes, longest = 0, 0, 0.0
        await asyncio.sleep(2)
        while ends < count and time.monotonic() < deadline:
            begun = time.thread_time()
            over = bridge.drain(calls)
            longest = max(longest, time.thread_time() - begun)
            ends, passes = ends + len(over), passes + bool(over)
            for token, value, succeeded in over:
                assert succeeded and value == good[:200_000]
                del calls[token]
            if not over:
                await asyncio.sleep(0.01)
        assert ends == count and passes > 1
        # 5 ms and one result, on a loaded machine.
        assert longest < 0.05, longest

    asyncio.run(body())


def test_no_pass_of_a_loop_wakes_more_tasks_than_it_has_time_for(servers, good):
    """The end of a read of one byte is cheap, the task that it wakes is not."""
    from pget import _pget

    bridge, count, url = _pget.Bridge(), 300, f"{servers.nginx}/{len(good)}"
    calls = {token: _pget.read(url, {"offset": token, "length": 1}) for token in range(count)}
    for token, call in calls.items():
        call.start(bridge, token)
    deadline = time.monotonic() + 60
    time.sleep(2)
    ends = []
    while calls and time.monotonic() < deadline:
        over = bridge.drain(calls)
        ends.append(len(over))
        for token, value, _ in over:
            assert value == good[token : token + 1]
            del calls[token]
    assert sum(ends) == count and max(ends) <= 64


def test_a_waiting_call_begins_once_and_in_order(store):
    """A task whose call cannot begin yet is not run in every pass of the loop."""
    steps = []

    async def body():
        make = pget.aio._Bridge._may_begin
        begun = []

        def seldom(self, loop):
            may = make(self, loop) and len(begun) <= len(steps)
            if may:
                begun.append(self._waiting[0])
            return may

        class Counted:
            def __init__(self, index):
                self.index = index

            def __await__(self):
                call = pget.aio.read("ais://bucket/small", offset=self.index).__await__()
                while True:
                    try:
                        future = next(call)
                    except StopIteration as done:
                        return done.value
                    steps.append(self.index)
                    yield future

        async def one(index):
            return await Counted(index)

        pget.aio._Bridge._may_begin = seldom
        try:
            reads = [one(index) for index in range(40)]
            results = await asyncio.wait_for(asyncio.gather(*reads), 60)
        finally:
            pget.aio._Bridge._may_begin = make
        assert results == [DATA[index:1000] for index in range(40)]
        # Each task waited once: for the end of its call.
        assert steps == list(range(40)) and len(begun) == 40

    asyncio.run(body())


def test_a_call_that_ends_is_cancelled_although_it_succeeded(store):
    """Its waiter was cancelled, twice, while memory was lent."""
    entered, free = threading.Event(), threading.Event()

    def hold(_):
        entered.set()
        free.wait(30)

    store.before_get = hold

    async def body():
        buffer = bytearray(1000)
        task = asyncio.create_task(pget.aio.read_into("ais://bucket/small", buffer))
        await asyncio.to_thread(entered.wait, 30)
        for _ in range(2):
            task.cancel("enough")
            await asyncio.sleep(0)
        free.set()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled() and task.cancelling() == 2
        buffer.extend(b"the memory is free")

    asyncio.run(body())


def test_a_wrong_argument_is_raised_where_the_call_is_awaited(store):
    async def body():
        calls = [pget.aio.read("ais://bucket/small", concurrency=wrong) for wrong in (0, "1")]
        first, second = await asyncio.gather(*calls, return_exceptions=True)
        assert type(first) is ValueError and type(second) is TypeError
        assert await pget.aio.read("ais://bucket/small") == DATA[:1000]

    asyncio.run(body())


def test_many_calls_begin_in_several_passes_of_the_loop(store):
    order = []

    async def body():
        async def other():
            while len(order) < 2000:
                order.append("other")
                await asyncio.sleep(0)

        async def one():
            await pget.aio.read("ais://bucket/small")
            order.append("read")

        make = pget.aio._Bridge._may_begin
        begun = []

        def slowly(self, loop):
            may = make(self, loop)
            if may:
                begun.append(len(order))
                time.sleep(0.002)
            return may

        pget.aio._Bridge._may_begin = slowly
        try:
            beside = asyncio.create_task(other())
            await asyncio.wait_for(asyncio.gather(*[one() for _ in range(30)]), 60)
            beside.cancel()
        finally:
            pget.aio._Bridge._may_begin = make
        assert len(begun) == 30 and len(set(begun)) > 3, "the other task ran in between"

    asyncio.run(body())


def test_a_read_that_was_not_begun_can_be_cancelled(servers, good):
    async def body():
        url = servers.nginx + "/1"
        tasks = [asyncio.create_task(pget.aio.read(url)) for _ in range(300)]
        await asyncio.sleep(0)
        for task in tasks[100:]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[:100] == [good[:1]] * 100
        assert all(
            isinstance(result, asyncio.CancelledError) or result == good[:1]
            for result in results[100:]
        )
        assert await pget.aio.read(url) == good[:1]

    asyncio.run(body())
