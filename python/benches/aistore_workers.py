"""AIStore's SDK reading one object by itself and through pget: MiB/s and CPU seconds.

`AIS_ENDPOINT=… python aistore_workers.py BUCKET OBJECT [--workers 2 4 8 16 32] [--rounds 3]`. Each
measurement runs in a process of its own, and counts its children. Prints the best of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

CODE = """
import os, resource, sys, time
from aistore.sdk import Client
dropin, bucket, name, workers, way = sys.argv[1:]
if dropin == "pget":
    import pget.aistore
    pget.aistore.install()
obj = Client(os.environ["AIS_ENDPOINT"]).bucket(bucket).object(name)
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)
before, begun = used(), time.monotonic()
reader = obj.get_reader(num_workers=int(workers) if int(workers) > 1 else None)
if way == "iterate":
    size = sum(map(len, reader))
else:
    whole = reader.read_all()
    size = len(whole)
print(size / (time.monotonic() - begun) / 2**20, used() - before)
"""


def main() -> None:
    """Measures both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("object")
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    assert os.environ["AIS_ENDPOINT"]
    print("| way | workers | SDK MiB/s | pget MiB/s | SDK CPU s | pget CPU s |")
    print("|---|---|---|---|---|---|")
    for way in ("iterate", "read_all"):
        for workers in options.workers:
            best: dict[str, tuple[float, float]] = {}
            for _ in range(options.rounds):
                for reader in ("sdk", "pget"):
                    arguments = [reader, options.bucket, options.object, str(workers), way]
                    done = subprocess.run(
                        [sys.executable, "-c", CODE, *arguments],
                        capture_output=True,
                        check=True,
                        text=True,
                    )
                    speed, cpu = map(float, done.stdout.split())
                    before = best.get(reader, (0.0, 1e9))
                    best[reader] = max(before[0], speed), min(before[1], cpu)
            (sdk, sdk_cpu), (ours, our_cpu) = best["sdk"], best["pget"]
            print(
                f"| {way} | {workers} | {sdk:.0f} | {ours:.0f} | {sdk_cpu:.2f} | {our_cpu:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
