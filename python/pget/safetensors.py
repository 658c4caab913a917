"""Tensors out of safetensors files, received straight into the tensors' memory.

``load_file`` reads a whole file, ``stream`` many files at once, handing on each tensor when it has
arrived, and ``safe_open`` single tensors and rows. ``SafetensorsStreamer`` has the methods of
runai's class of that name::

    tensors = pget.safetensors.load_file("s3://bucket/model.safetensors", framework="pt")
    for name, tensor in pget.safetensors.stream(shards, framework="pt", device="cuda"):
        parameters[name].copy_(tensor)

Tensors are numpy arrays (``framework="np"``) or torch's (``"pt"``). Types that numpy lacks
(``BF16``, ``F8_*``) take the package ``ml_dtypes``. All tensors of a file are of one revision of
it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ._client import Client
from ._frameworks import Framework, framework_of
from ._pget import Cancel
from ._safetensors_header import Header, HeaderError, TensorInfo, length_of, parse
from ._settings import Options, Url
from ._types import ObjectInfo

__all__ = ["HeaderError", "SafetensorsStreamer", "TensorInfo", "load_file", "safe_open", "stream"]

_FIRST = 256 << 10
_MEMORY = 1 << 30
_AT_ONCE = 4


class _File:
    """One file: its header, and how to read its tensors."""

    def __init__(self, url: Url, framework: Framework, client: Client) -> None:
        self._url, self._framework, self._client = url, framework, client
        with client.open(url, length=_FIRST) as opened:
            first = opened.read()
            info = opened.info
        if info.size is None:
            raise HeaderError("the server reports no size of the file")
        length = length_of(first, info.size)
        if 8 + length > len(first):
            first += client.read(url, offset=len(first), length=8 + length - len(first), pin=info)
        self.info: ObjectInfo = info
        self.header: Header = parse(first[8 : 8 + length], info.size)

    def tensors(
        self,
        wanted: Sequence[TensorInfo],
        cancel: Cancel | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yields tensors as they arrive."""
        made = {
            index: self._framework.empty(tensor.dtype, tensor.shape)
            for index, tensor in enumerate(wanted)
        }
        places = [self._framework.buffer(tensor) for tensor in made.values()]
        ranges = [(tensor.start, tensor.end) for tensor in wanted]
        options: Options = {"pin": self.info}
        if cancel is not None:
            options["cancel"] = cancel
        for index, _ in self._client.iter_ranges(self._url, ranges, into=places, **options):
            yield wanted[index].name, self._framework.finished(made.pop(index))

    def whole(self, tensor: TensorInfo) -> Any:
        """Returns one tensor."""
        made = self._framework.empty(tensor.dtype, tensor.shape)
        if tensor.size:
            self._client.read_into(
                self._url,
                self._framework.buffer(made),
                offset=tensor.start,
                length=tensor.size,
                pin=self.info,
            )
        return self._framework.finished(made)

    def rows(self, tensor: TensorInfo, first: int, last: int) -> Any:
        """Returns the rows ``first`` to ``last`` of a tensor that has rows."""
        row = tensor.size // tensor.shape[0] if tensor.shape[0] else 0
        made = self._framework.empty(tensor.dtype, (last - first, *tensor.shape[1:]))
        if row and last > first:
            self._client.read_into(
                self._url,
                self._framework.buffer(made),
                offset=tensor.start + first * row,
                length=(last - first) * row,
                pin=self.info,
            )
        return self._framework.finished(made)


def load_file(
    url: Url,
    framework: str = "np",
    device: str = "cpu",
    **options: Unpack[Options],
) -> dict[str, Any]:
    """Returns all tensors of one file by their names.

    Args:
        url: The file's address.
        framework: ``"np"`` or ``"pt"``.
        device: Where torch's tensors go when they have arrived.
        options: See ``pget.Options``.

    Raises:
        HeaderError: The file is not one of safetensors.
        PgetError: What ended the download.
    """
    file = _File(url, framework_of(framework, device), Client(**options))
    found = dict(file.tensors(file.header.tensors))
    # In the order of the file, as safetensors does.
    return {tensor.name: found[tensor.name] for tensor in file.header.tensors}


