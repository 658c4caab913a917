"""A small AIStore in this process: what the SDK and pget ask of one, with objects that can change.

The repository's stand-in is closer to the wire; here a test decides what happens at which request.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import msgpack


class SmallAistore:
    """Buckets of objects; `requests` has method, path, query, range and authorization of each."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.checksums: dict[tuple[str, str], str] = {}
        self.requests: list[dict[str, Any]] = []
        self.before_get: Callable[[dict[str, Any]], int | None] = lambda request: None
        # Buckets that have no object.
        self.empty_buckets: set[str] = set()
        self.token: str | None = None
        self.chunk: int | None = None
        self.lock = threading.Lock()

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Puts an object, or replaces it."""
        with self.lock:
            key = bucket, name
            self.objects[key] = data
            self.checksums[key] = hashlib.md5(data).hexdigest()
            self.versions[key] = self.versions.get(key, 0) + 1

    def __enter__(self) -> SmallAistore:
        store = self

        class Handler(_Handler):
            store_ = store

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Is silent: clients that have enough close their connections."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store_: SmallAistore

    def log_message(self, *args: Any) -> None:
        """Is silent."""

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, status: int, code: str, message: str) -> None:
        text = json.dumps({"status": status, "tcode": code, "message": message})
        if self.command == "HEAD":
            self._answer(status, {"Hdr-Error": text})
        else:
            self._answer(status, {"Content-Type": "application/json"}, text.encode())

    def do_HEAD(self) -> None:
        """Serves an object's properties."""
        self.do_GET()

    def do_GET(self) -> None:
        """Serves an object, a range of one, or a list."""
        store = self.store_
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        request = {
            "method": self.command,
            "path": parts.path,
            "query": query,
            "range": self.headers.get("Range"),
            "authorization": self.headers.get("Authorization"),
        }
        store.requests.append(request)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if store.token is not None and request["authorization"] != f"Bearer {store.token}":
            self._fail(401, "ErrToken", "the token is not valid")
            return
        if parts.path.startswith("/v1/buckets"):
            self._list(unquote(parts.path.removeprefix("/v1/buckets").strip("/")), json.loads(body))
            return
        bucket, _, name = parts.path.removeprefix("/v1/objects/").partition("/")
        key = unquote(bucket), unquote(name)
        if self.command == "GET" and (status := store.before_get(request)) is not None:
            if status == 0:
                self.close_connection = True
                return
            self._fail(status, "ErrTest", "as the test wants it")
            return
        with store.lock:
            data, version = store.objects.get(key), store.versions.get(key)
            checksum = store.checksums.get(key, "")
        if data is None:
            if not any(bucket == key[0] for bucket, _ in store.objects):
                self._fail(404, "ErrBckNotFound", f'bucket "ais://{key[0]}" does not exist')
            elif self.command == "GET" and any(
                bucket == key[0] and of.startswith(f"{key[1]}/") for bucket, of in store.objects
            ):
                # As the server: its file system has a folder of that name.
                text = f"ais://{key[0]}/{key[1]}, err: no data available"
                self._fail(500, "ErrLmetaNotFound", text)
            else:
                self._fail(404, "ErrNotFound", f"t[x]: ais://{key[0]}/{key[1]} does not exist")
            return
        headers = {
            "Ais-Version": str(version),
            "Ais-Checksum-Type": "md5",
            "Ais-Checksum-Value": checksum,
            "Ais-Present": "true",
        }
        if self.command == "HEAD":
            headers["Content-Length"] = str(len(data))
            if store.chunk:
                headers["Ais-Chunks-Count"] = str(-(-len(data) // store.chunk))
                headers["Ais-Chunks-Max-Chunk-Size"] = str(store.chunk)
            self._answer(200, headers)
            return
        if not request["range"]:
            self._answer(200, headers, data)
            return
        first, _, last = request["range"].removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
        if start >= len(data):
            self._answer(416, headers | {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._answer(206, headers, data[start:end])

    def _list(self, bucket: str, message: dict[str, Any]) -> None:
        store = self.store_
        if not bucket:
            names = sorted({bucket for bucket, _ in store.objects})
            found = [{"name": name, "provider": "ais"} for name in names]
            body = json.dumps(found).encode()
            self._answer(200, {"Content-Type": "application/json"}, body)
            return
        if bucket not in store.empty_buckets and not any(bucket == of for of, _ in store.objects):
            self._fail(404, "ErrBckNotFound", f'bucket "ais://{bucket}" does not exist')
            return
        wanted = message["value"]
        after = wanted.get("continuation_token") or ""
        prefix = wanted.get("prefix") or ""
        names = sorted(
            (name, data)
            for (place, name), data in store.objects.items()
            if place == bucket and name.startswith(prefix) and name > after
        )
        # Small pages, so that there are several.
        page = names[:3]
        answer = {
            "UUID": "list",
            "ContinuationToken": page[-1][0] if len(names) > 3 else "",
            "Flags": 0,
            "Entries": [{"n": name, "s": len(data)} for name, data in page],
        }
        self._answer(200, {"Content-Type": "application/msgpack"}, msgpack.encode(answer))
