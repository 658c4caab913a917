"""The same calls for asyncio: ``await pget.aio.read(url)``, ``async with await
pget.aio.open(url)``.

A cancelled await cancels its download, and waits until nothing writes to a buffer that was lent.
Downloads run on the library's threads. One descriptor reports their ends to an event loop, in its
own thread, so it works with uvloop, too. Nothing happens at import.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Self, Unpack

from . import _pget
from ._calls import Calls, P, S, T
from ._files import Failure, check
from ._pget import Lease
from ._reader import ReaderState
from ._settings import Options, Url
from ._types import FilesProgress, Stats
from .errors import PgetError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "Client",
    "Reader",
    "get_file",
    "get_files",
    "get_shared",
    "iter_ranges",
    "open",
    "put_into_ring",
    "read",
    "read_into",
    "read_ranges",
    "stat",
]


# Seconds for which one pass of the loop begins calls; `TURN` of op.rs is the same for their ends.
_TURN = 0.001


class _Pending(asyncio.Future[T]):
    """The result of a call, which begins when the loop has time for it.

    If the waiter is cancelled, the call is cancelled, and this ends when the call has ended:
    memory that was lent is in use until then.
    """

    def __init__(self, make: Callable[[], _pget.Op[T]], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.make = make
        # The call, after it has begun.
        self.op: _pget.Op[T] | None = None
        self._cancels = False
        self._message: object = None

    def cancel(self, msg: object = None) -> bool:
        if self.op is None or self.done():
            return super().cancel(msg)
        self._cancels, self._message = True, msg
        self.op.cancel()
        return True

    def end(self, value: Any, succeeded: bool) -> None:
        """The call has ended, and nothing that was lent is in use."""
        if self._cancels:
            super().cancel(self._message)
        elif succeeded:
            self.set_result(value)
        else:
            self.set_exception(value)


class _Bridge:
    """Begins calls and delivers their ends to one event loop; used in the loop's thread only.

    One pass of the loop spends about a millisecond on beginning calls and another one on their
    ends, so that many calls do not keep the loop from what else is due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._native = _pget.Bridge()
        # Calls that have not begun, in the order in which they were made.
        self._waiting: deque[_Pending[Any]] = deque()
        # When this pass of the loop began its first call; ``None`` if it began none.
        self._turn: float | None = None
        self._calls: dict[int, _pget.Op[Any]] = {}
        self._pending: dict[int, _Pending[Any]] = {}
        self._next = 0
        self._listens = False
        self._loop = weakref.ref(loop)

    async def run(self, make: Callable[[], _pget.Op[T]]) -> T:
        """Makes the call, and returns its result.

        If the caller is cancelled, the call is cancelled, and its end is awaited.
        """
        loop = asyncio.get_running_loop()
        pending = _Pending(make, loop)
        self._waiting.append(pending)
        self._begin_some(loop)
        return await pending

    def _begin_some(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins calls until the turn is over; the next pass of the loop begins others."""
        while self._waiting and self._may_begin(loop):
            self._begin_next(loop)

    def _may_begin(self, loop: asyncio.AbstractEventLoop) -> bool:
        if self._turn is None:
            self._turn = loop.time()
            loop.call_soon(self._pass_ended, loop)
            return True
        return loop.time() - self._turn < _TURN

    def _pass_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn = None
        self._begin_some(loop)

    def _begin_next(self, loop: asyncio.AbstractEventLoop) -> None:
        pending = self._waiting.popleft()
        if pending.done():
            return
        token = self._next
        self._next += 1
        try:
            op = pending.make()
            if not self._listens:
                loop.add_reader(self._native.fileno(), self._drain)
                self._listens = True
            self._calls[token] = pending.op = op
            self._pending[token] = pending
            op.start(self._native, token)
        except Exception as error:
            self._forget(token)
            pending.set_exception(error)

    def _drain(self) -> None:
        # The loop's thread runs this, so progress functions run there, too.
        for token, value, succeeded in self._native.drain(self._calls):
            pending = self._pending[token]
            self._forget(token)
            if not pending.done():
                pending.end(value, succeeded)

    def _forget(self, token: int) -> None:
        self._calls.pop(token, None)
        self._pending.pop(token, None)
        loop = self._loop()
        if not self._calls and self._listens and loop is not None:
            loop.remove_reader(self._native.fileno())
            self._listens = False


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Bridge] = (
    weakref.WeakKeyDictionary()
)


async def _run(make: Callable[[], _pget.Op[T]]) -> T:
    loop = asyncio.get_running_loop()
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _bridges.setdefault(loop, _Bridge(loop))
    return await bridge.run(make)


class Reader(ReaderState):
    """An object, read in order while it is fetched in parallel; made by ``open``. Iterating it
    yields leases.

    One task at a time may wait in it; another one gets ``RuntimeError``. A cancelled wait loses no
    byte: the next call continues where it was.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Lease:
        lease = await self._lease(None)
        if lease is None:
            raise StopAsyncIteration
        return lease

    async def _lease(self, most: int | None) -> Lease | None:
        lease = self._raw.take(most)
        if lease is None:
            await _run(self._raw.fill_op)
            lease = self._raw.take(most)
        return lease

    async def read(self, size: int = -1, /) -> bytes:
        """Returns ``size`` bytes, fewer only at the end; all that are left for a negative
        number.
        """
        if size == 0:
            return b""
        if self._raw.seekable():
            begun = self._raw.tell()
            try:
                return await _run(lambda: self._raw.read_op(size))
            except asyncio.CancelledError:
                self._go_back(begun)
                raise
        parts: list[Lease] = []
        left = size
        try:
            while left and (lease := await self._lease(None if size < 0 else left)) is not None:
                parts.append(lease)
                if size >= 0:
                    left -= len(lease)
        except asyncio.CancelledError:
            self._put_back(parts)
            raise
        return b"".join(parts)

    async def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills ``buffer``, or as much of it as there is to the end; returns how much."""
        begun = self._raw.tell()
        seekable = self._raw.seekable()
        parts: list[Lease] = []
        with memoryview(buffer) as whole, whole.cast("B") as place:
            filled = 0
            try:
                while filled < len(place):
                    lease = await self._lease(len(place) - filled)
                    if lease is None:
                        break
                    place[filled : filled + len(lease)] = memoryview(lease)
                    filled += len(lease)
                    if not seekable:
                        parts.append(lease)
            except asyncio.CancelledError:
                if seekable:
                    self._go_back(begun)
                else:
                    self._put_back(parts)
                raise
            return filled

    # A reader that was closed during the wait has no place to go back to.
    def _go_back(self, place: int) -> None:
        with contextlib.suppress(ValueError, PgetError):
            self._raw.seek(place)

    def _put_back(self, parts: list[Lease]) -> None:
        with contextlib.suppress(ValueError, PgetError):
            self._raw.put_back(parts)

    def seek(self, offset: int, /) -> None:
        """Goes to a place, counted from the first byte that was asked for; the next read starts
        there.
        """
        self._raw.seek(offset)

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._raw.tell()

    async def aclose(self) -> None:
        """Ends the download and closes its connections."""
        self._raw.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raw.close()


def awaited(
    make: Callable[Concatenate[S, P], _pget.Op[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Returns a method that makes the call and is awaited for its result."""

    @functools.wraps(make)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await _run(lambda: make(self, *args, **kwargs))

    return method


class Client(Calls):
    """Settings for any number of calls, as ``pget.Client``, whose methods here are awaited."""

    __slots__ = ()

    stat = awaited(Calls._stat)
    read = awaited(Calls._read)
    read_into = awaited(Calls._read_into)
    get_file = awaited(Calls._get_file)
    get_shared = awaited(Calls._get_shared)
    put_into_ring = awaited(Calls._put_into_ring)

    async def open(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Reader:
        """As ``pget.Client.open``."""
        make = functools.partial(self._open, url, offset=offset, length=length, **options)
        return Reader(await _run(make))

    async def read_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> list[memoryview]:
        """As ``pget.Client.read_ranges``."""
        raw = self._ranges(url, ranges, into, options)
        async for _ in _each(raw):
            pass
        return raw.views()

    def iter_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[int, memoryview]]:
        """As ``pget.Client.iter_ranges``."""
        return _each(self._ranges(url, ranges, into, options))

    async def get_files(
        self,
        pairs: Iterable[tuple[Url, Url]],
        *,
        at_once: int = 16,
        resume: bool = False,
        sync: bool = False,
        return_exceptions: bool = False,
        files_progress: Callable[[FilesProgress], object] | None = None,
        **options: Unpack[Options],
    ) -> list[Stats | Failure]:
        """As ``pget.Client.get_files``."""
        table = check(pairs, at_once, self._with(options))
        free = asyncio.Semaphore(at_once)

        async def one(index: int) -> None:
            url, path = table.pairs[index]
            async with free:
                how = table.options_of(index)
                make = functools.partial(self._get_file, url, path, resume=resume, sync=sync, **how)
                try:
                    done = await _run(make)
                    table.results[index] = done
                except (PgetError, ValueError) as error:
                    table.results[index] = error
            if files_progress is not None:
                files_progress(table.progress())

        async with asyncio.TaskGroup() as tasks:
            for index in range(len(table.pairs)):
                tasks.create_task(one(index))
        return table.finished(return_exceptions)


async def _each(raw: _pget.RawRanges) -> AsyncIterator[tuple[int, memoryview]]:
    try:
        while (index := await _run(raw.next_op)) is not None:
            yield index, raw.view(index)
    finally:
        raw.close()


_default = Client()

stat = _default.stat
open = _default.open
read = _default.read
read_into = _default.read_into
read_ranges = _default.read_ranges
iter_ranges = _default.iter_ranges
get_file = _default.get_file
get_files = _default.get_files
get_shared = _default.get_shared
put_into_ring = _default.put_into_ring
