"""The examples of docs/python.md with other packages; `test_examples.py` compares and runs them."""

import sys
from typing import Any

import pget


# Example: many objects
def fetch_all(urls: list[str], folder: str) -> int:
    pairs = [(url, f"{folder}/{url.rpartition('/')[2]}") for url in urls]
    return sum(done.delivered for done in pget.get_files(pairs, resume=True))


# Example: AIStore's SDK
def checkpoint(client: Any) -> bytes:
    import pget.aistore

    pget.aistore.install()  # for the whole process; or: with pget.aistore.installed(): …
    with client.bucket("bucket").object("good").get_reader(num_workers=8).read_all() as whole:
        return bytes(whole.buf)  # the SDK's ParallelBuffer


# Example: fsspec
def first_line(url: str) -> str:
    import fsspec

    with fsspec.open(url, "rt", client={"concurrency": 4}) as file:  # "ais://…", "pget::s3://…"
        return str(file.readline())


# Example: safetensors
def weights(shards: list[str]) -> dict[str, Any]:
    import pget.safetensors

    found = {}
    for name, tensor in pget.safetensors.stream(shards, framework="np", memory=2 << 30):
        found[name] = tensor  # received where it is; each is yielded when it is complete
    return found


# Example: one tensor
def rows(url: str) -> Any:
    import pget.safetensors

    with pget.safetensors.safe_open(url) as file:
        return file.get_slice("embedding")[:128]  # only these rows are read


# Example: WebDataset and smart_open
def register() -> None:
    import pget.smart_open
    import pget.webdataset

    pget.webdataset.install("ais", "s3")  # webdataset.WebDataset("ais://shards/{00..99}.tar")
    pget.smart_open.register()  # smart_open.open("ais://bucket/lines.gz")


if __name__ == "__main__":
    from pathlib import Path

    import numpy
    import safetensors.numpy
    from aistore.sdk import Client

    endpoint, digest, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    import hashlib

    url = "ais://bucket/good"
    assert fetch_all([url], str(folder)) == (folder / "good").stat().st_size
    assert hashlib.sha256((folder / "good").read_bytes()).hexdigest() == digest
    assert hashlib.sha256(checkpoint(Client(endpoint))).hexdigest() == digest
    (folder / "text").write_text("first\nsecond\n")
    assert first_line(f"pget::file://{folder}/text") == "first\n"
    array = numpy.arange(1000.0).reshape(250, 4)
    safetensors.numpy.save_file({"embedding": array}, folder / "shard")
    assert (weights([str(folder / "shard")])["embedding"] == array).all()
    assert (rows(str(folder / "shard")) == array[:128]).all()
    register()
