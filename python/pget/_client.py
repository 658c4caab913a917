"""The calls, for threads that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

from . import _pget
from ._pget import RingWriter, SharedBuffer
from ._reader import Reader
from ._settings import Options, Settings, Url
from ._types import ObjectInfo, Stats

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Client(Settings):
    """Settings for any number of calls: reusable, picklable, and safe to share between threads and after a fork.

    A client holds no connection: those are the process's, and are shared by all clients.

    >>> client = Client(concurrency=16, retries=10)
    >>> client.read("/dev/null")
    b''
    """

    __slots__ = ()

    def stat(self, url: Url, **options: Unpack[Options]) -> ObjectInfo:
        """Returns size and revision of the object, without reading it.

        Raises:
            PgetError: What the request met.
        """
        info: ObjectInfo = _pget.stat(url, self._with(options)).wait()
        return info

    def open(self, url: Url, *, offset: int = 0, length: int | None = None, **options: Unpack[Options]) -> Reader:
        """Opens the object for reading in order, and waits for the first reply.

        Args:
            url: The object's address, or a path.
            offset: The first byte wanted.
            length: Bytes wanted, cut at the object's end; ``None``: to the end.
            options: See ``Options``.

        Raises:
            PgetError: What the first request met.
        """
        return Reader(_pget.open(url, self._with(options, offset=offset, length=length)).wait())

    def read(self, url: Url, *, offset: int = 0, length: int | None = None, **options: Unpack[Options]) -> bytes:
        """Returns the object's bytes, which are received in the memory of the ``bytes`` object.

        Raises:
            PgetError: What ended the download.
        """
        data: bytes = _pget.read(url, self._with(options, offset=offset, length=length)).wait()
        return data

    def read_into(
        self,
        url: Url,
        buffer: WriteableBuffer,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> int:
        """Reads into ``buffer``, each range where it belongs, and returns the number of bytes.

        ``buffer`` is any writable C-contiguous buffer, whatever its items: ``bytearray``, ``mmap``, a numpy array, a
        torch tensor's ``numpy()``. When the call returns or raises, nothing writes to it any more; after an
        exception, its content is unspecified.

        Raises:
            BufferTooSmallError: The object is longer; ``needed`` is its size, and nothing was written.
            PgetError: What ended the download.
        """
        count: int = _pget.read_into(url, buffer, self._with(options, offset=offset, length=length)).wait()
        return count

    def read_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> list[memoryview]:
        """Reads many ranges ``(start, end)`` of one revision of the object, and returns their bytes in their order.

        Ranges may touch, overlap and be the same. Near ones are fetched together (``gap``). With ``into``, each goes
        to a buffer of the caller's, as long as the range or longer.

        Raises:
            RangeError: A range goes beyond the object.
            PgetError: What ended the download.
        """
        raw = _pget.read_ranges(url, ranges, into, self._with(options))
        try:
            while raw.next_op().wait() is not None:
                pass
        finally:
            raw.close()
        return raw.views()

    def iter_ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        *,
        into: Sequence[WriteableBuffer] | None = None,
        **options: Unpack[Options],
    ) -> Iterator[tuple[int, memoryview]]:
        """Reads as ``read_ranges``, and yields each range's place in the list and its bytes as it is complete.

        The read begins with the call. Closing the iterator ends it, and waits until nothing writes to the buffers.
        """
        raw = _pget.read_ranges(url, ranges, into, self._with(options))
        return _each(raw)

    def get_file(
        self,
        url: Url,
        path: Url,
        *,
        resume: bool = False,
        sync: bool = False,
        **options: Unpack[Options],
    ) -> Stats:
        """Reads into the file ``path``, which appears under its name when it is complete.

        Args:
            url: The object's address.
            path: The file; what is there before is replaced.
            resume: Go on with what an earlier call has left, if the object still has the same revision.
            sync: Be on the disk before the call returns.
            options: See ``Options``.

        Raises:
            DestinationError: The file cannot be written.
            PgetError: What ended the download.
        """
        done: Stats = _pget.get_file(url, path, self._with(options, resume=resume, sync=sync)).wait()
        return done

    def get_shared(
        self,
        url: Url,
        name: str | None = None,
        *,
        reuse: SharedBuffer | None = None,
        **options: Unpack[Options],
    ) -> SharedBuffer:
        """Reads into shared memory, in the background; returns when the length is known.

        Args:
            url: The object's address.
            name: A POSIX name that is free, under which any process of this user attaches; ``None``: the buffer's
                ``name`` is what to attach by, and nothing is left when the last process lets go.
            reuse: A complete buffer of this process, whose pages are used again; it is closed.
            options: See ``Options``; without ``progress``.
        """
        shared: SharedBuffer = _pget.get_shared(url, name, reuse, self._with(options)).wait()
        return shared

    def put_into_ring(self, url: Url, ring: RingWriter, **options: Unpack[Options]) -> Stats:
        """Puts the object into the ring, and returns when its reader has taken all of it."""
        done: Stats = _pget.put_into_ring(url, ring, self._with(options)).wait()
        return done


def _each(raw: _pget.RawRanges) -> Iterator[tuple[int, memoryview]]:
    try:
        while (index := raw.next_op().wait()) is not None:
            yield index, raw.view(index)
    finally:
        raw.close()
