"""100 objects read by dask's worker processes and by ray, through pget and through s3fs.

Needs the packages dask, distributed, ray and s3fs, an S3 endpoint that is set by the usual
variables, and a bucket: `python workers.py BUCKET [--objects 100] [--size 8388608]`. A proxy with
a latency before the endpoint shows the effect of many requests at once. Prints seconds, and the
CPU seconds of this process and those below it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any


def used() -> float:
    """Returns the CPU seconds so far of this process and of all below it that are alive."""
    parents, ticks = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            process = int(path.parent.name)
            parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))

    def is_below(process: int) -> bool:
        while process not in (0, os.getpid()):
            process = parents.get(process, 0)
        return process != 0

    sum_of_all = sum(ticks[process] for process in parents if is_below(process))
    return sum_of_all / os.sysconf("SC_CLK_TCK")


def digest(url: str) -> str:
    """Reads one object through fsspec; returns its digest."""
    import fsspec

    with fsspec.open(url, "rb") as file:
        return hashlib.blake2b(file.read()).hexdigest()


def with_dask(urls: list[str]) -> list[str]:
    """Reads in four processes of a LocalCluster."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(digest, urls[:4], pure=False))
        begun, before = time.monotonic(), used()
        found = client.gather(client.map(digest, urls, pure=False))
        print(f"  {time.monotonic() - begun:6.2f} s {used() - before:6.2f} CPU s", end="")
        return list(found)


def with_ray(urls: list[str]) -> list[str]:
    """Reads in four processes of ray."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="error")
    try:
        task = ray.remote(digest)
        ray.get([task.remote(url) for url in urls[:4]])
        begun, before = time.monotonic(), used()
        found = ray.get([task.remote(url) for url in urls])
        print(f"  {time.monotonic() - begun:6.2f} s {used() - before:6.2f} CPU s", end="")
        return list(found)
    finally:
        ray.shutdown()


def main() -> None:
    """Puts the objects, and reads them in each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--size", type=int, default=8 << 20)
    parser.add_argument("--with", dest="ways", nargs="*", default=["dask", "ray"])
    options = parser.parse_args()
    import fsspec

    wanted = []
    for number in range(options.objects):
        data = hashlib.shake_256(str(number).encode()).digest(options.size)
        with fsspec.open(f"s3://{options.bucket}/bench/{number}", "wb") as out:
            out.write(data)
        wanted.append(hashlib.blake2b(data).hexdigest())
    names = [f"s3://{options.bucket}/bench/{number}" for number in range(options.objects)]
    ways: dict[str, Callable[[list[str]], Any]] = {"dask": with_dask, "ray": with_ray}
    for way in options.ways:
        for reader, urls in (("s3fs", names), ("pget", [f"pget::{name}" for name in names])):
            print(f"{way:5} {reader:5}", end="", flush=True)
            found = ways[way](urls)
            assert found == wanted, "the bytes are not those of the objects"
            print("  right")


if __name__ == "__main__":
    main()
