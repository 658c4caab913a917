"""Reads objects with the official AIStore client, and prints what it got.

usage: aistore_client.py ENDPOINT BUCKET MODE OBJECT...     MODE: get, or the number of workers

One line for each object: its name, bytes and SHA-256; or its name, "error" and the error's type.
"""

import hashlib
import sys

from aistore.sdk import Client


def read(bucket, name, mode):
    item = bucket.object(name)
    if mode == "get":
        return b"".join(item.get_reader())
    with item.get_reader(num_workers=int(mode)).read_all() as buffer:
        return buffer.tobytes()


def main(endpoint, bucket, mode, *names):
    bucket = Client(endpoint, timeout=20).bucket(bucket)
    for name in names:
        try:
            data = read(bucket, name, mode)
        except Exception as error:  # whatever it is, the caller compares its name
            print(name, "error", type(error).__name__)
            continue
        print(name, len(data), hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
