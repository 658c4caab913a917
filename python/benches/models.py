"""A sharded model of safetensors files from S3 or AIStore: seconds, CPU seconds and peak memory.

`python models.py make FOLDER [--gib 4] [--shards 4]` writes the shards and `shards.txt`; put them
into a bucket with any tool. `python models.py measure PREFIX FOLDER/shards.txt [--rounds 3]` reads
`PREFIX/NAME` of each shard, where PREFIX is `s3://bucket/model` or `ais://bucket/model`, with the
usual variables of each. AIStore's SDK reads AIStore only, the other readers S3 only. A way whose
package is not installed is left out, and named.

Each measurement runs in a process of its own. Importing is not counted. Every way copies each
tensor's first and last element, and drops the tensor: what stays in memory is the reader's own.
The numbers that they read are compared. Prints the best of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys

TENSOR = 64 << 20

WAYS = {
    "pget.safetensors.stream, numpy": (
        "import pget.safetensors",
        "for name, tensor in pget.safetensors.stream(urls, framework='np'): see(name, tensor)",
    ),
    "pget.safetensors.stream, torch": (
        "import torch, pget.safetensors",
        "for name, tensor in pget.safetensors.stream(urls, framework='pt'): see(name, tensor)",
    ),
    "runai's streamer, torch": (
        "import torch; from runai_model_streamer import SafetensorsStreamer",
        "with SafetensorsStreamer() as streamer:\n"
        "    streamer.stream_files(urls)\n"
        "    for name, tensor in streamer.get_tensors(): see(name, tensor)",
    ),
    "safetensors over s3fs, numpy": (
        "import s3fs, safetensors.numpy; files = s3fs.S3FileSystem()",
        "for url in urls:\n"
        "    tensors = safetensors.numpy.load(files.cat_file(url))\n"
        "    while tensors: see(*tensors.popitem())",
    ),
    "safetensors over AIStore's SDK, numpy": (
        "import os, safetensors.numpy; from aistore import Client; "
        "client = Client(os.environ['AIS_ENDPOINT'])",
        "for url in urls:\n"
        "    bucket, name = url.removeprefix('ais://').split('/', 1)\n"
        "    whole = client.bucket(bucket).object(name).get_reader().read_all()\n"
        "    tensors = safetensors.numpy.load(whole)\n"
        "    while tensors: see(*tensors.popitem())",
    ),
    "safetensors over pget.read, numpy": (
        "import pget, safetensors.numpy",
        "for url in urls:\n"
        "    tensors = safetensors.numpy.load(pget.read(url))\n"
        "    while tensors: see(*tensors.popitem())",
    ),
}
CODE = """
import resource, sys, time
urls = sys.argv[1:]
try:
{prepare}
except ImportError as error:
    print("missing", error.name)
    sys.exit()
seen = {{}}
def see(name, tensor):
    flat = tensor.reshape(-1)
    seen[name] = float(flat[0]), float(flat[-1])
def used():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime
before, begun = used(), time.monotonic()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{read}
cpu, seconds = used() - before, time.monotonic() - begun
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(cpu, seconds, (after - peak) / 1024, hash(tuple(sorted(seen.items()))), len(seen))
"""


def make(folder: pathlib.Path, gib: float, shards: int) -> None:
    """Writes shards of tensors that are sparse files but for their ends."""
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, int(gib * 2**30) // TENSOR // shards)
    names = []
    for shard in range(shards):
        tensors = {
            f"layer.{shard}.{number}": {
                "dtype": "F32",
                "shape": [TENSOR // 4096, 1024],
                "data_offsets": [number * TENSOR, (number + 1) * TENSOR],
            }
            for number in range(count)
        }
        header = json.dumps(tensors).encode()
        header += b" " * (-len(header) % 8)
        names.append(f"model-{shard}.safetensors")
        with open(folder / names[-1], "wb") as out:
            out.write(struct.pack("<Q", len(header)) + header)
            first = out.tell()
            out.truncate(first + count * TENSOR)
            for number in range(count):
                for place, value in ((0, shard), (TENSOR - 4, number + 0.5)):
                    out.seek(first + number * TENSOR + place)
                    out.write(struct.pack("<f", value))
    (folder / "shards.txt").write_text("".join(f"{name}\n" for name in names))


def measure(prefix: str, shards: list[str], rounds: int) -> None:
    """Reads in every way, those of a round after one another."""
    urls = [f"{prefix}/{shard}" for shard in shards]
    found: dict[str, list[tuple[float, float, float]]] = {}
    seen, missing = set(), {}
    for _ in range(rounds):
        for name, (prepare, read) in WAYS.items():
            other = "s3:" if "SDK" not in name else "ais:"
            if name in missing or not ("pget" in name or prefix.startswith(other)):
                continue
            code = CODE.format(prepare=f"    {prepare}", read=read)
            done = subprocess.run(
                [sys.executable, "-c", code, *urls],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
            if done.returncode:
                print(f"{name} failed: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
                missing[name] = "what it failed for"
                continue
            # Readers may print: the last line is ours.
            printed = done.stdout.splitlines()[-1].split()
            if printed[0] == "missing":
                missing[name] = printed[1]
                continue
            cpu, seconds, memory = map(float, printed[:3])
            seen.add(tuple(printed[3:]))
            found.setdefault(name, []).append((seconds, cpu, memory))
    assert len(seen) == 1, "not all have read the same numbers"
    print("| reader | seconds | CPU s | peak memory, MiB |\n|---|---|---|---|")
    for name, values in found.items():
        seconds, cpu, memory = (min(column) for column in zip(*values, strict=True))
        print(f"| {name} | {seconds:.1f} | {cpu:.1f} | {memory:,.0f} |")
    for name, package in missing.items():
        print(f"{name} was not measured: {package} is missing", file=sys.stderr)


def main() -> None:
    """Makes the model, or measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder", type=pathlib.Path)
    making.add_argument("--gib", type=float, default=4)
    making.add_argument("--shards", type=int, default=4)
    measuring = commands.add_parser("measure")
    measuring.add_argument("prefix")
    measuring.add_argument("shards", type=pathlib.Path)
    measuring.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.command == "make":
        make(options.folder, options.gib, options.shards)
    else:
        measure(options.prefix, options.shards.read_text().split(), options.rounds)


if __name__ == "__main__":
    main()
