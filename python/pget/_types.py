"""Values that calls return."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Size and revision of an object; usable as ``pin``.

    Attributes:
        size: Bytes, if the server reports it.
        etag: The ETag with its quotes.
        version: AIStore's version, S3's version id, GCS's generation, or a file's identity.
        checksum: The published checksum of the whole object: algorithm and value.
        last_modified: As the server sent it.
        chunk_hint: Bytes in a range that suit the source.
    """

    size: int | None
    etag: str | None = None
    version: str | None = None
    checksum: tuple[str, str] | None = None
    last_modified: str | None = None
    chunk_hint: int | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What a read did.

    Attributes:
        delivered: Bytes that the caller received.
        received: Bytes that came from the server.
        requests: Requests started.
        retries: Of these, for a range that had been tried before.
        fences: Requests that were far slower than the others, and were replaced.
        stalls: Requests that were given up because nothing came for as long as a deadline allows.
        window_full: Seconds in which the caller was the bottleneck.
        consumer_wait: Seconds in which the caller waited for bytes, in order.
        peak_buffered: The most bytes that were buffered at any time.
        concurrency: Requests that should be in flight: as set, or as measuring found.
        chunk_size: Bytes in a range: as set, as the source asks, or as measuring found.
        one_stream: Whether the object was read as one plain stream.
        waiting: Seconds for which nothing has succeeded, while the download waits for its server;
            ``None`` if it does not wait.
        verification: ``"verified"``, ``"unpublished"``, ``"off"``, ``"part"``, ``"unknown"`` and
            others.
        checksum: The algorithm that ``verification`` is about.
    """

    delivered: int
    received: int
    requests: int
    retries: int
    fences: int
    stalls: int
    window_full: float
    consumer_wait: float
    peak_buffered: int
    concurrency: int
    chunk_size: int
    one_stream: bool
    waiting: float | None
    verification: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a read stands: bytes delivered so far, bytes to be delivered in all (if that is known),
    the counters.
    """

    delivered: int
    total: int | None
    stats: Stats


@dataclass(frozen=True, slots=True)
class FilesProgress:
    """The state of a call for many objects.

    Attributes:
        delivered: Bytes delivered so far, of all objects.
        total: Bytes to be delivered in all, once every object's size is known.
        finished: Objects that are complete.
        failed: Objects that failed.
        files: Objects in all.
    """

    delivered: int
    total: int | None
    finished: int
    failed: int
    files: int
