"""Ordinary input that is easy to forget: odd names, folders, wrong logins, pickles."""

import asyncio
import os
import pickle

import fsspec
import pytest
from conftest import pattern
from small_aistore import SmallAistore

import pget
from pget.fsspec import AISFileSystem

DATA = pattern(300_001, 5)
NAMES = ("a b", "a%20b", "100%", "ü/ñ", "q?x=1", "h#f", "plus+and&", "a//b", "日本", "*star", "[x]")
IMPATIENT = {"retries": 0, "retry_timeout": 1}


@pytest.fixture
def store():
    with SmallAistore() as store:
        store.put("bucket", "data", DATA)
        store.put("bucket", "one", b"1")
        store.put("bucket", "empty", b"")
        yield store


@pytest.fixture
def fs(store):
    return AISFileSystem(endpoint=store.endpoint, client=IMPATIENT, skip_instance_cache=True)


def test_names_are_taken_as_they_are(store, fs, tmp_path):
    for name in NAMES:
        store.put("bucket", name, name.encode())
        assert fs.cat_file(f"ais://bucket/{name}") == name.encode()
        with fs.open(f"bucket/{name}") as file:
            assert file.read() == name.encode()
        assert fs.info(f"bucket/{name}")["size"] == len(name.encode())
        (tmp_path / name.replace("/", "_")).write_bytes(name.encode())
    local = fsspec.filesystem("pget", target_protocol="file")
    for name in NAMES:
        path = os.fspath(tmp_path / name.replace("/", "_"))
        assert local.cat_file(path) == local.open(path).read() == name.encode()
    assert set(fs.find("bucket")) == {f"bucket/{name}" for name in (*NAMES, "data", "one", "empty")}


def test_bounds_beyond_the_ends(fs):
    for name, data in (("empty", b""), ("one", b"1"), ("data", DATA)):
        path = f"bucket/{name}"
        for start, end in ((-1, None), (-5, -1), (5, 9), (0, 0), (None, -9), (10**12, None)):
            assert fs.cat_file(path, start, end) == data[slice(start, end)], (name, start, end)
        assert fs.cat_ranges([path], 0, 10**12) == [data]
        with fs.open(path) as file:
            assert file.seek(10**9) == 10**9 and file.read() == b""
            assert file.readinto(bytearray(4)) == 0
            with pytest.raises(ValueError):
                file.seek(-1)


def test_a_file_is_pickled_with_its_place_and_its_revision(store, fs, tmp_path):
    with fs.open("bucket/data", block_size=70_000) as file:
        file.seek(1000)
        again = pickle.loads(pickle.dumps(file))
        assert (again.tell(), again.blocksize) == (1000, 70_000)
        assert again.read(10) == file.read(10) == DATA[1000:1010]
        kept = pickle.dumps(file)
    store.put("bucket", "data", DATA[::-1])
    with pytest.raises(pget.ObjectChangedError):
        pickle.loads(kept).read()
    (tmp_path / "local").write_bytes(DATA)
    with fsspec.filesystem("pget", target_protocol="file").open(tmp_path / "local") as file:
        assert pickle.loads(pickle.dumps(file)).read() == DATA


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_caches_of_fsspec_read_through_it(store, cache, tmp_path):
    options = {"ais": {"endpoint": store.endpoint}, cache: {"cache_storage": str(tmp_path)}}
    for _ in range(2):
        with fsspec.open(f"{cache}::ais://bucket/data", **options) as file:
            assert file.read(10) == DATA[:10]
            assert file.read() == DATA[10:]


@pytest.mark.parametrize(
    "name", ["none", "bytes", "all", "mmap", "first", "background", "blockcache"]
)
def test_every_kind_of_cache(fs, name):
    with fs.open("bucket/data", cache_type=name, block_size=50_000) as file:
        assert file.read(1000) == DATA[:1000]
        file.seek(200_000)
        assert file.read(70_000) == DATA[200_000:270_000]


