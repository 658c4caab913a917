"""One object by pget and by other packages: seconds, CPU seconds for each GiB, and peak memory.

`python peers.py BUCKET KEY [--ais BUCKET/OBJECT] [--rounds 5]`, with the usual variables of S3 (and
`AIS_ENDPOINT` with `--ais`). A way whose package is not installed is left out, and named. requests,
urllib3 and hf_transfer read by a presigned address, which boto3 makes.

Each measurement runs in a process of its own. What a way prepares (clients, a HEAD, the address, a
buffer) is not counted. The ways of a round come after one another. Prints the best of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

PRESIGNED = (
    "import boto3, botocore.config;"
    " address = boto3.client('s3', config=botocore.config.Config(signature_version='s3v4'))"
    ".generate_presigned_url('get_object', Params={'Bucket': bucket, 'Key': key})"
)
SDK = (
    "import os; from aistore.sdk import Client; ais = os.environ['PGET_BENCH_AIS'].split('/', 1);"
    " thing = Client(os.environ['AIS_ENDPOINT']).bucket(ais[0]).object(ais[1])"
)
AIS = "import os, pget; address = 'ais://' + os.environ['PGET_BENCH_AIS']; size = 0"
URL = "f's3://{bucket}/{key}'"
# What a way is for; its name; what it prepares; and how it reads: `size` is how many bytes it got.
WAYS = [
    (
        "looked at",
        "pget, leases",
        "import pget; size = 0",
        f"for lease in pget.open({URL}): size += len(lease)",
    ),
    (
        "looked at",
        "requests, iter_content",
        f"{PRESIGNED}; import requests; size = 0",
        "for piece in requests.get(address, stream=True).iter_content(1 << 20): size += len(piece)",
    ),
    (
        "looked at",
        "urllib3, stream",
        f"{PRESIGNED}; import urllib3; pool = urllib3.PoolManager(); size = 0",
        "for piece in pool.request('GET', address, preload_content=False).stream(1 << 20):"
        " size += len(piece)",
    ),
    (
        "looked at",
        "boto3, iter_chunks",
        "import boto3; client = boto3.client('s3'); size = 0;"
        " client.head_object(Bucket=bucket, Key=key)",
        "for piece in client.get_object(Bucket=bucket, Key=key)['Body'].iter_chunks(1 << 20):"
        " size += len(piece)",
    ),
    (
        "looked at",
        "obstore, stream",
        "import obstore; from obstore.store import S3Store;"
        " store = S3Store(bucket, client_options={'allow_http': True}); size = 0",
        "for piece in obstore.get(store, key).stream(min_chunk_size=1 << 20): size += len(piece)",
    ),
    (
        "in memory",
        "pget, read_into a reused array",
        f"import pget; place = bytearray(pget.stat({URL}).size)",
        f"size = pget.read_into({URL}, place)",
    ),
    ("in memory", "pget, read", "import pget", f"data = pget.read({URL}); size = len(data)"),
    (
        "in memory",
        "boto3, get_object",
        "import boto3; client = boto3.client('s3'); client.head_object(Bucket=bucket, Key=key)",
        "data = client.get_object(Bucket=bucket, Key=key)['Body'].read(); size = len(data)",
    ),
    (
        "in memory",
        "boto3, download_fileobj",
        "import boto3, io; client = boto3.client('s3'); client.head_object(Bucket=bucket, Key=key)",
        "out = io.BytesIO(); client.download_fileobj(bucket, key, out);"
        " size = out.getbuffer().nbytes",
    ),
    (
        "in memory",
        "obstore, get",
        "import obstore; from obstore.store import S3Store;"
        " store = S3Store(bucket, client_options={'allow_http': True})",
        "data = obstore.get(store, key).bytes(); size = len(data)",
    ),
    (
        "in memory",
        "requests, content",
        f"{PRESIGNED}; import requests",
        "data = requests.get(address).content; size = len(data)",
    ),
    (
        "in memory",
        "urllib3, data",
        f"{PRESIGNED}; import urllib3; pool = urllib3.PoolManager()",
        "data = pool.request('GET', address).data; size = len(data)",
    ),
    (
        "in memory",
        "s3fs, cat_file",
        "import s3fs; files = s3fs.S3FileSystem(); files.info(f'{bucket}/{key}')",
        "data = files.cat_file(f'{bucket}/{key}'); size = len(data)",
    ),
    (
        "in a file",
        "pget, get_file",
        "import pget",
        f"size = pget.get_file({URL}, path).delivered",
    ),
    (
        "in a file",
        "boto3, download_file",
        "import boto3; client = boto3.client('s3'); client.head_object(Bucket=bucket, Key=key)",
        "client.download_file(bucket, key, path); size = os.stat(path).st_size",
    ),
    (
        "in a file",
        "hf_transfer, 8 connections",
        f"{PRESIGNED}; import hf_transfer",
        "hf_transfer.download(address, path, 8, 10 << 20); size = os.stat(path).st_size",
    ),
    (
        "in a file",
        "s3fs, get_file",
        "import s3fs; files = s3fs.S3FileSystem(); files.info(f'{bucket}/{key}')",
        "files.get_file(f'{bucket}/{key}', path); size = os.stat(path).st_size",
    ),
    (
        "AIStore, looked at",
        "pget, leases",
        AIS,
        "for lease in pget.open(address): size += len(lease)",
    ),
    (
        "AIStore, looked at",
        "AIStore's SDK, 8 workers",
        f"{SDK}; size = 0",
        "for piece in thing.get_reader(num_workers=8): size += len(piece)",
    ),
    (
        "AIStore, looked at",
        "AIStore's SDK, one stream",
        f"{SDK}; size = 0",
        "for piece in thing.get_reader(): size += len(piece)",
    ),
    ("AIStore, in memory", "pget, read", AIS, "data = pget.read(address); size = len(data)"),
    (
        "AIStore, in memory",
        "AIStore's SDK, read_all, 8 workers",
        SDK,
        "data = thing.get_reader(num_workers=8).read_all(); size = len(data)",
    ),
]
CODE = """
import os, resource, sys, time
bucket, key, path = sys.argv[1:]
try:
    {prepare}
