"""What the file systems of ``pget.fsspec`` have in common: reads of one file, of ranges, and of
many files at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike, stringify_path

from . import errors
from ._client import Client
from ._files import refuse_twice, share, together
from ._fsspec_file import PgetFile
from ._pget import Op
from ._types import ObjectInfo, Progress, Stats

# Threads of calls that take more than one request each, and calls at once without threads.
_AT_ONCE = 8
_CALLS = 32


class Reads(AbstractFileSystem):  # type: ignore[misc, unused-ignore]
    """Reads by pget, for a file system that says what its paths' addresses are."""

    _client: Client
    _files: Callable[..., Any] = PgetFile

    def _url(self, path: str) -> str:
        raise NotImplementedError

    def _open_for_writing(self, path: str, mode: str, **options: Any) -> Any:
        raise NotImplementedError(f"{self.protocol} cannot be opened with mode {mode!r}")

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if mode != "rb":
            return self._open_for_writing(
                path,
                mode,
                block_size=block_size,
                autocommit=autocommit,
                cache_options=cache_options,
                **kwargs,
            )
        url = self._url(path)
        # What fsspec's caches noted of the size; the file's revision has its own.
        kwargs.pop("size", None)
        with self._refuses_folders(path):
            info = self._client.stat(url)
        if info.size is None:
            # It can only be read from front to end.
            return self._client.open(url)
        return self._files(
            self,
            path,
            block_size=block_size,
            cache_options=cache_options,
            reads=self._client,
            url=url,
            info=info,
            **kwargs,
        )

    @contextlib.contextmanager
    def _refuses_folders(self, path: str) -> Iterator[None]:
        """Raises ``IsADirectoryError`` where pget was asked for a folder, which has no address."""
        try:
            yield
        except ValueError as error:
            if not (_may_be_folder(error) and self.isdir(path)):
                raise
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from error

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Returns the bytes from ``start`` to ``end``, which may be negative, as in a slice."""
        inner = self._strip_protocol(path)
        with self._refuses_folders(inner):
            return self._slice(self._url(inner), start, end)

    def _slice(self, url: str, start: int | None, end: int | None) -> bytes:
        if not start and end is None:
            return self._client.read(url)
        if (start or 0) < 0 or (end is not None and end < 0):
            info = self._client.stat(url)
            first, last = _within(info, start, end)
            return self._client.read(url, offset=first, length=last - first, pin=info)
        length = None if end is None else max(0, end - (start or 0))
        try:
            return self._client.read(url, offset=start or 0, length=length)
        except errors.RangeError:
            # Beyond the end, a slice is empty.
            return b""

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Returns the bytes of many ranges; those of one file together, of one revision, near ones
        in one request.
        """
        if not isinstance(paths, (list, tuple)):
            raise TypeError("paths must be a list")
        count = len(paths)
        firsts, lasts = _spread(starts, count), _spread(ends, count)
        if not count == len(firsts) == len(lasts):
            raise ValueError(f"{count} paths, {len(firsts)} starts and {len(lasts)} ends")
        found: list[Any] = [b""] * count
        by_path: dict[str, list[int]] = {}
        for index, path in enumerate(paths):
            by_path.setdefault(path, []).append(index)

        def read(item: tuple[str, list[int]]) -> None:
            path, indices = item
            try:
                url = self._url(self._strip_protocol(path))
                info = self._client.stat(url)
                ranges = [_within(info, firsts[index], lasts[index]) for index in indices]
                views = self._client.read_ranges(url, ranges, pin=info, gap=max_gap)
                for index, view in zip(indices, views, strict=True):
                    found[index] = bytes(view)
            except Exception as error:
                if on_error == "raise":
                    raise
                for index in indices:
                    found[index] = error

        _at_once(read, list(by_path.items()))
        return found

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Returns the bytes of a file, or a dict of those of many, which are read several at
        once.
        """
        bounds: dict[str, Any] = {
            name: kwargs.pop(name) for name in ("start", "end") if name in kwargs
        }
        paths = self.expand_path(path, recursive=recursive, **kwargs)
        if not (
            isinstance(path, (list, tuple))
            or len(paths) > 1
            or paths[0] != self._strip_protocol(path)
        ):
            return self.cat_file(paths[0], **bounds)
        found: dict[str, Any] = {}
        for name, result in zip(paths, self._cat_all(paths, bounds), strict=True):
            if not isinstance(result, BaseException):
                found[name] = result
            elif _may_be_folder(result) and self.isdir(name):
                # A list of a folder's files has its folders, too.
                continue
            elif on_error == "raise":
                raise result
            elif on_error == "return":
                found[name] = result
        return found

    def _cat_all(self, paths: Sequence[str], bounds: Mapping[str, Any]) -> list[Any]:
        """Returns bytes or a failure of each."""
        results: list[Any] = [None] * len(paths)
        if any(bounds.values()):

            def read(index: int) -> None:
                try:
                    results[index] = self.cat_file(paths[index], **bounds)
                except Exception as error:
                    results[index] = error

            _at_once(read, range(len(paths)))
            return results
        how = share(self._client._with({}), min(_CALLS, len(paths)))

        def begin(index: int) -> Op[bytes]:
            return self._client._read(self._url(paths[index]), **how)

        together(begin, results, _CALLS)
        return results

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        *,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        """Reads files into local ones, several at once; a tree of them with ``recursive``.

        Each appears under its name when it is complete. A failure does not end the others; the
        first one is raised. With ``resume``, an earlier call that was interrupted is gone on with.
        """
        pairs = _Pairs(self)
        AbstractFileSystem.get(pairs, rpath, lpath, recursive, maxdepth=maxdepth, **kwargs)
        refuse_twice(pairs.found)
        callback.set_size(len(pairs.found) + len(pairs.open))
        for remote, local in pairs.open:
            with callback.branched(remote, local) as child:
                self.get_file(remote, local, callback=child)
            callback.relative_update(1)
        results: list[Any] = [None] * len(pairs.found)
        children: dict[int, Any] = {}
        how = share(self._client._with({}), min(_CALLS, len(results)))

        def begin(index: int) -> Op[Stats]:
            remote, local = pairs.found[index]
            child = children[index] = callback.branched(remote, local)
            if folder := os.path.dirname(local):
                os.makedirs(folder, exist_ok=True)
            url = self._url(self._strip_protocol(remote))
            options = {**how, "progress": _into(child)}
            return self._client._get_file(url, local, resume=resume, **options)

        def changed() -> None:
            for index in [index for index in children if results[index] is not None]:
                child = children.pop(index)
                if isinstance(results[index], Stats):
                    _complete(child, results[index])
                child.close()
                callback.relative_update(1)

        together(begin, results, _CALLS, changed)
        changed()
        for (remote, local), result in zip(pairs.found, results, strict=True):
            if isinstance(result, Stats):
                continue
            if not (_may_be_folder(result, local) and self.isdir(self._strip_protocol(remote))):
                raise result
            os.makedirs(local, exist_ok=True)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        *,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        """Reads into the local file ``lpath``, which appears under its name when it is complete.

        With ``resume``, an earlier call that was interrupted is gone on with.
        """
        if outfile is None and isfilelike(lpath):
            outfile = lpath
        if outfile is not None:
            super().get_file(rpath, lpath, callback=callback, outfile=outfile, **kwargs)
            return
        path = self._strip_protocol(rpath)
        local = stringify_path(lpath)
        if folder := os.path.dirname(local):
            os.makedirs(folder, exist_ok=True)

        try:
            done = self._client.get_file(
                self._url(path), local, resume=resume, progress=_into(callback)
            )
        except (OSError, ValueError) as error:
            if not (_may_be_folder(error, local) and self.isdir(path)):
                raise
            os.makedirs(local, exist_ok=True)
        else:
            _complete(callback, done)


def _may_be_folder(error: BaseException, local: str | None = None) -> bool:
    """Whether a read that failed so, into the local file if there is one, may have been of a
    folder.

    There is no object of its name, the address is not one of an object, or files below it were
    first, so that the local one is a folder, too. Any other failure says nothing of that.
    """
    if isinstance(error, errors.DestinationError):
        return local is not None and os.path.isdir(local)
    if isinstance(error, errors.PgetError):
        return isinstance(error, FileNotFoundError)
    return isinstance(error, (ValueError, FileNotFoundError, IsADirectoryError))


class _Pairs:
    """Stands for a file system in fsspec's own ``get``: notes the files instead of reading them."""

    def __init__(self, files: AbstractFileSystem) -> None:
        self._files = files
        self.found: list[tuple[str, str]] = []
        # Of files that the caller has opened.
        self.open: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def get_file(self, rpath: str, lpath: Any, **_options: Any) -> None:
        if isfilelike(lpath):
            self.open.append((rpath, lpath))
        else:
            self.found.append((rpath, stringify_path(lpath)))


def _into(callback: Any) -> Callable[[Progress], None]:
    """Returns a progress function that passes the bytes on to ``callback``."""

    def progress(state: Progress) -> None:
        if state.total is not None:
            callback.set_size(state.total)
        callback.absolute_update(state.delivered)

    return progress


def _complete(callback: Any, done: Stats) -> None:
    # A file that was continued, or that was there, has delivered fewer bytes than it has.
    size = max(getattr(callback, "size", None) or 0, done.delivered)
    callback.set_size(size)
    callback.absolute_update(size)


def _spread(bound: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    return [bound] * count if bound is None or isinstance(bound, int) else list(bound)


def _within(info: ObjectInfo, start: int | None, end: int | None) -> tuple[int, int]:
    if info.size is None:
        raise errors.UnsupportedError("a range of an object whose size is not known")
    first, last, _ = slice(start, end).indices(info.size)
    return first, max(first, last)


def _at_once(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    """Does ``work`` for each item, some at once; raises the first failure in their order."""
    if len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), "pget-fsspec") as pool:
        for done in [pool.submit(work, item) for item in items]:
            done.result()
