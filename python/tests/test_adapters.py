"""Small adapters: WebDataset, smart_open, universal_pathlib, pyarrow, and the bars for progress."""

import gzip
import io
import tarfile

import pytest
from small_aistore import SmallAistore

import pget
import pget.progress
import pget.smart_open
import pget.webdataset


@pytest.fixture
def store(monkeypatch):
    with SmallAistore() as store:
        monkeypatch.setenv("AIS_ENDPOINT", store.endpoint)
        yield store


def shard(number):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for sample in range(20):
            data = f"{number}.{sample}".encode() * 1000
            member = tarfile.TarInfo(f"{number:02}{sample:02}.txt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_webdataset(store):
    webdataset = pytest.importorskip("webdataset")
    for number in range(3):
        store.put("shards", f"train-{number:02}.tar", shard(number))
    pget.webdataset.install("ais", chunk_size=100_000)
    dataset = webdataset.WebDataset("ais://shards/train-{00..02}.tar", shardshuffle=False)
    samples = [(sample["__key__"], sample["txt"]) for sample in dataset]
    assert len(samples) == 60
    assert all(data == f"{int(key[:2])}.{int(key[2:])}".encode() * 1000 for key, data in samples)
    with pytest.raises(ValueError, match="rb"):
        webdataset.gopen("ais://shards/new.tar", "wb")


def test_smart_open(store):
    smart_open = pytest.importorskip("smart_open")
    lines = "".join(f"line {number}\n" for number in range(10_000))
    store.put("bucket", "lines", lines.encode())
    store.put("bucket", "lines.gz", gzip.compress(lines.encode()))
    pget.smart_open.register()
    pget.smart_open.register()
    with smart_open.open("ais://bucket/lines", transport_params={"concurrency": 2}) as file:
        assert file.read() == lines
    with smart_open.open("ais://bucket/lines.gz") as file:
        assert list(file) == lines.splitlines(keepends=True)
    with smart_open.open("ais://bucket/lines", "rb") as file:
        file.seek(-5, 2)
        assert file.read() == lines.encode()[-5:]
    with pytest.raises(NotImplementedError):
        smart_open.open("ais://bucket/new", "wb")


@pytest.mark.filterwarnings("ignore:UPath 'ais'")
def test_universal_pathlib(store):
    upath = pytest.importorskip("upath")
    store.put("bucket", "folder/one", b"one")
    store.put("bucket", "folder/below/two", b"two")
    path = upath.UPath("ais://bucket/folder")
    assert sorted(child.name for child in path.iterdir()) == ["below", "one"]
    assert (path / "one").read_bytes() == b"one" and (path / "one").stat().st_size == 3
    assert [child.name for child in path.rglob("two")] == ["two"] and not (path / "none").exists()
    with (path / "below/two").open("rt") as file:
        assert file.read() == "two"


def test_pyarrow(store):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: not tested")
    import fsspec
    import pyarrow
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    table = pyarrow.table({"a": range(100_000), "b": [f"text {n}" for n in range(100_000)]})
    out = io.BytesIO()
    parquet.write_table(table, out, row_group_size=10_000)
    store.put("bucket", "table/part.parquet", out.getvalue())
    filesystem = PyFileSystem(FSSpecHandler(fsspec.filesystem("ais")))
    assert parquet.read_table("bucket/table/part.parquet", filesystem=filesystem) == table
    read = parquet.read_table("bucket/table", filesystem=filesystem, columns=["a"])
    assert read.column("a") == table.column("a")


def test_pandas(store):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: not tested")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: not tested")
    frame = pandas.DataFrame({"a": range(1000), "b": [f"text {n}" for n in range(1000)]})
    store.put("bucket", "frame.parquet", frame.to_parquet())
    store.put("bucket", "frame.csv", frame.to_csv(index=False).encode())
    assert pandas.read_parquet("ais://bucket/frame.parquet").equals(frame)
    assert pandas.read_csv("ais://bucket/frame.csv").equals(frame)


def test_zarr(store, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: not tested")
    import numpy

    made = zarr.create_array(tmp_path / "z", shape=(500, 500), chunks=(100, 100), dtype="i4")
    made[:] = numpy.arange(250_000).reshape(500, 500)
    for path in (tmp_path / "z").rglob("*"):
        if path.is_file():
            store.put("bucket", f"z/{path.relative_to(tmp_path / 'z')}", path.read_bytes())
    opened = zarr.open_array("ais://bucket/z", mode="r")
    assert (opened[:] == made[:]).all() and (opened[120:130, 7] == made[120:130, 7]).all()


def test_a_tqdm_bar(servers, good, tmp_path):
    pytest.importorskip("tqdm")
    drawn = io.StringIO()
    url = servers.nginx + "/" + str(len(good))
    pget.get_file(url, tmp_path / "file", progress=pget.progress.tqdm(file=drawn, ascii=True))
    last = drawn.getvalue().rstrip().rpartition("\r")[2]
    assert "100%" in last and "5.00M/5.00M" in last


def test_a_rich_task(servers, good):
    progress = pytest.importorskip("rich.progress")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    display = progress.Progress(console=console)
    url = servers.nginx + "/" + str(len(good))
    pget.read(url, progress=pget.progress.rich(display, "weights"))
    (task,) = display.tasks
    assert (task.description, task.completed, task.total) == ("weights", len(good), len(good))
    assert task.finished


def test_a_bar_for_many_objects(servers, good, tmp_path):
    pytest.importorskip("tqdm")
    drawn = io.StringIO()
    url = servers.nginx + "/" + str(len(good))
    bar = pget.progress.tqdm(file=drawn, ascii=True)
    pget.get_files([(url, tmp_path / str(number)) for number in range(4)], files_progress=bar)
    assert "100%" in drawn.getvalue()
