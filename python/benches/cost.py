"""CPU seconds for each GiB of the ways to read, beside the native program in the same run.

`python cost.py PROGRAM URL [--rounds 5]`: PROGRAM is a release build of pget, URL an object of at
least 256 MiB. Each way runs in a process of its own; its CPU time before the read is subtracted.
Prints the smallest of the rounds, and the ratio to a program that does the same: the median of the
rounds' ratios, because a write to a disk costs twice as much in one round as in another.

For an http address, four threads that only receive are measured, too, into memory that was not used
before and into memory that was. No program that has the bytes in fresh memory at its end can cost
less than the first, because the kernel clears each page. So `read` is compared with that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = {
    "iterate leases": ("pget cat", "for lease in pget.open(url): pass"),
    "read_into a reused array": ("pget cat", "pget.read_into(url, array)"),
    "read": ("pget cat", "kept = pget.read(url)"),
    "get_file": ("pget get", "pget.get_file(url, path)"),
}
FRESH, REUSED = "bare recv, fresh memory", "bare recv, reused memory"
BARE = {
    FRESH: (FRESH, "bare(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))"),
    REUSED: (REUSED, "bare(array)"),
}
CODE = """
import mmap, os, pget, resource, socket, sys, threading, time, urllib.parse
url, path = sys.argv[1:]
size = pget.stat(url).size
array = bytearray(size) if "array" in {body!r} else None
def bare(place):
    split = urllib.parse.urlsplit(url)
    ends = [size * part // 4 for part in range(5)]
    def receive(start, end):
        view = memoryview(place)
        with socket.create_connection((split.hostname, split.port)) as wire:
            text = f"GET {{split.path}} HTTP/1.1\\r\\nHost: {{split.netloc}}\\r\\n"
            wire.sendall(f"{{text}}Range: bytes={{start}}-{{end - 1}}\\r\\n\\r\\n".encode())
            head = b""
            while not head.endswith(b"\\r\\n\\r\\n"):
                head += wire.recv(1)
            assert head.startswith(b"HTTP/1.1 206 "), head
            while start < end:
                start += wire.recv_into(view[start : min(end, start + (1 << 20))])
    threads = [threading.Thread(target=receive, args=pair) for pair in zip(ends, ends[1:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
def used():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime
before, begun = used(), time.monotonic()
{body}
print(used() - before, time.monotonic() - begun, size)
"""


def of_python(body: str, url: str, path: str) -> tuple[float, float, int]:
    """Returns CPU seconds, seconds and bytes of one way."""
    code = CODE.format(body=body)
    done = subprocess.run(
        [sys.executable, "-c", code, url, path],
        capture_output=True,
        check=True,
        text=True,
    )
    cpu, seconds, size = done.stdout.split()
    return float(cpu), float(seconds), int(size)


def of_program(program: str, action: str, url: str, path: str) -> tuple[float, float]:
    """Returns CPU seconds and seconds of the program."""
    begun = time.monotonic()
    with open(os.devnull, "wb") as nothing:
        arguments = [program, "cat", url] if action == "cat" else [program, "get", url, "-o", path]
        child = subprocess.Popen(arguments, stdout=nothing)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return used.ru_utime + used.ru_stime, time.monotonic() - begun


def remove(path: str) -> None:
    """Removes the file of the way before: its pages are not this one's cost."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def main() -> None:
    """Measures, the ways of a round after one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ways = dict(WAYS)
    if options.url.startswith("http://"):
        ways |= {"read": (FRESH, WAYS["read"][1]), **BARE}
    found: dict[str, list[tuple[float, float]]] = {}
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/file"
        for _ in range(options.rounds):
            for action in ("cat", "get"):
                name = f"pget {action}"
                remove(path)
                got = of_program(options.program, action, options.url, path)
                found.setdefault(name, []).append(got)
            for name, (_, body) in ways.items():
                remove(path)
                cpu, seconds, size = of_python(body, options.url, path)
                found.setdefault(name, []).append((cpu, seconds))
    gib = size / 2**30
    print("| way | CPU s for a GiB | seconds for a GiB | CPU, as a ratio |\n|---|---|---|---|")
    for name, rounds in found.items():
        cpu, seconds = (min(values) / gib for values in zip(*rounds, strict=True))
        other = ways[name][0] if name in ways else name
        pairs = zip(rounds, found[other], strict=True)
        ratio = statistics.median(mine / others for (mine, _), (others, _) in pairs)
        print(f"| {name} | {cpu:.2f} | {seconds:.2f} | {ratio:.2f} of {other} |")


if __name__ == "__main__":
    main()
