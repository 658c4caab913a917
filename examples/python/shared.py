"""Digests an object in shared memory as it arrives. It needs only Python's standard library.

    pget shm get s3://bucket/key --name dataset &
    python3 examples/python/shared.py dataset

The shared memory of that name contains the object's bytes. A second segment, whose name ends in
".pget", is a page that describes the download. crates/pget-shm/src/lib.rs documents its layout:

- The 32-bit number at offset 12 is the state.
- The 64-bit number at offset 16 is the length of the object.
- The 64-bit number at offset 24 is the number of bytes that have arrived.
"""

import hashlib
import struct
import sys
import time
from multiprocessing import resource_tracker, shared_memory

COMPLETE, FAILED = 2, 3


def attach(name):
    """Attaches to a segment that another program has created and owns."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    segment = shared_memory.SharedMemory(name=name)
    # Before Python 3.13, the tracker would remove the name for all processes when this process
    # ends.
    resource_tracker.unregister(segment._name, "shared_memory")
    return segment


def main(name):
    beside, data = attach(name + ".pget"), attach(name)
    digest, done = hashlib.sha256(), 0
    (length,) = struct.unpack_from("=Q", beside.buf, 16)
    while True:
        # Read the state first. It describes bytes that had arrived before.
        (state,) = struct.unpack_from("=I", beside.buf, 12)
        (available,) = struct.unpack_from("=Q", beside.buf, 24)
        digest.update(data.buf[done:available])
        done = available
        if state == COMPLETE and done == length:
            break
        if state == FAILED:
            sys.exit(f"{name}: the download failed after {done} of {length} bytes")
        # A program can ask `pget shm ls` whether the filling process was killed.
        time.sleep(0.01)
    print(f"{done} bytes, sha256 {digest.hexdigest()}")
    data.close()
    beside.close()


if len(sys.argv) != 2:
    sys.exit(f"usage: {sys.argv[0]} NAME")
main(sys.argv[1])
