"""The file that ``pget.fsspec`` opens for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

from ._client import Client
from ._reader import Reader
from ._types import ObjectInfo

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class PgetFile(AbstractBufferedFile):  # type: ignore[misc, unused-ignore]
    """A file of one revision of an object.

    Small reads go through fsspec's cache; large ones go straight to pget, which splits them. If one
    block is asked for right after another, the rest of the file is read ahead in parallel.
    """

    DEFAULT_BLOCK_SIZE = 4 << 20

    def __init__(
        self,
        fs: Any,
        path: str,
        *,
        reads: Client,
        url: str,
        info: ObjectInfo,
        block_size: int | None = None,
        cache_type: str = "readahead",
        cache_options: Any = None,
        **kwargs: Any,
    ) -> None:
        self._reads = reads
        self._url = url
        self._info = info
        self._stream: Reader | None = None
        # The end of the last block that was fetched.
        self._fetched = -1
        super().__init__(
            fs,
            path,
            "rb",
            block_size=block_size or self.DEFAULT_BLOCK_SIZE,
            cache_type=cache_type,
            cache_options=cache_options,
            size=info.size,
            **kwargs,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the place in the file, and the revision, which the copy reads, too."""
        how = {
            "block_size": self.blocksize,
            "cache_type": self.cache.name if self.cache else "none",
            **self.kwargs,
        }
        return _again, (
            type(self),
            self.fs,
            self.path,
            self._reads,
            self._url,
            self._info,
            self.loc,
            how,
        )

    @property
    def info_of_revision(self) -> ObjectInfo:
        """Size and revision of what is read."""
        return self._info

    def read(self, length: int = -1) -> bytes:
        """Returns ``length`` bytes, fewer only at the end; all that are left for a negative
        number.
        """
        self._check_open()
        left = max(0, self.size - self.loc)
        wanted = left if length is None or length < 0 else min(length, left)
        if wanted == 0:
            return b""
        if wanted <= self.blocksize:
            data: bytes = super().read(wanted)
            return data
        data = self._fetch_range(self.loc, self.loc + wanted)
        self.loc += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills ``buffer``, or as much of it as there is to the end; returns how much."""
        self._check_open()
        with memoryview(buffer) as whole, whole.cast("B") as place:
            wanted = min(len(place), max(0, self.size - self.loc))
            if wanted == 0:
                return 0
            if wanted <= self.blocksize:
                data = self.read(wanted)
                place[: len(data)] = data
                return len(data)
            count = self._reads.read_into(
                self._url,
                place[:wanted],
                offset=self.loc,
                length=wanted,
                pin=self._info,
            )
            self.loc += count
            return count

    readinto1 = readinto

    def _fetch_range(self, start: int, end: int) -> bytes:
        continues = start == self._fetched
        self._fetched = end
        if not continues:
            self._end_stream()
            return self._reads.read(self._url, offset=start, length=end - start, pin=self._info)
        if self._stream is None:
            self._stream = self._reads.open(self._url, offset=start, pin=self._info)
        return self._stream.read(end - start)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def close(self) -> None:
        """Ends what is read ahead."""
        self._end_stream()
        super().close()


def _again(
    kind: type[PgetFile],
    fs: Any,
    path: str,
    reads: Client,
    url: str,
    info: ObjectInfo,
    place: int,
    how: dict[str, Any],
) -> PgetFile:
    """Returns a file as ``__reduce__`` noted it."""
    made = kind(fs, path, reads=reads, url=url, info=info, **how)
    made.seek(place)
    return made