except ImportError as error:
    print("missing", error.name)
    sys.exit()
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)
before, begun = used(), time.monotonic()
{read}
cpu, seconds = used() - before, time.monotonic() - begun
print(cpu, seconds, size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measured(prepare: str, read: str, arguments: list[str]) -> list[str]:
    """Returns what one way printed, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(prepare=prepare, read=read), *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{read}\n{done.stderr}")
    return done.stdout.split()


def main() -> None:
    """Measures, the ways of a round after one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("key")
    parser.add_argument("--ais", help="an object of an AIStore cluster: BUCKET/OBJECT")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ways = [way for way in WAYS if options.ais or not way[0].startswith("AIStore")]
    os.environ["PGET_BENCH_AIS"] = options.ais or ""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    sizes: dict[str, int] = {}
    missing: dict[str, str] = {}
    for _ in range(options.rounds):
        for purpose, name, prepare, read in ways:
            if name in missing:
                continue
            with tempfile.TemporaryDirectory() as folder:
                printed = measured(prepare, read, [options.bucket, options.key, f"{folder}/file"])
            if printed[0] == "missing":
                missing[name] = printed[1]
                continue
            cpu, seconds, size, memory = map(float, printed)
            sizes[name] = int(size)
            gib = size / 2**30
            got = (seconds / gib, cpu / gib, memory / 1024)
            found.setdefault((purpose, name), []).append(got)
    whole = sizes["pget, leases"]
    assert all(size == whole for name, size in sizes.items() if name.startswith("pget"))
    print(
        "| what for | way | s per GiB | CPU s per GiB | peak memory, MiB |\n|---|---|---|---|---|"
    )
    for (purpose, name), rounds in found.items():
        seconds, cpu, memory = (min(values) for values in zip(*rounds, strict=True))
        print(f"| {purpose} | {name} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} |")
    for name, size in sizes.items():
        if size != whole:
            print(f"{name} has read {size} of {whole} bytes", file=sys.stderr)
    for name, package in missing.items():
        print(f"{name} was not measured: the package {package} is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
