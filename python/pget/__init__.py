"""One big object out of object storage, fast.

An object is fetched as parallel byte ranges over several connections, and delivered in order, or
straight into memory, a file or shared memory. The bytes are exactly one revision of the object,
complete, or the call raises.

Addresses: ``ais://bucket/object``, ``s3://bucket/key``, ``gs://bucket/key``,
``az://container/key``, ``https://…``, ``file:///path`` or a path. Settings come from the
environment under each ecosystem's own names, from ``properties``, and from the other options, in
rising precedence.

The functions of this module are the methods of a ``Client`` with default settings. Nothing happens
at import.
"""

from . import errors
from ._client import Client
from ._pget import Cancel, Lease, RingReader, RingView, RingWriter, SharedBuffer, __version__
from ._reader import Reader
from ._settings import Options
from ._types import FilesProgress, ObjectInfo, Progress, Stats
from .errors import (
    AccessError,
    BufferTooSmallError,
    CancelledError,
    ChecksumError,
    DestinationError,
    ForkedError,
    NotFoundError,
    ObjectChangedError,
    PgetError,
    ProtocolError,
    RangeError,
    ResourcesError,
    TimedOutError,
    UnavailableError,
    UnsupportedError,
    UnverifiableError,
)

_default = Client()

stat = _default.stat
open = _default.open
read = _default.read
read_into = _default.read_into
read_ranges = _default.read_ranges
iter_ranges = _default.iter_ranges
get_file = _default.get_file
get_files = _default.get_files
get_shared = _default.get_shared
put_into_ring = _default.put_into_ring

__all__ = [
    "AccessError",
    "BufferTooSmallError",
    "Cancel",
    "CancelledError",
    "ChecksumError",
    "Client",
    "DestinationError",
    "FilesProgress",
    "ForkedError",
    "Lease",
    "NotFoundError",
    "ObjectChangedError",
    "ObjectInfo",
    "Options",
    "PgetError",
    "Progress",
    "ProtocolError",
    "RangeError",
    "Reader",
    "ResourcesError",
    "RingReader",
    "RingView",
    "RingWriter",
    "SharedBuffer",
    "Stats",
    "TimedOutError",
    "UnavailableError",
    "UnsupportedError",
    "UnverifiableError",
    "__version__",
    "errors",
    "get_file",
    "get_files",
    "get_shared",
    "iter_ranges",
    "open",
    "put_into_ring",
    "read",
    "read_into",
    "read_ranges",
    "stat",
]
