"""The same calls for asyncio: ``await pget.aio.read(url)``, ``async with await pget.aio.open(url) as reader``.

A cancelled await cancels its download, and waits until nothing writes to a buffer that was lent. Downloads run on the
library's threads; an event loop is told of their ends through one descriptor, in its own thread, so it works with
uvloop, too. Nothing happens at import.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import _pget
from ._pget import Lease, RingWriter, SharedBuffer
from ._settings import Options, Settings, Url
from ._types import ObjectInfo, Stats

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "Client",
    "Reader",
    "get_file",
    "get_shared",
    "iter_ranges",
    "open",
    "put_into_ring",
    "read",
    "read_into",
    "read_ranges",
    "stat",
]


class _Bridge:
    """Where one event loop hears of its calls; used in the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._native = _pget.Bridge()
        self._calls: dict[int, _pget.Op] = {}
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._listens = False
        self._loop = weakref.ref(loop)

    async def run(self, op: _pget.Op) -> Any:
        """Makes the call, and returns its result. If the caller is cancelled, the call is, and is waited for."""
        loop = asyncio.get_running_loop()
        token = self._next
        self._next += 1
        future: asyncio.Future[Any] = loop.create_future()
        self._calls[token] = op
        self._futures[token] = future
        if not self._listens:
            loop.add_reader(self._native.fileno(), self._drain)
            self._listens = True
        try:
            op.start(self._native, token)
        except BaseException:
            self._end(token)
            raise
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            op.cancel()
            while not future.done():
                try:
                    await asyncio.shield(asyncio.wait([future]))
                except asyncio.CancelledError:
                    # Once more: what was lent has not come back.
                    continue
            if not future.cancelled():
                future.exception()
            raise

    def _drain(self) -> None:
        for token, value, succeeded in self._native.drain(self._calls):
            future = self._futures[token]
            self._end(token)
            if future.done():
                continue
            if succeeded:
                future.set_result(value)
            else:
                future.set_exception(value)

    def _end(self, token: int) -> None:
        del self._calls[token]
        del self._futures[token]
        loop = self._loop()
        if not self._calls and self._listens and loop is not None:
            loop.remove_reader(self._native.fileno())
            self._listens = False


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Bridge] = weakref.WeakKeyDictionary()


async def _run(op: _pget.Op) -> Any:
    loop = asyncio.get_running_loop()
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _bridges.setdefault(loop, _Bridge(loop))
    return await bridge.run(op)


class Reader:
    """An object, read in order while it is fetched in parallel; made by ``open``. Iterating it yields leases.

    One task at a time may wait in it; another one gets ``RuntimeError``. A cancelled wait loses no byte: the next
    call goes on where it was.
    """

    def __init__(self, raw: _pget.RawReader) -> None:
        self._raw = raw
        self._closed = False

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
            await _run(self._raw.fill_op())
            lease = self._raw.take(most)
        return lease

    async def read(self, size: int = -1, /) -> bytes:
        """Returns ``size`` bytes, fewer only at the end; all that are left for a negative number."""
        parts: list[Lease] = []
        left = size
        while left != 0 and (lease := await self._lease(None if size < 0 else left)) is not None:
            parts.append(lease)
            if size >= 0:
                left -= len(lease)
        return b"".join(parts)

    async def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills ``buffer``, or as much of it as there is to the end; returns how much."""
        with memoryview(buffer) as whole, whole.cast("B") as place:
            filled = 0
            while filled < len(place) and (lease := await self._lease(len(place) - filled)) is not None:
                place[filled : filled + len(lease)] = memoryview(lease)
                filled += len(lease)
            return filled

    def seek(self, offset: int, /) -> None:
        """Goes to a place, counted from the first byte that was asked for; the next read asks for what is there."""
        self._raw.seek(offset)

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._raw.tell()

    @property
    def total(self) -> int | None:
        """Bytes from the first to the last that was asked for, if that is known."""
        return self._raw.total

    @property
    def info(self) -> ObjectInfo:
        """Size and revision, as the first reply reported them."""
        info: ObjectInfo = self._raw.info()
        return info

    @property
    def stats(self) -> Stats:
        """The counters."""
        stats: Stats = self._raw.stats()
        return stats

    def cancel(self) -> None:
        """Ends the download: waits, and later calls, raise ``pget.CancelledError``."""
        self._raw.cancel()

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


class Client(Settings):
    """Settings for any number of calls, as ``pget.Client``, whose methods here are awaited."""

    __slots__ = ()

    async def stat(self, url: Url, **options: Unpack[Options]) -> ObjectInfo:
        """As ``pget.Client.stat``."""
        info: ObjectInfo = await _run(_pget.stat(url, self._with(options)))
        return info

    async def open(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Reader:
        """As ``pget.Client.open``."""
        return Reader(await _run(_pget.open(url, self._with(options, offset=offset, length=length))))

    async def read(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> bytes:
        """As ``pget.Client.read``."""
        data: bytes = await _run(_pget.read(url, self._with(options, offset=offset, length=length)))
        return data

    async def read_into(
        self,
        url: Url,
        buffer: WriteableBuffer,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> int:
        """As ``pget.Client.read_into``. Also after a cancelled await, nothing writes to the buffer any more."""
        op = _pget.read_into(url, buffer, self._with(options, offset=offset, length=length))
        count: int = await _run(op)
        return count

    async def read_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> list[memoryview]:
        """As ``pget.Client.read_ranges``."""
        raw = _pget.read_ranges(url, ranges, into, self._with(options))
        try:
            while await _run(raw.next_op()) is not None:
                pass
        finally:
            raw.close()
        return raw.views()

    async def iter_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[int, memoryview]]:
        """As ``pget.Client.iter_ranges``."""
        raw = _pget.read_ranges(url, ranges, into, self._with(options))
        try:
            while (index := await _run(raw.next_op())) is not None:
                yield index, raw.view(index)
        finally:
            raw.close()

    async def get_file(
        self,
        url: Url,
        path: Url,
        *,
        resume: bool = False,
        sync: bool = False,
        **options: Unpack[Options],
    ) -> Stats:
        """As ``pget.Client.get_file``."""
        done: Stats = await _run(_pget.get_file(url, path, self._with(options, resume=resume, sync=sync)))
        return done

    async def get_shared(
        self,
        url: Url,
        name: str | None = None,
        *,
        reuse: SharedBuffer | None = None,
        **options: Unpack[Options],
    ) -> SharedBuffer:
        """As ``pget.Client.get_shared``."""
        shared: SharedBuffer = await _run(_pget.get_shared(url, name, reuse, self._with(options)))
        return shared

    async def put_into_ring(
        self,
        url: Url,
        ring: RingWriter,
        **options: Unpack[Options],
    ) -> Stats:
        """As ``pget.Client.put_into_ring``."""
        done: Stats = await _run(_pget.put_into_ring(url, ring, self._with(options)))
        return done


_default = Client()

stat = _default.stat
open = _default.open
read = _default.read
read_into = _default.read_into
read_ranges = _default.read_ranges
iter_ranges = _default.iter_ranges
get_file = _default.get_file
get_shared = _default.get_shared
put_into_ring = _default.put_into_ring
