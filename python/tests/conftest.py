"""The servers of the tests: those of the repository's testkit, as a program."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 7
GOOD = 5 * 1024 * 1024 + 123
FULL = bool(os.environ.get("PGET_FULL"))

# A job in the background of a script inherits SIGINT ignored, and so would the programs that these
# tests interrupt. A handler is reset to the default in programs that are started.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pattern(length: int, seed: int = SEED) -> bytes:
    """The bytes of a test object, as pget-testkit computes them."""
    import numpy

    old = numpy.seterr(over="ignore")
    z = numpy.uint64((seed + 1) * 0xD6E8FEB86659FD93 % 2**64) + numpy.arange(
        (length + 7) // 8, dtype=numpy.uint64
    ) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(32))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> numpy.uint64(29)
    numpy.seterr(**old)
    return z.tobytes()[:length]


class Servers:
    """Where they are."""

    def __init__(self, lines: dict[str, str]) -> None:
        self.hostile = lines["hostile"].rstrip("/")
        self.nginx = lines.get("nginx", lines["hostile"]).rstrip("/")
        self.aistore = lines["aistore"]
        # Address, key, secret, region and bucket of a versitygw, if it is installed.
        self.s3 = lines["s3"].split() if "s3" in lines else None


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / "debug/examples/serve"
    child = subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None and child.stdin is not None
    lines: dict[str, str] = {}
    for line in child.stdout:
        name, _, rest = line.strip().partition(" ")
        if name == "ready":
            break
        lines[name] = rest
    yield Servers(lines)
    child.stdin.close()
    child.wait(20)


@pytest.fixture(scope="session")
def good() -> bytes:
    return pattern(GOOD)


@pytest.fixture
def run() -> object:
    """Runs a program of Python's, and returns what it printed."""

    def run(text: str, *arguments: str, timeout: float = 60) -> str:
        done = subprocess.run(
            [sys.executable, "-c", text, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