def stream(
    urls: Url | Iterable[Url],
    framework: str = "np",
    device: str = "cpu",
    *,
    memory: int = _MEMORY,
    **options: Unpack[Options],
) -> Iterator[tuple[str, Any]]:
    """Yields the tensors of many files as they arrive, a few files at once.

    Args:
        urls: The addresses of the files.
        framework: ``"np"`` or ``"pt"``.
        device: Where torch's tensors go when they have arrived.
        memory: Bytes of tensors that wait to be taken, or are being received, at most; one tensor
            that is larger is received alone.
        options: See ``pget.Options``.

    Raises:
        HeaderError: A file is not one of safetensors.
        PgetError: What ended a download.
    """
    several = [urls] if isinstance(urls, (str, os.PathLike)) else list(urls)
    made = framework_of(framework, device)
    client = Client(**options)
    files = _headers(several, made, client)
    for _index, name, tensor in _Stream(files, memory).tensors():
        yield name, tensor
        del tensor


def _headers(urls: Sequence[Url], framework: Framework, client: Client) -> list[_File]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE * 2, "pget-safetensors") as pool:
        return list(pool.map(lambda url: _File(url, framework, client), urls))


class _Stream:
    """Tensors of several files, received by a few threads within one budget of memory."""

    def __init__(self, files: Sequence[_File], memory: int) -> None:
        if memory < 1:
            raise ValueError(f"memory must be 1 or more bytes, not {memory}")
        self._files = files
        self._memory = memory
        self._free = memory
        self._changed = threading.Condition()
        self._cancel = Cancel()
        self._ready: queue.SimpleQueue[tuple[int, TensorInfo, Any] | BaseException | None] = (
            queue.SimpleQueue()
        )
        self._work: queue.SimpleQueue[tuple[int, _File, list[TensorInfo]]] = queue.SimpleQueue()

    def tensors(self) -> Iterator[tuple[int, str, Any]]:
        """Yields the file's place in the list, the tensor's name, and the tensor."""
        for group in self._groups():
            self._work.put(group)
        threads = [
            threading.Thread(target=self._receive, name="pget-safetensors", daemon=True)
            for _ in range(_AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                item = self._ready.get()
                if item is None:
                    running -= 1
                    continue
                if isinstance(item, BaseException):
                    raise item
                index, info, tensor = item
                self._give_back(info.size)
                del item
                yield index, info.name, tensor
                del tensor
        finally:
            self._cancel.trigger()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _groups(self) -> Iterator[tuple[int, _File, list[TensorInfo]]]:
        """Yields neighbouring tensors that are received by one call: small enough for several calls
        at once.
        """
        most = max(1, self._memory // (2 * _AT_ONCE))
        for index, file in enumerate(self._files):
            group: list[TensorInfo] = []
            size = 0
            for tensor in file.header.tensors:
                if group and size + tensor.size > most:
                    yield index, file, group
                    group, size = [], 0
                group.append(tensor)
                size += tensor.size
            if group:
                yield index, file, group

    def _take(self, size: int) -> bool:
        """Waits until ``size`` bytes of the budget are free, or nothing is in use; whether the
        stream goes on.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._cancel.triggered or self._free >= size or self._free == self._memory
            )
            self._free -= size
            return not self._cancel.triggered

    def _give_back(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()

    def _receive(self) -> None:
        try:
            while True:
                try:
                    index, file, group = self._work.get_nowait()
                except queue.Empty:
                    return
                if not self._take(sum(tensor.size for tensor in group)):
                    return
                by_name = {tensor.name: tensor for tensor in group}
                for name, tensor in file.tensors(group, self._cancel):
                    self._ready.put((index, by_name[name], tensor))
                    # This thread may wait for memory next, and must not keep any.
                    del tensor
        except BaseException as error:
            self._ready.put(error)
        finally:
            self._ready.put(None)


class _Slice:
    """A tensor of ``safe_open`` that is read where it is indexed."""

    def __init__(self, file: _File, info: TensorInfo) -> None:
        self._file, self._info = file, info

    def get_shape(self) -> list[int]:
        """Returns the shape."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """Returns the type by the format's name, as ``"F32"``."""
        return self._info.dtype

    def __getitem__(self, key: Any) -> Any:
        """Returns a part; of the first dimension, only the rows that a number or a slice
        wants are read.
        """
        shape = self._info.shape
        indices = key if isinstance(key, tuple) else (key,)
        if not (shape and indices and self._info.size):
            return self._file.whole(self._info)[key]
        first, *rest = indices
        if type(first) is int and -shape[0] <= first < shape[0]:
            row = first % shape[0]
            return self._file.rows(self._info, row, row + 1)[(0, *rest)]
        if not isinstance(first, slice):
            return self._file.whole(self._info)[key]
        start, stop, step = first.indices(shape[0])
        if step != 1:
            return self._file.whole(self._info)[key]
        rows = self._file.rows(self._info, start, max(start, stop))
        return rows[(slice(None), *rest)] if rest else rows


class safe_open:
    """Opens a file for single tensors, as ``safetensors.safe_open``, at any address.

    >>> with pget.safetensors.safe_open(url) as file:  # doctest: +SKIP
    ...     rows = file.get_slice("embedding")[:128]
    """

    def __init__(
        self,
        filename: Url,
        framework: str = "np",
        device: str = "cpu",
        **options: Unpack[Options],
    ) -> None:
        self._file = _File(filename, framework_of(framework, device), Client(**options))
        self._tensors = {tensor.name: tensor for tensor in self._file.header.tensors}

    def keys(self) -> list[str]:
        """Returns the names of the tensors."""
        return sorted(self._tensors)

    def offset_keys(self) -> list[str]:
        """Returns the names in the order of the tensors' bytes."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str] | None:
        """Returns the free text of the file, if it has any."""
        return self._file.header.metadata

    def get_tensor(self, name: str) -> Any:
        """Returns one tensor.

        Raises:
            KeyError: There is none of that name.
        """
        return self._file.whole(self._tensors[name])

    def get_slice(self, name: str) -> Any:
        """Returns what can be indexed for a part of a tensor; the rows that the first index wants
        are read.
        """
        return _Slice(self._file, self._tensors[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Does nothing: there is nothing to close."""


class SafetensorsStreamer:
    """Has the methods of ``runai_model_streamer.SafetensorsStreamer``, which model servers call.
    Tensors are torch's by default.

    One process reads what it is asked for: with ``is_distributed``, too, each process reads
        everything.
    """

    def __init__(self, framework: str = "pt", **options: Unpack[Options]) -> None:
        self._framework = framework
        self._options = options
        self._files: list[_File] = []
        self.files_to_tensors_metadata: dict[int, list[TensorInfo]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files = []

    def stream_file(
        self,
        path: Url,
        s3_credentials: Any = None,
        device: str | None = "cpu",
        is_distributed: bool = False,
    ) -> None:
        """Reads the header of one file, for ``get_tensors``."""
        self.stream_files([path], s3_credentials, device, is_distributed)

    def stream_files(
        self,
        paths: Sequence[Url],
        s3_credentials: Any = None,
        device: str | None = "cpu",
        is_distributed: bool = False,
    ) -> None:
        """Reads the headers of files, for ``get_tensors``."""
        options = Options(**self._options)
        if s3_credentials is not None:
            properties = {
                f"aws.{setting}": str(value)
                for name, setting in _CREDENTIALS.items()
                if (value := getattr(s3_credentials, name, None)) is not None
            }
            options["properties"] = properties | dict(options.get("properties") or {})
        self._files = _headers(
            paths, framework_of(self._framework, device or "cpu"), Client(**options)
        )
        self.files_to_tensors_metadata = {
            index: list(file.header.tensors) for index, file in enumerate(self._files)
        }

    def get_tensors(self) -> Iterator[tuple[str, Any]]:
        """Yields names and tensors of all files as they arrive."""
        for _index, name, tensor in _Stream(self._files, _MEMORY).tensors():
            yield name, tensor
            del tensor


_CREDENTIALS = {
    "access_key_id": "access_key_id",
    "secret_access_key": "secret_access_key",
    "session_token": "session_token",
    "region_name": "region",
    "endpoint": "endpoint_url",
}
