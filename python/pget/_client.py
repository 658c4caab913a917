"""The calls, for threads that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

from ._calls import Calls, waited
from ._files import get_files
from ._pget import RawRanges
from ._reader import Reader
from ._settings import Options, Url

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Client(Calls):
    """Settings for any number of calls: reusable, picklable, and safe to share between threads and
    after a fork.

    A client holds no connection: those are the process's, and are shared by all clients.

    >>> client = Client(concurrency=16, retries=10)
    >>> client.read("/dev/null")
    b''
    """

    __slots__ = ()

    stat = waited(Calls._stat)
    read = waited(Calls._read)
    read_into = waited(Calls._read_into)
    get_file = waited(Calls._get_file)
    get_files = get_files
    get_shared = waited(Calls._get_shared)
    put_into_ring = waited(Calls._put_into_ring)

    def open(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Reader:
        """Opens the object for reading in order, and waits for the first reply.

        Args:
            url: The object's address, or a path.
            offset: The first byte wanted.
            length: Bytes wanted, cut at the object's end; ``None``: to the end.
            options: See ``Options``.

        Raises:
            PgetError: The first request failed.
        """
        return Reader(self._open(url, offset=offset, length=length, **options).wait())

    def read_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> list[memoryview]:
        """Reads many ranges ``(start, end)`` of one revision of the object, and returns their bytes
        in their order.

        Ranges may touch, overlap and be the same. Near ones are fetched together (``gap``). With
        ``into``, each goes to a buffer of the caller's, as long as the range or longer.

        Raises:
            RangeError: A range goes beyond the object.
            PgetError: The download failed.
        """
        raw = self._ranges(url, ranges, into, options)
        for _ in _each(raw):
            pass
        return raw.views()

    def iter_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> Iterator[tuple[int, memoryview]]:
        """Reads as ``read_ranges``, and yields each range's place in the list and its bytes as it
        is complete.

        The read begins with the call. Closing the iterator ends it, and waits until nothing writes
        to the buffers.
        """
        return _each(self._ranges(url, ranges, into, options))


def _each(raw: RawRanges) -> Iterator[tuple[int, memoryview]]:
    try:
        while (index := raw.next_op().wait()) is not None:
            yield index, raw.view(index)
    finally:
        raw.close()
