"""File systems of fsspec that read through pget.

``PgetFileSystem`` (protocol ``pget``) wraps another file system: ``pget::s3://bucket/key`` reads
through pget, and lists and writes through ``s3fs``. ``AISFileSystem`` (protocol ``ais``) reads and
lists an AIStore cluster. Both are found by fsspec once the package is installed::

    pandas.read_parquet("pget::s3://bucket/table.parquet")
    fsspec.open("ais://bucket/object", client={"concurrency": 16})

Reads are plain calls of pget, without an event loop: they work in a forked worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fsspec import AbstractFileSystem, filesystem
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.utils import stringify_path

from . import errors
from ._client import Client
from ._fsspec_reads import Reads
from ._targets import Source, source_of

__all__ = ["AISFileSystem", "PgetFileSystem"]


def _unchained(path: Any) -> Any:
    """Returns the path in the wrapped file system."""
    text = stringify_path(path)
    for prefix in ("pget::", "pget://"):
        text = text.removeprefix(prefix)
    return text


def _delegated(name: str) -> Any:
    """A method of the wrapped file system."""

    def call(self: PgetFileSystem, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.fs, name)(*args, **kwargs)

    call.__name__ = name
    call.__doc__ = f"As ``{name}`` of the wrapped file system."
    return call


class PgetFileSystem(Reads, ChainedFileSystem):  # type: ignore[misc, unused-ignore]
    """Reads through pget; lists and writes through the file system that it wraps.

    Args:
        fs: The file system to wrap; or ``target_protocol`` and ``target_options`` to make it of.
        client: Options of pget for every read (see ``pget.Options``).

    pget reads ``file``, ``s3``, ``gs``, ``az``, ``http`` and ``https`` with the credentials and the
    endpoint of the wrapped file system. If it has an option that pget cannot express, one warning
    says so and it reads by itself, as does a file system that pget has no transport for
    (``memory``).
    """

    protocol = "pget"
    cachable = True

    def __init__(
        self,
        fs: AbstractFileSystem | None = None,
        *,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        client: Mapping[str, Any] | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if fs is None:
            if target_protocol is None:
                raise ValueError("pget wraps another file system: pget::s3://bucket/key, or fs=")
            fs = filesystem(target_protocol, **dict(target_options or {}))
        self.fs = fs
        source = source_of(fs)
        if isinstance(source, str):
            text = f"{fs.protocol} is read by {type(fs).__name__} itself, without pget: {source}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            source = None
        self._source: Source | None = source
        if source is not None:
            options = dict(client or {})
            options["properties"] = source.properties | dict(options.get("properties") or {})
            options["headers"] = source.headers | dict(options.get("headers") or {})
            self._client = Client(**options)
        # The wrapped file system's paths are not those of this class.
        self._strip_protocol: Callable[[Any], Any] = self._strip

    def _strip(self, path: Any) -> Any:
        if isinstance(path, list):
            return [self._strip(one) for one in path]
        return self.fs._strip_protocol(_unchained(path))

    def unstrip_protocol(self, name: str) -> str:
        """Returns the chained address ``pget::…``."""
        return f"pget::{self.fs.unstrip_protocol(self._strip(name))}"

    @property
    def fsid(self) -> str:
        """The wrapped file system's."""
        return f"pget_{self.fs.fsid}"

    @property
    def sep(self) -> str:
        """The wrapped file system's."""
        return str(self.fs.sep)

    def _url(self, path: str) -> str:
        assert self._source is not None
        return self._source.address(path)

    def _open_for_writing(self, path: str, mode: str, **options: Any) -> Any:
        return self.fs.open(path, mode, **{k: v for k, v in options.items() if v is not None})

    def open(self, path: Any, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """Opens for reading through pget, otherwise through the wrapped file system."""
        if self._source is None or "r" not in mode or "+" in mode:
            return self.fs.open(self._strip(path), mode, *args, **kwargs)
        return super().open(path, mode, *args, **kwargs)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        """Returns the bytes from ``start`` to ``end``, which may be negative, as in a slice."""
        if self._source is None:
            return self.fs.cat_file(path, start, end, **kwargs)
        return super().cat_file(path, start, end, **kwargs)

    def cat_ranges(self, paths: Any, starts: Any, ends: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the bytes of many ranges; those of one file together, of one revision."""
        if self._source is None:
            return self.fs.cat_ranges(paths, starts, ends, *args, **kwargs)
        return super().cat_ranges(paths, starts, ends, *args, **kwargs)

    def cat(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the bytes of a file, or a dict of those of many."""
        if self._source is None:
            return self.fs.cat(self._strip(path), *args, **kwargs)
        return super().cat(path, *args, **kwargs)

    def get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> None:
        """Reads files into local ones, several at once; a tree of them with ``recursive``."""
        if self._source is None:
            # A slash at the end has a meaning here.
            many = isinstance(rpath, (list, tuple))
            inner = [_unchained(one) for one in rpath] if many else _unchained(rpath)
            self.fs.get(inner, lpath, *args, **kwargs)
        else:
            super().get(rpath, lpath, *args, **kwargs)

    def get_file(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> None:
        """Reads into the local file ``lpath``, which appears under its name when it is complete."""
        if self._source is None:
            self.fs.get_file(rpath, lpath, *args, **kwargs)
        else:
            super().get_file(rpath, lpath, *args, **kwargs)

    transaction = property(lambda self: self.fs.transaction)
    start_transaction = _delegated("start_transaction")
    end_transaction = _delegated("end_transaction")
    invalidate_cache = _delegated("invalidate_cache")
    mkdir = _delegated("mkdir")
    makedirs = _delegated("makedirs")
    rmdir = _delegated("rmdir")
    ls = _delegated("ls")
    walk = _delegated("walk")
    find = _delegated("find")
    du = _delegated("du")
    glob = _delegated("glob")
    exists = _delegated("exists")
    lexists = _delegated("lexists")
    info = _delegated("info")
    checksum = _delegated("checksum")
    size = _delegated("size")
    sizes = _delegated("sizes")
    isdir = _delegated("isdir")
    isfile = _delegated("isfile")
    pipe = _delegated("pipe")
    pipe_file = _delegated("pipe_file")
    put = _delegated("put")
    put_file = _delegated("put_file")
    copy = _delegated("copy")
    cp_file = _delegated("cp_file")
    expand_path = _delegated("expand_path")
    mv = _delegated("mv")
    rm = _delegated("rm")
    rm_file = _delegated("rm_file")
    touch = _delegated("touch")
    ukey = _delegated("ukey")
    created = _delegated("created")
    modified = _delegated("modified")
    sign = _delegated("sign")


class AISFileSystem(Reads):
    """An AIStore cluster: ``ais://bucket/object``, ``ais://@alias#namespace/bucket/object``.

    Reads, ``info``, ``ls``, ``glob``, ``find`` and ``walk``; it does not write. Listing takes the
    SDK (``aistore``).

    Args:
        endpoint: The cluster's address; by default ``AIS_ENDPOINT``.
        token: The login; by default as AIStore's own tools find it.
        client: Options of pget for every read (see ``pget.Options``).
    """

    protocol = "ais"
    root_marker = ""

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        client: Mapping[str, Any] | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        options = dict(client or {})
        properties = {"ais.endpoint": endpoint, "ais.token": token}
        options["properties"] = {name: value for name, value in properties.items() if value} | dict(
            options.get("properties") or {}
        )
        self._client = Client(**options)
        self._endpoint = endpoint
        self._token = token

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return stringify_path(path).removeprefix("ais://").strip("/")

    def _url(self, path: str) -> str:
        return f"ais://{self._strip_protocol(path)}"

    def _cluster(self) -> Any:
        from aistore.sdk import Client as Cluster

        endpoint = self._endpoint or os.environ.get("AIS_ENDPOINT")
        if not endpoint:
            raise ValueError("AIS_ENDPOINT is not set (example: http://host:51080)")
        return Cluster(endpoint, token=self._token)

    def _bucket(self, cluster: Any, path: str) -> tuple[Any, str, str]:
        """Returns the bucket of ``path``, the path of the bucket, and the object's name."""
        from aistore.sdk.namespace import Namespace

        space, bucket, name = _parts(path)
        namespace = None
        if space:
            alias, _, named = space.rstrip("/").removeprefix("@").partition("#")
            namespace = Namespace(uuid=alias if space.startswith("@") else "", name=named)
        return cluster.bucket(bucket, namespace=namespace), space + bucket, name

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Returns name, size and type of an object, a bucket, or what names have in common up to a
        slash.
        """
        path = self._strip_protocol(path)
        _, bucket, name = _parts(path)
        if name:
            with contextlib.suppress(errors.NotFoundError):
                info = self._client.stat(self._url(path))
                return {
                    "name": path,
                    "size": info.size,
                    "type": "file",
                    "version": info.version,
                    "checksum": info.checksum,
                    "mtime": info.last_modified,
                }
        if bucket:
            # A bucket without objects is there, too.
            first = next(self._listed(path), None)
            if first is None and name:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _folder(path)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Returns whether there is such a path.

        Raises:
            PgetError: The server refuses the login, or is away: nothing is known of the path.
        """
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def isfile(self, path: str) -> bool:
        """Returns whether it is an object. Raises as ``exists``."""
        return self._is(path, "file")

    def isdir(self, path: str) -> bool:
        """Returns whether it is a bucket or a folder. Raises as ``exists``."""
        return self._is(path, "directory")

    def _is(self, path: str, kind: str) -> bool:
        try:
            return bool(self.info(path)["type"] == kind)
        except FileNotFoundError:
            return False

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """Returns the objects and folders right below ``path``; the buckets for an empty one."""
        path = self._strip_protocol(path)
        if not path:
            with _as_reads(path):
                buckets = self._cluster().cluster().list_buckets(provider="ais")
            found = [_folder(bucket.name) for bucket in buckets]
        else:
            found = list(self._entries(path))
        return found if detail else [entry["name"] for entry in found]

    def _entries(self, path: str) -> Iterator[dict[str, Any]]:
        """Yields what is right below ``path``."""
        is_there = not _parts(path)[2]
        folders: set[str] = set()
        for name, below, size in self._listed(path):
            is_there = True
            first, slash, _ = below.partition("/")
            if not slash:
                # The marker of the folder itself has nothing below.
                if below or name == path:
                    yield _file(name, size)
            elif first not in folders:
                folders.add(first)
                yield _folder(f"{path}/{first}")
        if not is_there:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Returns the objects below ``path``, at any depth, by one listing.

        Raises:
            PgetError: The server refuses the login, or is away.
        """
        path = self._strip_protocol(path)
        if not path:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        most = sys.maxsize if maxdepth is None else maxdepth
        found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            for name, below, size in self._listed(path):
                if withdirs and name != path:
                    steps = [step for step in below.split("/")[:-1] if step][:most]
                    for depth in range(len(steps) + 1):
                        folder = "/".join([path, *steps[:depth]])
                        found.setdefault(folder, _folder(folder))
                # A name with a slash at its end is the marker of a folder.
                if not name.endswith("/") and len(below.split("/")) <= most:
                    found[name] = _file(name, size)
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def _listed(self, path: str) -> Iterator[tuple[str, str, int]]:
        """Yields path, path below ``path``, and size of each object at or below ``path``.

        Raises:
            FileNotFoundError: There is no such bucket.
        """
        bucket, root, prefix = self._bucket(self._cluster(), path)
        below = f"{prefix}/" if prefix else ""
        with _as_reads(path):
            for entry in bucket.list_objects_iter(prefix=prefix, props="name,size"):
                if entry.name == prefix or entry.name.startswith(below):
                    name = f"{root}/{entry.name}"
                    yield name, entry.name[len(below) :], int(entry.size or 0)


def _parts(path: str) -> tuple[str, str, str]:
    """Returns the namespace with its slash, the bucket, and the object's name."""
    space, rest = "", path
    if path.startswith(("@", "#")):
        named, slash, rest = path.partition("/")
        space = named + slash
    bucket, _, name = rest.partition("/")
    return space, bucket, name


def _file(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "size": size, "type": "file"}


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


@contextlib.contextmanager
def _as_reads(path: str) -> Iterator[None]:
    """Raises failures of the SDK's listing as those of reads."""
    import requests
    from aistore.sdk.errors import AISError

    try:
        yield
    except AISError as error:
        if error.status_code == 404:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        kind = "permission_denied" if error.status_code in (401, 403) else "unavailable"
        raise _failed(kind, path, f"HTTP status {error.status_code}") from error
    except requests.Timeout as error:
        raise _failed("timeout", path, "the server is silent") from error
    except requests.ConnectionError as error:
        raise _failed("unavailable", path, "the server cannot be reached") from error


def _failed(kind: str, path: str, reason: str) -> errors.PgetError:
    line = f"listing ais://{path}: {reason}"
    return errors._make(kind, line, f"ais://{path}", None, 0, None, None)
