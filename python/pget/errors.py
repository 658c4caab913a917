"""The exceptions of pget: one class for each outcome that a caller can act on."""

import errno as _errno
import io as _io
from typing import Any, Final

__all__ = [
    "AccessError",
    "BufferTooSmallError",
    "CancelledError",
    "ChecksumError",
    "DestinationError",
    "ForkedError",
    "NotFoundError",
    "ObjectChangedError",
    "PgetError",
    "ProtocolError",
    "RangeError",
    "ResourcesError",
    "TimedOutError",
    "UnavailableError",
    "UnsupportedError",
    "UnverifiableError",
]


class PgetError(OSError):
    """What ended a call, in one line without secrets.

    Attributes:
        kind: One word, as ``"not_found"``.
        object: The object's address without credentials; empty if there is none yet.
        range: The bytes of the failed request, start and end (exclusive); an end of ``2**64 - 1``
            means "to the object's end"; ``None`` outside of a ranged read.
        attempts: How many times that range was tried since it last brought a byte.
        needed: With ``BufferTooSmallError``: how many bytes the buffer must have, if that is known.

    ``errno`` and ``filename`` (the address) are set as for any ``OSError``.
    """

    kind: str
    object: str
    range: tuple[int, int] | None
    attempts: int
    needed: int | None

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self.kind,
            self.strerror,
            self.object,
            self.range,
            self.attempts,
            self.needed,
            self.errno,
        )
        return (_make, fields)


class NotFoundError(PgetError, FileNotFoundError):
    """There is no such object."""


class AccessError(PgetError, PermissionError):
    """The server rejected the credentials, or requires credentials and got none."""


class TimedOutError(PgetError, TimeoutError):
    """No connection, no first byte or no progress within its deadline, after retries; or a wait's
    time is over.
    """


class UnavailableError(PgetError, ConnectionError):
    """The server cannot be reached or refuses work, after retries; or the process that filled
    shared memory died.
    """


class ProtocolError(PgetError):
    """The server's response is not usable, or is cut short, after retries."""


class ObjectChangedError(PgetError):
    """The object was replaced, changed or deleted while it was being read; ``errno`` is
    ``ESTALE``.
    """


class ChecksumError(PgetError):
    """The bytes do not have the published checksum; ``errno`` is ``EIO``."""


class UnverifiableError(PgetError):
    """Verification is required and cannot be done."""


class ResourcesError(PgetError):
    """The process or the machine lacks threads, file descriptors or memory."""


class RangeError(PgetError, ValueError):
    """The wanted range starts beyond the object's end, or, of several ranges, one goes beyond
    it.
    """


class BufferTooSmallError(PgetError, BufferError):
    """The buffer is too small for the object; ``needed`` is its size, if that is known."""


class DestinationError(PgetError):
    """The destination cannot be written; ``errno`` is the system's."""


class CancelledError(PgetError):
    """A ``Cancel`` was triggered, or the reader was cancelled or closed."""


class ForkedError(PgetError):
    """An object from before a fork was used in the child. New ones work there."""


class UnsupportedError(PgetError, _io.UnsupportedOperation):
    """The source, the system or the build cannot do it."""


_CLASSES: Final[dict[str, tuple[type[PgetError], int]]] = {
    "not_found": (NotFoundError, _errno.ENOENT),
    "permission_denied": (AccessError, _errno.EACCES),
    "timeout": (TimedOutError, _errno.ETIMEDOUT),
    "unavailable": (UnavailableError, _errno.ECONNABORTED),
    "protocol": (ProtocolError, _errno.EPROTO),
    "object_changed": (ObjectChangedError, _errno.ESTALE),
    "checksum": (ChecksumError, _errno.EIO),
    "unverifiable": (UnverifiableError, _errno.ENOTSUP),
    "resources": (ResourcesError, _errno.EAGAIN),
    "range": (RangeError, _errno.EINVAL),
    "buffer_too_small": (BufferTooSmallError, _errno.ENOBUFS),
    "destination": (DestinationError, _errno.EIO),
    "cancelled": (CancelledError, _errno.ECANCELED),
    "forked": (ForkedError, _errno.EPERM),
    "unsupported": (UnsupportedError, _errno.ENOTSUP),
}


def _make(
    kind: str,
    line: str,
    object: str,
    range: tuple[int, int] | None,
    attempts: int,
    needed: int | None,
    code: int | None,
) -> PgetError:
    """Makes the exception for a kind; called by the extension module, and to unpickle."""
    made, usual = _CLASSES.get(kind, (PgetError, _errno.EIO))
    error = made(usual if code is None else code, line, object or None)
    error.kind = kind
    error.object = object
    error.range = range
    error.attempts = attempts
    error.needed = needed
    return error
