"""The examples of docs/python.md; `test_examples.py` holds the two against each other and runs
these."""

import asyncio
import hashlib
import sys

import pget
import pget.aio

url = sys.argv[1]


# Example: iterate
def digest(url: str) -> str:
    sha = hashlib.sha256()
    with pget.open(url) as reader:
        for lease in reader:  # the memory that the socket wrote, as a buffer
            sha.update(lease)
    return sha.hexdigest()


# Example: into memory
def load(url: str) -> bytearray:
    size = pget.stat(url).size or 0
    data = bytearray(size)
    pget.read_into(url, data)  # each range is received where it belongs
    return data


# Example: ranges
def header_and_end(url: str) -> tuple[bytes, bytes]:
    size = pget.stat(url).size or 0
    header, end = pget.read_ranges(url, [(0, 8), (size - 8, size)])
    return bytes(header), bytes(end)


# Example: a file
def fetch(url: str, path: str) -> int:
    client = pget.Client(concurrency=16, retry_timeout=600)
    return client.get_file(url, path, resume=True).delivered


# Example: asyncio
async def both(one: str, other: str) -> tuple[bytes, bytes]:
    first, second = await asyncio.gather(pget.aio.read(one), pget.aio.read(other))
    return first, second


if __name__ == "__main__":
    data = pget.read(url)
    assert digest(url) == hashlib.sha256(data).hexdigest()
    assert load(url) == data
    assert header_and_end(url) == (data[:8], data[-8:])
    assert fetch(url, sys.argv[2]) == len(data)
    assert asyncio.run(both(url, url)) == (data, data)
