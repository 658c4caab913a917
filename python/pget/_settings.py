"""How to read: the options that every call takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict, Unpack

from . import _pget
from ._pget import Cancel
from ._types import ObjectInfo, Progress

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]
"""Names and values."""


class Options(TypedDict, total=False):
    """How to read; every call takes these by name, and a ``Client`` keeps them. ``None`` is the
    default.

    chunk_size: Bytes in a range, 1 to 1 GiB; by default the source's hint, else found by measuring.
    concurrency: Requests in flight, 1 to 1024; by default found by measuring. 1 reads one plain
        stream.
    window: Chunks held at most, 1 to 65536; by default half as many again as requests.
    gap: Of ranges that are read together, those at most this many bytes apart are fetched in one
        request (1 MiB).
    retries: Failed attempts without progress that a range may have in a row, 0 to 1000; by default
        time alone decides.
    retry_timeout: Seconds without progress after which a read fails, up to a day (120).
    memory_limit: Bytes that this read may buffer, instead of sharing the process's budget.
    connect_timeout: Seconds, up to a day, for a connection (5).
    first_byte_timeout: Seconds, up to a day, for the header of a reply (30).
    stall_timeout: Seconds, up to a day, without progress in a body (20).
    verify: Whether the bytes are compared with the published checksum.
    pin: The revision that the object must have, as ``stat`` or a reader's ``info`` reported it.
    properties: Settings of the transport, as ``{"aws.region": "eu-west-1"}``; they take precedence
        over the environment.
    headers: Sent with requests of http and https addresses, never to another origin.
    cancel: Ends the call when it is triggered.
    progress: Called on the caller's thread with a ``Progress``, about ten times a second; an
        exception in it cancels the call and is raised by it.
    """

    chunk_size: int | None
    concurrency: int | None
    window: int | None
    gap: int | None
    retries: int | None
    retry_timeout: float | None
    memory_limit: int | None
    connect_timeout: float | None
    first_byte_timeout: float | None
    stall_timeout: float | None
    verify: Literal["auto", "require", "off"] | None
    pin: ObjectInfo | None
    properties: Pairs | None
    headers: Pairs | None
    cancel: Cancel | None
    progress: Callable[[Progress], object] | None


Url = str | os.PathLike[str]


class Settings:
    """Options, checked and kept for any number of calls."""

    __slots__ = ("_options",)

    def __init__(self, **options: Unpack[Options]) -> None:
        """Keeps the options (see ``Options``).

        Raises:
            TypeError: An option has another type, or there is none of that name.
            ValueError: An option is out of its range.
        """
        self._options: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        for name in ("properties", "headers"):
            if name in self._options:
                pairs = self._options[name]
                self._options[name] = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
        _pget.check("/", self._options)

    def _with(self, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {**self._options, **options, **more}

    def __getstate__(self) -> dict[str, Any]:
        return self._options

    def __setstate__(self, options: dict[str, Any]) -> None:
        self._options = options

    def __repr__(self) -> str:
        secret = {"properties", "headers"}
        shown = ", ".join(
            f"{name}=<{len(value)} hidden>" if name in secret else f"{name}={value!r}"
            for name, value in self._options.items()
        )
        return f"{type(self).__module__.split('._')[0]}.{type(self).__name__}({shown})"
