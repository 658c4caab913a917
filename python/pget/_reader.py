"""The in-order reader."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ._pget import Lease, RawReader
from ._types import ObjectInfo, Stats

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ReaderState:
    """What the readers for threads and for asyncio have in common."""

    def __init__(self, raw: RawReader) -> None:
        self._raw = raw

    @property
    def total(self) -> int | None:
        """Bytes from the first to the last that was asked for, if that is known."""
        return self._raw.total

    @property
    def info(self) -> ObjectInfo:
        """Size and revision, as the first reply reported them."""
        return self._raw.info()

    @property
    def stats(self) -> Stats:
        """The counters."""
        return self._raw.stats()

    def cancel(self) -> None:
        """Ends the download: calls that wait, and later ones, raise ``CancelledError``."""
        self._raw.cancel()


class Reader(ReaderState, io.BufferedIOBase):
    """An object, read in order while it is fetched in parallel; made by ``open``.

    It is a binary file as ``io`` defines one, and iterating it yields ``Lease`` objects: the memory
    that the socket wrote, without a copy. ``seek`` reads on under the revision of the first reply.

    One thread at a time may be in a method; another one gets ``RuntimeError``. ``cancel`` and
    ``close`` may come from any thread.

    >>> import pget
    >>> with pget.open("/dev/null") as reader:
    ...     reader.read()
    b''
    """

    def __iter__(self) -> Iterator[Lease]:  # type: ignore[override]
        return self

    def __next__(self) -> Lease:  # type: ignore[override]
        self._check_open()
        lease = self._raw.next()
        if lease is None:
            raise StopIteration
        return lease

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns ``size`` bytes, fewer only at the end; all that are left for ``None`` or a
        negative number.
        """
        self._check_open()
        return self._raw.read(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        """Returns up to ``size`` bytes that are there; waits for the first only."""
        self._check_open()
        return self._raw.read1(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills ``buffer``, or as much of it as there is to the end; returns how much."""
        self._check_open()
        return self._raw.readinto(buffer, False)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Copies what is there to ``buffer``; waits for the first byte only."""
        self._check_open()
        return self._raw.readinto(buffer, True)

    def peek(self, size: int = 0, /) -> bytes:
        """Returns bytes that come next, as many as there are, and does not take them."""
        self._check_open()
        return self._raw.peek()

    def readable(self) -> bool:
        """Returns whether it is open."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Returns whether the server reported a size and a revision, under which another place can
        be read.
        """
        self._check_open()
        return self._raw.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Goes to a place, counted from the first byte that was asked for; the next read asks for
        what is there.
        """
        self._check_open()
        if not self._raw.seekable():
            raise io.UnsupportedOperation(
                "the server reported no size or no revision to seek under"
            )
        total = self._raw.total
        assert total is not None
        if whence == os.SEEK_CUR:
            offset += self._raw.tell()
        elif whence == os.SEEK_END:
            offset += total
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if offset < 0:
            raise ValueError(f"negative seek position {offset}")
        self._raw.seek(offset)
        return offset

    def tell(self) -> int:
        """Returns the place of the next byte."""
        self._check_open()
        return self._raw.tell()

    def close(self) -> None:
        """Ends the download and closes its connections."""
        if not self.closed:
            self._raw.close()
            super().close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<pget.Reader: {state}>"

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed reader")
