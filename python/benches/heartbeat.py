"""How late a task of an event loop is beside 1,000 small reads and one of a GiB.

`python heartbeat.py SMALL BIG [--reads 1000] [--rounds 3] [--loop asyncio|uvloop|both]`: SMALL is
an object of any size up to some hundred KiB, BIG one of about a GiB. A task sleeps for 10 ms again
and again. Prints, for each kind of read of BIG, the worst of all beats of all rounds:

- how late the task was;
- how late it was without the time that the loop's thread was ready and had no processor, which is
  the doing of the machine (`/proc/thread-self/schedstat`);
- how much the loop's thread computed between two beats.

The line "alone" has no reads; "a process beside it" has the same reads in another process.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

STEP = 0.01


class Beat(NamedTuple):
    """Seconds: all of it late, without waits for a processor, and of the thread's own time."""

    late: float
    own: float
    computing: float


def worst(beats: list[Beat]) -> Beat:
    """Returns the most of each."""
    return Beat(*map(max, zip(*beats, strict=True)))


def queued() -> float:
    """Returns the seconds that this thread has waited for a processor."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


class Heartbeat:
    """A task that notes how late it was."""

    def __init__(self) -> None:
        self.beats: list[Beat] = []

    async def run(self) -> None:
        while True:
            begun, computed, waited = time.monotonic(), time.thread_time(), queued()
            await asyncio.sleep(STEP)
            late = time.monotonic() - begun - STEP
            own = max(0.0, late - (queued() - waited))
            self.beats.append(Beat(late, own, time.thread_time() - computed))


def ways(big: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Returns the ways to read BIG; each returns what it has read, or its size."""
    import pget
    import pget.aio

    # Made here: to make and to clear it would keep the loop.
    place = bytearray(pget.stat(big).size or 0)

    async def read() -> bytes:
        return await pget.aio.read(big)

    async def leases() -> int:
        size = 0
        async with await pget.aio.open(big) as reader:
            async for lease in reader:
                size += len(lease)
        return size

    async def reader() -> bytes:
        async with await pget.aio.open(big) as opened:
            return await opened.read()

    async def into() -> int:
        return await pget.aio.read_into(big, place)

    return {"read": read, "open, leases": leases, "open, read()": reader, "read_into": into}


async def beside(work: Callable[[], Awaitable[object]]) -> Beat:
    """Returns the worst of the heartbeat while ``work`` runs."""
    heart = Heartbeat()
    beats = asyncio.create_task(heart.run())
    await asyncio.sleep(0.1)
    await work()
    await asyncio.sleep(0.05)
    beats.cancel()
    return worst(heart.beats)


async def measure(way: Callable[[], Awaitable[object]], small: str, reads: int) -> Beat:
    """Returns the worst beside all reads.

    What was read is kept until the heartbeat has ended: to free a GiB takes 0.1 s of whoever drops
    the last reference.
    """
    import pget.aio

    kept: list[object] = []

    async def work() -> None:
        many = [pget.aio.read(small) for _ in range(reads)]
        big, *rest = await asyncio.gather(way(), *many)
        kept.append(big)
        assert big and len(set(map(len, rest))) == 1

    return await beside(work)


async def of_machine(small: str, big: str, reads: int) -> Beat:
    """Returns the worst beside another process that reads."""
    code = (
        "import asyncio, pget.aio, sys; small, big, reads = sys.argv[1:]\n"
        "async def main():\n"
        "    many = [pget.aio.read(small) for _ in range(int(reads))]\n"
        "    await asyncio.gather(pget.aio.read(big), *many)\n"
        "asyncio.run(main())"
    )

    async def work() -> None:
        child = subprocess.Popen([sys.executable, "-c", code, small, big, str(reads)])
        while child.poll() is None:
            await asyncio.sleep(0.05)
        assert child.returncode == 0

    return await beside(work)


def main() -> None:
    """Measures each way in each loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("small")
    parser.add_argument("big")
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="both")
    options = parser.parse_args()
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
    if options.loop != "uvloop":
        loops["asyncio"] = asyncio.new_event_loop
    if options.loop != "asyncio":
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    print("| loop | read of the big object | late, ms | own, ms | computing, ms |")
    print("|---|---|---|---|---|")
    small, big, reads = options.small, options.big, options.reads

    for loop, make in loops.items():
        work: dict[str, Callable[[], Coroutine[Any, Any, Beat]]] = {
            "alone": functools.partial(beside, functools.partial(asyncio.sleep, 2)),
            "a process beside it": functools.partial(of_machine, small, big, reads),
        }
        for name, way in ways(big).items():
            work[name] = functools.partial(measure, way, small, reads)
        for name, one in work.items():
            beats = []
            for _ in range(options.rounds):
                with asyncio.Runner(loop_factory=make) as runner:
                    beats.append(runner.run(one()))
            shown = " | ".join(f"{seconds * 1000:.0f}" for seconds in worst(beats))
            print(f"| {loop} | {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
