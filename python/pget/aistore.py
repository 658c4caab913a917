"""AIStore's own Python SDK, reading through pget.

The SDK (the package ``aistore``) reads an object with ``num_workers`` by forked processes.
``install`` puts pget in their place for the whole process, ``installed`` for a block, and
``reader`` for one object::

    import pget.aistore

    pget.aistore.install()
    for piece in client.bucket("models").object("weights").get_reader(num_workers=16):
        ...

The types that the SDK returns stay: ``bytes``, ``ParallelBuffer``, ``ObjectFileReader``. No process
is started, so a daemonic worker of a DataLoader can read, too. One reader delivers one revision of
the object, or raises ``pget.ObjectChangedError``; ``as_file`` does not resume after that.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Generator, Iterator, Mapping
from importlib.metadata import version
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Unpack
from urllib.parse import unquote

import requests
from aistore.sdk.const import (
    DEFAULT_PARALLEL_CHUNK_SIZE,
    QPARAM_LATEST,
    QPARAM_NAMESPACE,
    QPARAM_PROVIDER,
    URL_PATH_OBJECTS,
)
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound
from aistore.sdk.obj import object_reader as _seam
from aistore.sdk.obj.content_iterator import ParallelBuffer, StreamBounds
from aistore.sdk.obj.content_iterator import ParallelContentIterProvider as _SdkProvider
from aistore.sdk.obj.object import Object
from aistore.sdk.obj.object_client import ObjectClient
from aistore.sdk.obj.object_reader import ObjectReader

from . import errors
from ._client import Client
from ._reader import Reader
from ._settings import Options
from ._types import ObjectInfo

__all__ = ["ParallelContentIterProvider", "install", "installed", "reader", "uninstall"]

_LARGEST_CHUNK = 1 << 30
_MOST_REQUESTS = 1024
# Requests of a stream are shorter than its pieces where all together would have more than this
# under way: memory that is touched for the first time costs more than a request.
_UNDER_WAY = 64 << 20
_SHORTEST = 2 << 20
_A_DAY = 86_400.0
_warned: set[str] = set()
_client = Client()


class ParallelContentIterProvider(_SdkProvider):  # type: ignore[misc, unused-ignore]
    """The SDK's provider of the same name, with pget's connections in place of forked workers.

    All reads of one provider are of one revision: that of its first read.

    Args:
        client: The SDK's client of one object; it is asked for the object's size once, here.
        chunk_size: Bytes in each piece and in each request; ``None``: the largest chunk that the
            server reports, else 8 MiB, and with more than 8 workers shorter requests.
        num_workers: Requests in flight.

    Raises:
        ValueError: The object is empty.
    """

    def __new__(
        cls,
        client: ObjectClient,
        chunk_size: int | None = None,
        num_workers: int = 8,
        *,
        settings: Client | None = None,
    ) -> Any:
        """Returns the SDK's own provider, after one warning, for a read that pget does not do."""
        reason = _reason_against(client)
        if reason is None:
            return super().__new__(cls)
        if reason not in _warned:
            _warned.add(reason)
            text = f"AIStore's SDK reads this object by itself, without pget: {reason}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return _SdkProvider(client, chunk_size, num_workers)

    def __init__(
        self,
        client: ObjectClient,
        chunk_size: int | None = None,
        num_workers: int = 8,
        *,
        settings: Client | None = None,
    ) -> None:
        super().__init__(client, chunk_size, num_workers)
        is_default = chunk_size is None and self._chunk_size == DEFAULT_PARALLEL_CHUNK_SIZE
        shorter = max(_UNDER_WAY // num_workers, _SHORTEST)
        self._request_size = min(self._chunk_size, shorter) if is_default else self._chunk_size
        self._settings = _client if settings is None else settings
        # The revision of the first read; later ones must be of the same.
        self._info: dict[str, ObjectInfo] = {}

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self._client, self._chunk_size, self._num_workers

    def create_iter(self, offset: int = 0, bounds: StreamBounds | None = None) -> Generator[bytes]:
        """Yields the object's bytes from ``offset``, in pieces of ``chunk_size``.

        Raises:
            ErrObjNotFound, ErrBckNotFound, AISError: The server refuses.
            requests.ReadTimeout, requests.ConnectionError: The server is silent or away, after
            pget's own retries. pget.ObjectChangedError: The object was replaced since the provider
            was made.
        """
        bounds = bounds or StreamBounds()
        bounds.start = offset
        bounds.expected_end = self._object_size
        if offset >= self._object_size:
            return
        with self._translated():
            opened = self._open(offset)
        with opened:
            while True:
                with self._translated():
                    piece = opened.read(self._chunk_size)
                if not piece:
                    return
                yield piece

    def read_all(self) -> ParallelBuffer:
        """Returns the object in shared memory, which the caller has to close.

        Raises:
            OSError: There is too little shared memory.
            Exception: As ``create_iter``.
        """
        whole = ParallelBuffer(_shared_memory(self._object_size), self._object_size)
        try:
            with self._translated():
                url, options = _source(self._client)
                try:
                    size = self._settings.read_into(
                        url, whole.buf, **self._how(options, self._chunk_size)
                    )
                except errors.BufferTooSmallError as error:
                    raise self._replaced(error.needed) from None
            if size != self._object_size:
                raise self._replaced(size)
        except BaseException:
            whole.close()
            raise
        return whole

    def _how(self, options: dict[str, Any], request_size: int) -> dict[str, Any]:
        options |= {
            "chunk_size": min(request_size, _LARGEST_CHUNK),
            "concurrency": min(self._num_workers, _MOST_REQUESTS),
            # As the SDK's ring: a slot for each worker.
            "window": min(self._num_workers, _MOST_REQUESTS),
            "pin": self._info.get("first"),
        }
        # The options that the user set for pget take precedence over the SDK's.
        options["properties"] |= dict(self._settings._options.get("properties", ()))
        return {
            name: value
            for name, value in options.items()
            if name == "properties" or name not in self._settings._options
        }

    def _open(self, offset: int) -> Reader:
        url, options = _source(self._client)
        how = self._how(options, self._request_size)
        opened = self._settings.open(url, offset=offset, **how)
        try:
            info = opened.info
            if info.size not in (None, self._object_size):
                raise self._replaced(info.size)
            # Of two that begin at once, one is first.
            first = self._info.setdefault("first", info)
            if (first.etag, first.version, first.checksum) != (
                info.etag,
                info.version,
                info.checksum,
            ):
                raise self._replaced(info.size)
        except BaseException:
            opened.close()
            raise
        return opened

    def _replaced(self, size: int | None) -> errors.PgetError:
        line = (
            "the object was replaced since its reader was made:"
            f" it had {self._object_size} bytes, now {size}"
        )
        return errors._make("object_changed", line, _address(self._client)[0], None, 0, None, None)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises pget's errors as those that the SDK's users catch.

        ``ObjectChangedError`` stays: as one of the SDK's ``STREAM_ERRORS`` it would let ``as_file``
        resume.
        """
        try:
            yield
        except errors.NotFoundError as error:
            kind = ErrBckNotFound if "ErrBckNotFound" in str(error) else ErrObjNotFound
            raise _refused(kind, 404, error) from error
        except errors.AccessError as error:
            status = 401 if "HTTP status 401" in str(error) else 403
            raise _refused(AISError, status, error) from error
        except errors.TimedOutError as error:
            raise requests.ReadTimeout(str(error)) from error
        except errors.UnavailableError as error:
            raise requests.ConnectionError(str(error)) from error
        except errors.ProtocolError as error:
            raise requests.exceptions.ChunkedEncodingError(str(error)) from error


def _refused(kind: type[AISError], status: int, error: errors.PgetError) -> AISError:
    request = requests.Request("GET", error.object).prepare() if "://" in error.object else None
    return kind(status, str(error), error.object, request)


def _shared_memory(size: int) -> SharedMemory:
    """Makes a segment that has its memory, so that writing to it cannot end the process."""
    made = SharedMemory(create=True, size=size)
    try:
        os.posix_fallocate(made._fd, 0, size)  # type: ignore[attr-defined]
    except BaseException:
        made.close()
        made.unlink()
        raise
    return made


def _reason_against(client: ObjectClient) -> str | None:
    """Returns why the SDK's own provider has to read this; ``None`` if pget does."""
    parameters = client._request_params
    if not isinstance(parameters, Mapping):
        return "its client is not the SDK's"
    # The SDK sets those that are not wanted to None.
    used = {name for name, value in parameters.items() if value is not None}
    unknown = sorted(used - {QPARAM_PROVIDER, QPARAM_NAMESPACE, QPARAM_LATEST})
    if client._uname:
        return "direct=True reads from a target"
    if unknown:
        return f"it has the parameter {', '.join(unknown)} (an archive, an ETL or another job)"
    if client._request_headers:
        names = ", ".join(sorted(client._request_headers))
        return f"it has the header {names} (a blob download or another job)"
    if any(client._byte_range or ()):
        return "it is of a byte range"
    if any(ord(character) < 32 or ord(character) == 127 for character in unquote(client.path)):
        return "its name has control characters"
    session = client._request_client.session_manager.session
    if session.auth or session.params or session.proxies:
        return "its session has a login, parameters or proxies of its own"
    if isinstance(session.verify, str) and os.path.isdir(session.verify):
        return "its certificate authorities are a folder"
    return None


def _address(client: ObjectClient) -> tuple[str, dict[str, str]]:
    """Returns the object's address, and its bucket's properties."""
    path = client.path.lstrip("/").removeprefix(f"{URL_PATH_OBJECTS}/")
    bucket, _, name = path.partition("/")
    parameters = client._request_params or {}
    namespace = parameters.get(QPARAM_NAMESPACE) or ""
    # The SDK's path is quoted; an address is read as it is.
    url = f"ais://{namespace}{'/' if namespace else ''}{unquote(bucket)}/{unquote(name)}"
    properties = (
        {"ais.provider": str(getattr(provider, "value", provider))}
        if (provider := parameters.get(QPARAM_PROVIDER))
        else {}
    )
    if str(parameters.get(QPARAM_LATEST, "")).lower() == "true":
        properties["ais.latest"] = "true"
    return url, properties


def _source(client: ObjectClient) -> tuple[str, dict[str, Any]]:
    """Returns address and options for a read now: a token may have been renewed since the last
    one.
    """
    requester = client._request_client
    url, properties = _address(client)
    session = requester.session_manager.session
    properties |= {
        "ais.endpoint": requester.base_url.removesuffix("/").removesuffix("/v1"),
        "ais.token": requester.token or "",
        "ais.skip_verify_crt": "false" if session.verify else "true",
        "ais.client_ca": "",
        "ais.crt": "",
        "ais.crt_key": "",
    }
    bundle = session.verify
    if bundle is True:
        # As requests does.
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if isinstance(bundle, str) and os.path.isfile(bundle):
        properties["ais.client_ca"] = bundle
    if session.cert:
        certificate, key = (
            session.cert if isinstance(session.cert, tuple) else (session.cert, session.cert)
        )
        properties |= {"ais.crt": certificate, "ais.crt_key": key}
    timeout = requester.timeout
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    options = {
        "properties": properties,
        "connect_timeout": min(connect or _A_DAY, _A_DAY),
        "first_byte_timeout": min(read or _A_DAY, _A_DAY),
        "stall_timeout": min(read or _A_DAY, _A_DAY),
    }
    return url, options


def install(**options: Unpack[Options]) -> None:
    """Makes every reader with ``num_workers`` of this process read through pget; again with other
    options, too.

    Args:
        options: See ``pget.Options``; they go before what the SDK's client has.

    Raises:
        RuntimeError: The SDK has another major version than 2.
    """
    global _client
    major = version("aistore").partition(".")[0]
    if major != "2":
        raise RuntimeError(f"pget.aistore works with aistore>=2,<3; this is {version('aistore')}")
    _client = Client(**options)
    _seam.ParallelContentIterProvider = ParallelContentIterProvider


def uninstall() -> None:
    """Makes readers use the SDK's own provider again; those made before stay as they are."""
    global _client
    _client = Client()
    _seam.ParallelContentIterProvider = _SdkProvider


@contextlib.contextmanager
def installed(**options: Unpack[Options]) -> Iterator[None]:
    """Makes readers that are created in the block read through pget."""
    global _client
    before = _client, _seam.ParallelContentIterProvider
    install(**options)
    try:
        yield
    finally:
        _client, _seam.ParallelContentIterProvider = before


def reader(
    obj: Object,
    num_workers: int = 8,
    *,
    latest: bool = False,
    **options: Unpack[Options],
) -> ObjectReader:
    """Returns the SDK's reader of one object, which reads through pget. Nothing is patched.

    Args:
        obj: The SDK's object.
        num_workers: Requests in flight.
        latest: Ask the bucket's backend for its latest version.
        options: See ``pget.Options``; ``chunk_size`` is also the size of the pieces.

    >>> with pget.aistore.reader(obj, 16).read_all() as whole:  # doctest: +SKIP
    ...     consume(whole.buf)
    """
    chunk_size = options.get("chunk_size")
    made = obj.get_reader(chunk_size=chunk_size, latest=latest)
    made._content_provider = ParallelContentIterProvider(
        made._object_client,
        chunk_size,
        num_workers,
        settings=Client(**options),
    )
    return made
