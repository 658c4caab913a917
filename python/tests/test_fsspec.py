"""File systems of fsspec that read through pget."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import fsspec
import pytest
from conftest import pattern
from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from small_aistore import SmallAistore

import pget
from pget._targets import source_of
from pget.fsspec import AISFileSystem, PgetFileSystem

SIZE = 20_000_003
DATA = pattern(SIZE, 3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/small").write_bytes(b"0123456789")
    return tmp_path


@pytest.fixture
def store():
    with SmallAistore() as store:
        store.put("bucket", "data", DATA)
        store.put("bucket", "empty", b"")
        store.put("bucket", "below/small", b"0123456789")
        yield store


@pytest.fixture(params=["file", "ais"])
def place(request, folder, store):
    """A file system, and a path in it that has the files."""
    if request.param == "file":
        return fsspec.filesystem("pget", target_protocol="file"), os.fspath(folder)
    return fsspec.filesystem("ais", endpoint=store.endpoint), "bucket"


def test_the_entry_points_are_pget_and_ais_only(run):
    shown = run("import fsspec; print([fsspec.get_filesystem_class(p) for p in ('pget', 'ais')])")
    assert "PgetFileSystem" in shown and "AISFileSystem" in shown
    from importlib.metadata import distribution

    names = {
        point.name
        for point in distribution("libpget").entry_points
        if point.group == "fsspec.specs"
    }
    assert names == {"pget", "ais"}


def test_a_file_is_a_seekable_binary_file(place):
    fs, root = place
    with fs.open(f"{root}/data") as file:
        assert file.size == SIZE and file.readable() and file.seekable() and not file.writable()
        assert file.read(10) == DATA[:10] and file.tell() == 10
        assert file.seek(-5, 2) == SIZE - 5 and file.read() == DATA[-5:] and file.read(5) == b""
        assert file.seek(5_000_000) and file.read(12_000_000) == DATA[5_000_000:17_000_000]
        buffer = bytearray(9_000_000)
        file.seek(1)
        assert file.readinto(buffer) == len(buffer) and buffer == DATA[1:9_000_001]
        assert file.readinto(memoryview(buffer)[:100]) == 100
        assert bytes(buffer[:100]) == DATA[9_000_001:9_000_101]
        file.seek(SIZE - 3)
        assert file.readinto(buffer) == 3 and file.readinto(buffer) == 0
        file.seek(SIZE + 100)
        assert file.read() == b""
    with pytest.raises(ValueError):
        file.read()
    with fs.open(f"{root}/data") as file:
        assert file.read() == DATA
    with fs.open(f"{root}/empty") as file:
        assert file.read() == file.read(5) == b""


def test_front_to_back_in_small_steps_is_read_ahead(place):
    fs, root = place
    with fs.open(f"{root}/data", block_size=1 << 20) as file:
        parts = []
        while part := file.read(70_001):
            parts.append(part)
        assert b"".join(parts) == DATA
        assert file._stream is not None, "a stream serves what is read from front to back"
    with fs.open(f"{root}/data", block_size=1 << 20) as file:
        for start in range(SIZE - 100, 0, -1_999_999):
            file.seek(start)
            assert file.read(100) == DATA[start : start + 100]
        assert file._stream is None


def test_parts_of_files(place):
    fs, root = place
    path = f"{root}/data"
    assert fs.cat_file(path) == fs.cat(path) == DATA
    for bounds in (
        (5, 10),
        (-5, None),
        (0, -5),
        (-10, -5),
        (None, 7),
        (SIZE, None),
        (SIZE + 5, SIZE + 9),
        (10, 5),
    ):
        assert fs.cat_file(path, *bounds) == DATA[slice(*bounds)], bounds
    starts, ends = [0, -10, 5_000_000, SIZE + 5, 7], [10, None, 9_000_000, SIZE + 10, 3]
    wanted = [DATA[start:end] for start, end in zip(starts, ends, strict=True)]
    assert fs.cat_ranges([path] * 5, starts, ends) == wanted
    assert fs.cat_ranges([path, f"{root}/below/small"], 2, 5) == [DATA[2:5], b"234"]
    found = fs.cat_ranges([f"{root}/none", path], 0, 3)
    assert isinstance(found[0], FileNotFoundError) and found[1] == DATA[:3]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([f"{root}/none", path], 0, 3, on_error="raise")
    with pytest.raises(ValueError):
        fs.cat_ranges([path], [1, 2], [3])
    assert fs.cat([path, f"{root}/below/small"]) == {
        fs._strip_protocol(path): DATA,
        fs._strip_protocol(f"{root}/below/small"): b"0123456789",
    }
    below = {fs._strip_protocol(f"{root}/below/small"): b"0123456789"}
    assert fs.cat(f"{root}/below", recursive=True) == below
    assert len(fs.cat(root, recursive=True)) == 3, "folders are left out"
    assert list(fs.cat([path, f"{root}/none"], on_error="omit")) == [fs._strip_protocol(path)]
    failed = fs.cat([path, f"{root}/none"], on_error="return")
    assert isinstance(failed[fs._strip_protocol(f"{root}/none")], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat([path, f"{root}/none"])
    assert fs.read_text(f"{root}/below/small") == "0123456789"
    assert fs.head(path, 5) == DATA[:5] and fs.tail(path, 5) == DATA[-5:]


def test_names(place):
    fs, root = place
    assert sorted(os.path.basename(name) for name in fs.ls(root, detail=False)) == [
        "below",
        "data",
        "empty",
    ]
    assert fs.info(f"{root}/data")["size"] == SIZE and fs.isdir(f"{root}/below")
    assert fs.exists(f"{root}/data") and not fs.exists(f"{root}/dat") and fs.isfile(f"{root}/data")
    assert [os.path.basename(name) for name in fs.glob(f"{root}/*/sm*")] == ["small"]
    assert len(fs.find(root)) == 3 and fs.du(root) == SIZE + 10
    for missing in (f"{root}/none", f"{root}/dat"):
        for call in (fs.info, fs.ls, fs.open, fs.cat_file):
            with pytest.raises(FileNotFoundError):
                call(missing)


class Bar(Callback):
    """Notes what it is called with."""


def test_files_are_fetched_whole_or_not_at_all(place, tmp_path):
    fs, root = place
    bar = Bar()
    fs.get_file(f"{root}/data", tmp_path / "new/folder/one", callback=bar)
    assert (tmp_path / "new/folder/one").read_bytes() == DATA
    assert (bar.size, bar.value) == (SIZE, SIZE)
    fs.get(f"{root}/", f"{tmp_path}/all", recursive=True)
    assert (tmp_path / "all/below/small").read_bytes() == b"0123456789"
    assert (tmp_path / "all/data").read_bytes() == DATA
    with open(tmp_path / "opened", "wb") as out:
        fs.get_file(f"{root}/data", out)
    assert (tmp_path / "opened").read_bytes() == DATA
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{root}/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    fs.get_file(f"{root}/data", tmp_path / "again", resume=True)
    assert (tmp_path / "again").read_bytes() == DATA


def test_many_files_are_read_at_the_same_time(store, tmp_path):
    """Four requests must be there before one is answered."""
    for number in range(12):
        store.put("bucket", f"many/{number}", pattern(1000 + number, number))
    names = [f"bucket/many/{number}" for number in range(12)]
    wanted = [pattern(1000 + number, number) for number in range(12)]
    fs = AISFileSystem(endpoint=store.endpoint, client={"retries": 0}, skip_instance_cache=True)

    def meet():
        four = threading.Barrier(4)

        def before_get(request):
            # The folder is asked for, too.
            if not request["path"].endswith("/many"):
                four.wait(30)

        store.before_get = before_get

    meet()
    assert fs.cat(names) == dict(zip(names, wanted, strict=True))
    meet()
    whole = Bar()
    fs.get("bucket/many", f"{tmp_path}/tree", recursive=True, callback=whole)
    assert (whole.size, whole.value) == (13, 13), "the folder is one of them"
    meet()
    fs.get(names, [f"{tmp_path}/list/{number}" for number in range(12)])
    store.before_get = lambda request: None
    for number, data in enumerate(wanted):
        assert (tmp_path / f"tree/{number}").read_bytes() == data
        assert (tmp_path / f"list/{number}").read_bytes() == data
    with open(tmp_path / "opened", "wb") as out:
        fs.get(names[:1], [out])
    assert (tmp_path / "opened").read_bytes() == wanted[0]


def test_a_failure_of_one_file_does_not_end_the_others(place, tmp_path):
    fs, root = place
    names = [f"{root}/data", f"{root}/none", f"{root}/below/small"]
    with pytest.raises(FileNotFoundError):
        fs.get(names, [os.fspath(tmp_path / f"to/{number}") for number in range(3)])
    assert (tmp_path / "to/0").read_bytes() == DATA and not (tmp_path / "to/1").exists()
    assert (tmp_path / "to/2").read_bytes() == b"0123456789"


class Bars(Callback):
    """Keeps what it was called with for each file."""

    def __init__(self):
        super().__init__()
        self.children = {}

    def branched(self, path_1, path_2, **kwargs):
        child = self.children[os.path.basename(path_1)] = Callback()
        return child


def test_files_that_are_there_are_not_fetched_again(store, tmp_path):
    fs = AISFileSystem(endpoint=store.endpoint, skip_instance_cache=True)
    names, to = ["bucket/data", "bucket/below/small"], [f"{tmp_path}/data", f"{tmp_path}/small"]
    for resume in (False, True):
        seen, bars = len(store.requests), Bars()
        fs.get(names, to, resume=resume, callback=bars)
        got = [request for request in store.requests[seen:] if request["method"] == "GET"]
        assert bool(got) is not resume, got
        assert (tmp_path / "data").read_bytes() == DATA and bars.value == 2
        if not resume:
            assert {name: bar.value for name, bar in bars.children.items()} == {
                "data": SIZE,
                "small": 10,
            }


def read_in_child(arguments):
    fs, path = arguments
    return fs.cat_file(path) == DATA and fs.open(path).read(10) == DATA[:10]


def test_forked_workers_and_pickles(place):
    fs, root = place
    assert fs.cat_file(f"{root}/data") == DATA
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file(f"{root}/data") == DATA
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(read_in_child, [(fs, f"{root}/data")] * 4))


def test_a_file_that_is_replaced_is_not_mixed(store):
    fs = AISFileSystem(endpoint=store.endpoint, client={"retries": 1}, skip_instance_cache=True)
    with fs.open("bucket/data", block_size=100_000) as file:
        assert file.read(10) == DATA[:10]
        store.put("bucket", "data", DATA[::-1])
        with pytest.raises(pget.ObjectChangedError):
            file.read()
        file.seek(5_000_000)
        with pytest.raises(pget.ObjectChangedError):
            file.read(10)


def test_chained_addresses(folder):
    path = folder / "data"
    with fsspec.open(f"pget::file://{path}", "rb") as file:
        assert type(file).__name__ == "PgetFile" and file.read() == DATA
    with fsspec.open(f"pget::file://{folder}/new", "wb") as file:
        file.write(b"new")
    with fsspec.open(f"pget::file://{folder}/new", "rt") as file:
        assert file.read() == "new"
    fs, stripped = fsspec.url_to_fs(f"pget::file://{path}")
    assert (
        isinstance(fs, PgetFileSystem) and fs.unstrip_protocol(stripped) == f"pget::file://{path}"
    )
    memory = MemoryFileSystem()
    memory.pipe("/there", b"in memory")
    with fsspec.open("pget::memory://there") as file:
        assert file.read() == b"in memory"
    with pytest.raises(ValueError, match="pget wraps another file system"):
        PgetFileSystem()


def inner(protocol, **options):
    """A file system of that protocol, as far as options go."""
    made = type("Inner", (AbstractFileSystem,), {"protocol": protocol, "cachable": False})
    return made(**options)


def test_what_a_file_system_knows_goes_with_the_read():
    source = source_of(
        inner(
            ("s3", "s3a"),
            key="k",
            secret="s",
            token="t",
            endpoint_url="http://h:1",
            client_kwargs={"region_name": "eu-west-1"},
            default_block_size=5,
        )
    )
    assert source.address("bucket/a b/ü%?#") == "s3://bucket/a%20b/%C3%BC%25%3F%23"
    assert source.properties == {
        "aws.access_key_id": "k",
        "aws.secret_access_key": "s",
        "aws.session_token": "t",
        "aws.endpoint_url": "http://h:1",
        "aws.region": "eu-west-1",
    }
    assert source_of(inner("s3", anon=True)).properties == {"aws.skip_signature": "true"}
    assert source_of(inner(("gs", "gcs"), token="anon")).properties == {
        "google.skip_signature": "true"
    }
    azure = source_of(inner(("abfs", "az"), account_name="a", sas_token="s"))
    assert azure.address("box/key") == "az://box/key"
    assert azure.properties == {"azure.storage_account": "a", "azure.storage_sas_token": "s"}
    web = source_of(inner(("http", "https"), client_kwargs={"headers": {"A": "b"}}))
    assert web.headers == {"A": "b"} and web.address("https://h/x") == "https://h/x"
    assert isinstance(source_of(LocalFileSystem()).address("/x"), str)
    assert source_of(MemoryFileSystem()) is None
    for odd in (
        inner("s3", session=object()),
        inner("s3", version_aware=True),
        inner("s3", client_kwargs={"verify": False}),
        inner("s3", s3_additional_kwargs={"SSECustomerKey": "x"}),
        inner("gs", token="/some/key.json"),
        inner("https", client_kwargs={"auth": object()}),
        inner("az", credential=object()),
    ):
        assert isinstance(source_of(odd), str)


def test_what_cannot_be_expressed_is_read_by_the_file_system_itself(folder):
    class Odd(LocalFileSystem):
        protocol = ("s3", "s3a")
        cachable = False

    with pytest.warns(RuntimeWarning, match="session"):
        fs = PgetFileSystem(Odd(session="s"), skip_instance_cache=True)
    assert fs.cat_file(os.fspath(folder / "below/small")) == b"0123456789"


def test_namespaces_and_buckets(store):
    fs = AISFileSystem(endpoint=store.endpoint)
    assert fs.ls("", detail=False) == ["bucket"] and fs.isdir("ais://bucket")
    assert fs._url("@alias#name/bucket/object") == "ais://@alias#name/bucket/object"
    bucket, root, name = fs._bucket(fs._cluster(), "@alias#name/bucket/a/b")
    assert (root, name) == ("@alias#name/bucket", "a/b")
    assert (bucket.namespace.uuid, bucket.namespace.name) == ("alias", "name")
    with pytest.raises(NotImplementedError):
        fs.open("bucket/new", "wb")


def test_importing_fsspec_file_systems_starts_no_thread():
    code = "import pget.fsspec, os, json; print(json.dumps(len(os.listdir('/proc/self/task'))))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60
    )
    assert json.loads(shown.stdout) == 1
