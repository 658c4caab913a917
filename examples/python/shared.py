"""Digests an object in shared memory as it arrives, with nothing but Python's own library.

    pget shm get s3://bucket/key --name dataset &
    python3 examples/python/shared.py dataset

The object's bytes are the shared memory of that name. Beside it, under the name with ".pget" behind, is a page that tells what has arrived (the layout is at the head of
crates/pget-shm/src/lib.rs): the state is the 32-bit number at 12, the length the 64-bit one at 16, and so many bytes as the one at 24 says are there.
"""

import hashlib
import struct
import sys
import time
from multiprocessing import resource_tracker, shared_memory

COMPLETE, FAILED = 2, 3


def attach(name):
    """Attaches to what another program has made, and owns."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    segment = shared_memory.SharedMemory(name=name)
    # Before 3.13, Python's tracker would remove the name when this process ends, for everyone.
    resource_tracker.unregister(segment._name, "shared_memory")
    return segment


def main(name):
    beside, data = attach(name + ".pget"), attach(name)
    digest, done = hashlib.sha256(), 0
    (length,) = struct.unpack_from("=Q", beside.buf, 16)
    while True:
        # The state first: what it says of the end, it says of bytes that were there before.
        (state,) = struct.unpack_from("=I", beside.buf, 12)
        (available,) = struct.unpack_from("=Q", beside.buf, 24)
        digest.update(data.buf[done:available])
        done = available
        if state == COMPLETE and done == length:
            break
        if state == FAILED:
            sys.exit(f"{name}: the download failed after {done} of {length} bytes")
        # A program that needs to know when the filling process was killed asks `pget shm ls`.
        time.sleep(0.01)
    print(f"{done} bytes, sha256 {digest.hexdigest()}")
    data.close()
    beside.close()


if len(sys.argv) != 2:
    sys.exit(f"usage: {sys.argv[0]} NAME")
main(sys.argv[1])
