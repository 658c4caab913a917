"""One object of S3 in memory, by pget and by others: seconds and CPU seconds for each GiB.

`python peers.py BUCKET KEY [--rounds 5]`, with the usual variables and the packages boto3, obstore
and s3fs. Each measurement runs in a process of its own. Prints the best of the rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

WAYS = {
    "pget.read": ("import pget", "pget.read(f's3://{bucket}/{key}')"),
    "pget.read_into": (
        "import pget; place = bytearray(pget.stat(f's3://{bucket}/{key}').size)",
        "pget.read_into(f's3://{bucket}/{key}', place); data = place",
    ),
    "boto3, get_object": (
        "import boto3; client = boto3.client('s3'); client.head_object(Bucket=bucket, Key=key)",
        "client.get_object(Bucket=bucket, Key=key)['Body'].read()",
    ),
    "boto3, download_fileobj": (
        "import boto3, io; client = boto3.client('s3'); client.head_object(Bucket=bucket, Key=key)",
        "out = io.BytesIO(); client.download_fileobj(bucket, key, out); data = out.getbuffer()",
    ),
    "obstore, get": (
        "import obstore, os; from obstore.store import S3Store;"
        " store = S3Store(bucket, client_options={'allow_http': True})",
        "obstore.get(store, key).bytes()",
    ),
    "s3fs, cat_file": (
        "import s3fs; files = s3fs.S3FileSystem(); files.info(f'{bucket}/{key}')",
        "files.cat_file(f'{bucket}/{key}')",
    ),
}
CODE = """
import resource, sys, time
bucket, key = sys.argv[1:]
{prepare}
def used():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime
before, begun = used(), time.monotonic()
{read}
cpu, seconds = used() - before, time.monotonic() - begun
print(cpu, seconds, len(data), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measures, the ways of a round after one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("key")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds):
        for name, (prepare, read) in WAYS.items():
            read = read if "data =" in read else f"data = {read}"
            code = CODE.format(prepare=prepare, read=read)
            done = subprocess.run(
                [sys.executable, "-c", code, options.bucket, options.key],
                capture_output=True,
                check=True,
                text=True,
            )
            cpu, seconds, size, memory = map(float, done.stdout.split())
            gib = size / 2**30
            found.setdefault(name, []).append((seconds / gib, cpu / gib, memory / 1024))
    print("| way | seconds | CPU s | peak memory, MiB |\n|---|---|---|---|")
    for name, rounds in found.items():
        seconds, cpu, memory = (min(values) for values in zip(*rounds, strict=True))
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
