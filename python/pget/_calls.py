"""The calls that ``Client`` and ``aio.Client`` share: what each asks for, and how its result is
waited for.

A method here takes the arguments of a public method and returns the call, not yet begun. ``waited``
makes a method of it that waits, ``awaited`` one that is awaited; both have its signature and its
text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, Unpack

from . import _pget
from ._pget import Op, RawRanges, RawReader, RingWriter, SharedBuffer
from ._settings import Options, Settings, Url
from ._types import ObjectInfo, Stats

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

S = TypeVar("S", bound=Settings)
P = ParamSpec("P")
T = TypeVar("T")


def waited(
    make: Callable[Concatenate[S, P], Op[T]],
) -> Callable[Concatenate[S, P], T]:
    """Returns a method that makes the call and waits for its result."""

    @functools.wraps(make)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return make(self, *args, **kwargs).wait()

    return method


class Calls(Settings):
    """What every client can ask for."""

    __slots__ = ()

    def _stat(self, url: Url, **options: Unpack[Options]) -> Op[ObjectInfo]:
        """Returns size and revision of the object, without reading it.

        Raises:
            PgetError: The request failed.
        """
        return _pget.stat(url, self._with(options))

    def _open(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Op[RawReader]:
        return _pget.open(url, self._with(options, offset=offset, length=length))

    def _read(
        self,
        url: Url,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Op[bytes]:
        """Returns the object's bytes, which are received in the memory of the ``bytes`` object.

        Args:
            url: The object's address, or a path.
            offset: The first byte wanted; the object's end is allowed, beyond it is an error.
            length: Bytes wanted, cut at the object's end; ``None``: to the end.
            options: See ``Options``.

        Raises:
            RangeError: ``offset`` is beyond the object's end.
            PgetError: The download failed.
        """
        return _pget.read(url, self._with(options, offset=offset, length=length))

    def _read_into(
        self,
        url: Url,
        buffer: WriteableBuffer,
        *,
        offset: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> Op[int]:
        """Reads into ``buffer``, each range where it belongs, and returns the number of bytes.

        ``buffer`` is any writable C-contiguous buffer, whatever its items: ``bytearray``, ``mmap``,
        a numpy array, a torch tensor's ``numpy()``. When the call returns or raises, nothing writes
        to it any more, also after a cancelled await. After an exception, its content is
        unspecified.

        Raises:
            BufferTooSmallError: The object is longer; ``needed`` is its size, and nothing was
                written.
            PgetError: The download failed.
        """
        return _pget.read_into(url, buffer, self._with(options, offset=offset, length=length))

    def _ranges(
        self,
        url: Url,
        ranges: Sequence[tuple[int, int]],
        into: Sequence[WriteableBuffer] | None,
        options: Options,
    ) -> RawRanges:
        return _pget.read_ranges(url, ranges, into, self._with(options))

    def _get_file(
        self,
        url: Url,
        path: Url,
        *,
        resume: bool = False,
        sync: bool = False,
        **options: Unpack[Options],
    ) -> Op[Stats]:
        """Reads into the file ``path``, which appears under its name when it is complete.

        Args:
            url: The object's address.
            path: The file; an existing one is replaced.
            resume: Continue what an earlier call left, if the object still has the same revision.
            sync: Return only when the file is on the disk.
            options: See ``Options``.

        Raises:
            DestinationError: The file cannot be written.
            PgetError: The download failed.
        """
        return _pget.get_file(url, path, self._with(options, resume=resume, sync=sync))

    def _get_shared(
        self,
        url: Url,
        name: str | None = None,
        *,
        reuse: SharedBuffer | None = None,
        **options: Unpack[Options],
    ) -> Op[SharedBuffer]:
        """Reads into shared memory, in the background; returns when the length is known.

        Args:
            url: The object's address.
            name: A POSIX name that is free, under which any process of this user attaches;
                ``None``: other processes attach by the buffer's ``name``, and nothing stays when
                the last process detaches.
            reuse: A complete buffer of this process, whose pages are used again; it is closed.
            options: See ``Options``; without ``progress``.
        """
        return _pget.get_shared(url, name, reuse, self._with(options))

    def _put_into_ring(self, url: Url, ring: RingWriter, **options: Unpack[Options]) -> Op[Stats]:
        """Puts the object into the ring, and returns when its reader has taken all of it."""
        return _pget.put_into_ring(url, ring, self._with(options))