def test_folders_are_not_files(store, fs, tmp_path):
    store.put("bucket", "folder/below/x", b"x")
    assert fs.isdir("bucket/folder") and not fs.isfile("bucket/folder")
    assert fs.info("bucket/folder/below")["type"] == "directory"
    (tmp_path / "folder").mkdir()
    local = fsspec.filesystem("pget", target_protocol="file")
    for files, path in ((fs, "bucket"), (local, os.fspath(tmp_path / "folder"))):
        for call in (files.open, files.cat_file):
            with pytest.raises(IsADirectoryError):
                call(path)
    fs.get("bucket/folder", os.fspath(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/below/x").read_bytes() == b"x"


def test_a_folders_marker_is_not_a_file_in_it(store, fs, tmp_path):
    """S3's consoles make an empty object with a slash at its end."""
    store.put("bucket", "marked/", b"")
    store.put("bucket", "marked/x", b"x")
    store.put("bucket", "alone/", b"")
    assert fs.ls("bucket/marked", detail=False) == ["bucket/marked/x"]
    assert fs.ls("bucket/alone") == [] and fs.isdir("bucket/alone")
    assert fs.find("bucket/marked") == ["bucket/marked/x"]
    fs.get("bucket", os.fspath(tmp_path / "all"), recursive=True)
    assert (tmp_path / "all/marked/x").read_bytes() == b"x" and (tmp_path / "all/alone").is_dir()


def test_a_tree_is_found_by_one_listing(store, fs):
    names = [f"t/{number}/{deep}x" for number in range(5) for deep in ("", "a/", "a/b/")]
    for name in names:
        store.put("bucket", name, b"1")
    store.requests.clear()
    assert fs.find("bucket/t") == sorted(f"bucket/{name}" for name in names)
    listings = [request for request in store.requests if "/buckets/" in request["path"]]
    # The stand-in has pages of three.
    assert len(listings) == len(names) // 3
    assert fs.find("bucket/t", maxdepth=2) == [f"bucket/t/{number}/x" for number in range(5)]
    folders = fs.find("bucket/t", maxdepth=1, withdirs=True, detail=True)
    assert list(folders) == ["bucket/t", *(f"bucket/t/{number}" for number in range(5))]
    assert {entry["type"] for entry in folders.values()} == {"directory"}
    assert fs.find("bucket/t/0/x") == ["bucket/t/0/x"] and fs.find("bucket/none") == []
    assert fs.find("none") == fs.find("none", withdirs=True) == []
    assert len(fs.glob("bucket/t/*/a/*")) == 10 and len(fs.glob("bucket/t/**/b/x")) == 5
    with pytest.raises(ValueError):
        fs.find("bucket", maxdepth=0)


def test_a_bucket_without_objects_is_there(store, fs):
    store.empty_buckets.add("bare")
    assert fs.exists("bare") and fs.isdir("bare") and fs.ls("bare") == [] and fs.find("bare") == []
    assert not fs.exists("none") and not fs.isdir("none") and not fs.exists("bare/x")
    for call in (fs.ls, fs.info):
        with pytest.raises(FileNotFoundError):
            call("none")


def test_a_refused_login_and_an_outage_are_not_absence(store, tmp_path):
    """A program that begins again without a checkpoint must not do so because a server is away."""
    store.token = "right"
    refused = AISFileSystem(
        endpoint=store.endpoint, token="hidden", client=IMPATIENT, skip_instance_cache=True
    )
    away = AISFileSystem(endpoint="http://127.0.0.1:9", client=IMPATIENT, skip_instance_cache=True)
    for fs, kind in ((refused, pget.AccessError), (away, pget.UnavailableError)):
        for call in (fs.exists, fs.isfile, fs.isdir, fs.info, fs.cat_file, fs.open):
            with pytest.raises(kind) as caught:
                call("bucket/data")
            assert "hidden" not in str(caught.value)
    for call in (refused.ls, refused.find, refused.exists):
        with pytest.raises(pget.AccessError) as caught:
            call("bucket")
        assert "hidden" not in str(caught.value)
    assert isinstance(caught.value, PermissionError)


def test_two_objects_do_not_get_one_file(store, fs, tmp_path):
    one, other = (f"ais://bucket/{name}" for name in ("one", "data"))
    pairs = [(one, tmp_path / "x"), (other, f"{tmp_path}/./below/../x")]
    seen = len(store.requests)
    with pytest.raises(ValueError, match="two objects would have the file"):
        pget.get_files(pairs, properties={"ais.endpoint": store.endpoint})
    with pytest.raises(ValueError, match="two objects would have the file"):
        fs.get(["bucket/one", "bucket/data"], [os.fspath(tmp_path / "x")] * 2)
    assert not (tmp_path / "x").exists()
    assert not [request for request in store.requests[seen:] if request["method"] == "GET"]


def test_targets_that_cannot_be_written(fs, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for target in ("", f"{tmp_path}/absent/", os.fspath(tmp_path), f"{tmp_path}/file/below"):
        with pytest.raises(OSError):
            fs.get_file("bucket/one", target)
    assert not os.path.exists(".pget-part")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        print("this user may write everywhere: a closed folder is not tested")
    else:
        with pytest.raises(pget.DestinationError) as caught:
            fs.get_file("bucket/one", os.fspath(closed / "x"))
        assert isinstance(caught.value, OSError) and not os.listdir(closed)


def test_one_file_system_in_several_event_loops(fs):
    async def read():
        return fs.cat_file("bucket/one"), await asyncio.to_thread(fs.cat_file, "bucket/one")

    for _ in range(2):
        assert asyncio.run(read()) == (b"1", b"1")


def test_a_file_from_before_a_fork_is_read_in_both(fs):
    with fs.open("bucket/data", block_size=50_000) as file:
        assert file.read(60_000) == DATA[:60_000]
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = file.seek(100_000) == 100_000 and file.read() == DATA[100_000:]
            finally:
                os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert file.read() == DATA[60_000:]
    file.close()
    file.close()
