"""Reads over https, in this process and in forked ones."""

import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading

import pytest
from conftest import pattern

import pget

DATA = pattern(3_000_001, 4)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Is silent."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        start, end = 0, len(DATA)
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else end, end)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(DATA)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(DATA[start:end])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Is silent: clients that do not trust it close their connections."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    program = shutil.which("openssl")
    assert program, "openssl is needed: scripts/test-tools.sh installs it"
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(
        server.socket,
        server_side=True,
        do_handshake_on_connect=False,
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/object", certificate
    server.shutdown()


CHILD = """
import hashlib, multiprocessing, pget, sys
url, digest, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = {"chunk_size": 300_000, "concurrency": 4}
def read(_number):
    return hashlib.sha256(pget.read(url, **options)).hexdigest() == digest
assert all(map(read, range(3)))
buffer = bytearray(size)
assert pget.read_into(url, buffer, **options) == size
assert hashlib.sha256(buffer).hexdigest() == digest
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert all(pool.map(read, range(9)))
assert read(0), "the parent's connections are still its own"
"""


def test_https(server, run, monkeypatch):
    url, certificate = server
    # Each in a process of its own: trusted certificates are read once.
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(certificate))
    run(CHILD, url, hashlib.sha256(DATA).hexdigest(), str(len(DATA)))


def test_a_certificate_that_is_not_trusted_is_refused(server):
    with pytest.raises(pget.PgetError) as caught:
        pget.read(server[0], retries=0, retry_timeout=1)
    assert "certificate" in str(caught.value)
