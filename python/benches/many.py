"""1,000 small and three large objects of a list into files: `get_files`, the program and s5cmd.

`python many.py PROGRAM FOLDER BUCKET [--rounds 3]`: PROGRAM is a release build of pget, FOLDER the
folder that the S3 gateway serves as BUCKET (versitygw's `posix` backend), where the objects are
made. The endpoint and its credentials are set by the usual variables (`AWS_ENDPOINT_URL`). s5cmd is
used if it is installed. Prints the median of the seconds and of the CPU seconds, and the most
memory; the bytes of each way are compared once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SMALL, LARGE = (1000, 100_000), (3, 256 << 20)
CODE = """
import pget, sys
prefix, names, folder = sys.argv[1:]
names = open(names).read().split()
pget.get_files([(prefix + name, f"{folder}/{name}") for name in names])
"""


def digest(path: pathlib.Path) -> str:
    """Returns the digest of a file. The file is not held in memory: the kernel counts this
    process's memory as that of each child, too.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def make(folder: pathlib.Path) -> dict[str, str]:
    """Makes the objects, and returns the digest of each by its name."""
    digests = {}
    for kind, (count, size) in (("small", SMALL), ("large", LARGE)):
        for number in range(count):
            name = f"{kind}-{number}"
            piece = hashlib.shake_256(name.encode()).digest(min(size, 1 << 20))
            with open(folder / name, "wb") as out:
                for _ in range(size // len(piece)):
                    out.write(piece)
            digests[name] = digest(folder / name)
    return digests


def arguments(
    way: str, program: str, prefix: str, names: list[str], lists: pathlib.Path, out: str
) -> list[str]:
    """Returns the command of one way, which puts the objects into ``out``."""
    if way == "get_files":
        (lists / "names").write_text("\n".join(names))
        return [sys.executable, "-c", CODE, prefix, f"{lists}/names", out]
    if way == "s5cmd run":
        lines = (f"cp {prefix}{name} {out}/{name}\n" for name in names)
        (lists / "commands").write_text("".join(lines))
        return ["s5cmd", "run", f"{lists}/commands"]
    (lists / "addresses").write_text("".join(f"{prefix}{name}\n" for name in names))
    return [program, "get", "--input-file", f"{lists}/addresses", "--dir", out]


def measure(command: list[str]) -> tuple[float, float, float]:
    """Returns seconds, CPU seconds and MiB of memory of a process."""
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command[:3]
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measures the ways of a round after one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("bucket")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    digests = make(options.folder)
    prefix = f"s3://{options.bucket}/"
    ways = ["get_files", "pget get --input-file"]
    if shutil.which("s5cmd"):
        ways.append("s5cmd run")
        # Its own name for the endpoint; without it, it asks Amazon's servers, again and again.
        os.environ.setdefault("S3_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"])
    else:
        print("s5cmd was not measured: it is not installed", file=sys.stderr)
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    # The files go beside the objects: to memory, if the gateway's folder is there.
    with tempfile.TemporaryDirectory(dir=options.folder.parent.parent) as place:
        lists = pathlib.Path(place)
        for number in range(options.rounds):
            for way in ways:
                out = lists / "out"
                out.mkdir()
                command = arguments(way, options.program, prefix, list(digests), lists, str(out))
                found[way].append(measure(command))
                if number == 0:
                    for name, wanted in digests.items():
                        assert digest(out / name) == wanted, (way, name)
                shutil.rmtree(out)
    print("| way | seconds | CPU s | peak memory, MiB |\n|---|---|---|---|")
    for way, rounds in found.items():
        seconds, cpu, memory = zip(*rounds, strict=True)
        middle = statistics.median(seconds), statistics.median(cpu)
        print(f"| {way} | {middle[0]:.2f} | {middle[1]:.2f} | {max(memory):.0f} |")


if __name__ == "__main__":
    main()
