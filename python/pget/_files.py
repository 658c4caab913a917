"""Many objects into many files, by one call."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

from . import _pget
from ._settings import Options, Url
from ._types import FilesProgress, Progress, Stats
from .errors import PgetError

if TYPE_CHECKING:
    from ._calls import Calls

T = TypeVar("T")
Failure = PgetError | ValueError

# The exit statuses of the program, worst last: of several failures, the last of these is raised.
_WORST = (
    "cancelled",
    "not_found",
    "permission_denied",
    "range",
    "timeout",
    "unavailable",
    "protocol",
    "unverifiable",
    "resources",
    "destination",
    "checksum",
    "object_changed",
)


# Requests that several objects have in flight together, and how many objects are several.
_REQUESTS = 64
_SEVERAL = 4


@dataclass(slots=True)
class Table:
    """The state of each object."""

    pairs: list[tuple[Url, Url]]
    # The options of the call, with the share of requests of each object.
    options: dict[str, Any]
    results: list[Stats | Failure | None] = field(init=False)
    states: list[Progress | None] = field(init=False)
    # Those of the properties that at least one of the addresses may have.
    _known: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.pairs)
        self.states = [None] * len(self.pairs)
        self._known = {
            name
            for name in dict(self.options.get("properties") or ())
            if any(_pget.has_property(url, name) for url, _ in self.pairs)
        }

    def options_of(self, index: int) -> Options:
        """Returns the options of one object, whose progress goes to the table, too.

        An object is read without the properties that only other addresses of the list may have. A
        property that no address may have stays, so that each call refuses it.
        """
        url, progress = self.pairs[index][0], self.options.get("progress")

        def note(state: Progress) -> None:
            self.states[index] = state
            if progress is not None:
                progress(state)

        options = {**self.options, "progress": note}
        if self._known:
            options["properties"] = [
                (name, value)
                for name, value in dict(self.options["properties"]).items()
                if name not in self._known or _pget.has_property(url, name)
            ]
        return cast(Options, options)

    def progress(self) -> FilesProgress:
        """Returns the sums."""
        totals = [None if state is None else state.total for state in self.states]
        known = [total for total in totals if total is not None]
        return FilesProgress(
            delivered=sum(state.delivered for state in self.states if state is not None),
            total=sum(known) if len(known) == len(totals) else None,
            finished=sum(isinstance(result, Stats) for result in self.results),
            failed=sum(isinstance(result, Exception) for result in self.results),
            files=len(self.pairs),
        )

    def finished(self, return_exceptions: bool) -> list[Stats | Failure]:
        """Returns the results, or raises the worst failure."""
        failures = [result for result in self.results if isinstance(result, Exception)]
        if failures and not return_exceptions:
            worst = max(failures, key=_rank)
            worst.add_note(f"{len(failures)} of {len(self.results)} objects failed")
            raise worst
        return [result for result in self.results if result is not None]


def _rank(failure: Failure) -> int:
    kind = failure.kind if isinstance(failure, PgetError) else ""
    return _WORST.index(kind) if kind in _WORST else len(_WORST)


def share(options: dict[str, Any], objects: int) -> dict[str, Any]:
    """Returns the options of each of many objects that are read at the same time.

    Unless the caller sets it, each of several objects has its share of the requests: if each
    measured for itself, all together would have far too many in flight.
    """
    if objects < _SEVERAL or options.get("concurrency") is not None:
        return options
    return {**options, "concurrency": max(2, _REQUESTS // objects)}


def check(pairs: Iterable[tuple[Url, Url]], at_once: int, options: dict[str, Any]) -> Table:
    """Returns the table of a call with these options.

    Raises:
        ValueError: ``at_once`` is out of its range, or two objects have the same file.
    """
    if not 1 <= at_once <= 1024:
        raise ValueError(f"at_once must be 1 to 1024, not {at_once}")
    taken = [(url, path) for url, path in pairs]
    refuse_twice(taken)
    return Table(taken, share(options, min(at_once, len(taken))))


def refuse_twice(pairs: Iterable[tuple[Url, Url]]) -> None:
    """Checks that no two objects go to one file, before anything is read.

    Raises:
        ValueError: Two do. One of them would take the place of the other.
    """
    seen: set[str] = set()
    for _url, path in pairs:
        place = os.path.abspath(path)
        if place in seen:
            raise ValueError(f"two objects would have the file {os.fspath(path)!r}")
        seen.add(place)


@overload
def get_files(
    self: Calls,
    pairs: Iterable[tuple[Url, Url]],
    *,
    at_once: int = ...,
    resume: bool = ...,
    sync: bool = ...,
    return_exceptions: Literal[False] = False,
    files_progress: Callable[[FilesProgress], object] | None = ...,
    **options: Unpack[Options],
) -> list[Stats]: ...
@overload
def get_files(
    self: Calls,
    pairs: Iterable[tuple[Url, Url]],
    *,
    at_once: int = ...,
    resume: bool = ...,
    sync: bool = ...,
    return_exceptions: bool,
    files_progress: Callable[[FilesProgress], object] | None = ...,
    **options: Unpack[Options],
) -> list[Stats | Failure]: ...
def get_files(
    self: Calls,
    pairs: Iterable[tuple[Url, Url]],
    *,
    at_once: int = 16,
    resume: bool = False,
    sync: bool = False,
    return_exceptions: bool = False,
    files_progress: Callable[[FilesProgress], object] | None = None,
    **options: Unpack[Options],
) -> list[Stats] | list[Stats | Failure]:
    """Reads many objects into files, several at once; connections and memory are shared.

    Each file appears when it is complete. A failure does not end the others.

    Args:
        pairs: Addresses and paths.
        at_once: Objects that are read at the same time, 1 to 1024. Four or more share 64 requests
            in flight, unless ``concurrency`` is set.
        resume: Continue what an earlier call left, object by object.
        sync: Return only when the files are on the disk.
        return_exceptions: Return failures in their places instead of raising the worst of them.
        files_progress: Called on the caller's thread with the sums.
        options: See ``Options``; ``progress`` is called for each object. Each object takes those of
            ``properties`` that its kind of address has, so one call reads addresses of several
            kinds.

    Returns:
        The counters of each object, in the order of ``pairs``.

    Raises:
        ValueError: Two objects have the same file; nothing was read.
        PgetError: The worst failure, when all objects have been tried.
    """
    table = check(pairs, at_once, self._with(options))

    def begin(index: int) -> _pget.Op[Stats]:
        url, path = table.pairs[index]
        return self._get_file(url, path, resume=resume, sync=sync, **table.options_of(index))

    def changed() -> None:
        if files_progress is not None:
            files_progress(table.progress())

    together(begin, table.results, at_once, changed)
    return table.finished(return_exceptions)


def together(
    begin: Callable[[int], _pget.Op[T]],
    results: list[T | Failure | None],
    at_once: int,
    changed: Callable[[], None] = lambda: None,
) -> None:
    """Makes a call for each place in ``results``, at most ``at_once`` at the same time, and puts
    its result or its failure there.

    ``changed`` is called on this thread about ten times a second and after each end. When an
    exception leaves, every call has ended.
    """
    bridge = _pget.Bridge()
    calls: dict[int, _pget.Op[T]] = {}
    waiting = deque(range(len(results)))
    poll = select.poll()
    poll.register(bridge.fileno(), select.POLLIN)
    try:
        while waiting or calls:
            while waiting and len(calls) < at_once:
                index = waiting.popleft()
                try:
                    call = begin(index)
                except ValueError as error:
                    results[index] = error
                    continue
                calls[index] = call
                call.start(bridge, index)
            if calls:
                poll.poll(100)
            for index, value, _succeeded in bridge.drain(calls):
                del calls[index]
                if isinstance(value, BaseException) and not isinstance(value, Failure):
                    raise value
                results[index] = value
            changed()
    finally:
        # After an exception; each call ends with no writer to its file.
        for call in calls.values():
            call.cancel()
        calls.clear()
