"""Parquet by pandas and pyarrow, and arrays by zarr, through the file systems of ``pget.fsspec``.

These packages are large, and not among those that CI installs. Each test runs where its own are.
"""

import os

import fsspec
import numpy
import pytest
from small_aistore import SmallAistore

import pget.fsspec

ROWS = 200_000


@pytest.fixture(params=["file", "ais", "s3"])
def place(request, tmp_path, servers):
    """A function that puts a file, and returns its address and the options of its file system."""
    if request.param == "s3":
        pytest.importorskip("s3fs", reason="s3fs is not installed: S3 is not tested")
        if servers.s3 is None:
            pytest.skip("versitygw is not installed: S3 is not tested")
        endpoint, key, secret, region, bucket = servers.s3
        login = {"key": key, "secret": secret, "endpoint_url": endpoint}
        options = {**login, "client_kwargs": {"region_name": region}}
        files = fsspec.filesystem("s3", **options)

        def put(path):
            name = f"{bucket}/{tmp_path.name}/{path.name}"
            files.put(os.fspath(path), name, recursive=True)
            return f"pget::s3://{name}", {"s3": options}

        yield put
    elif request.param == "ais":
        with SmallAistore() as store:

            def put(path):
                inner = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
                for one in inner:
                    store.put("bucket", os.fspath(one.relative_to(tmp_path)), one.read_bytes())
                return f"ais://bucket/{path.name}", {"endpoint": store.endpoint}

            yield put
    else:
        yield lambda path: (f"pget::file://{path}", {})


def test_pandas_reads_parquet(place, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    numbers = numpy.arange(ROWS)
    table = pandas.DataFrame({"a": numbers, "b": numbers / 7, "c": [str(n % 97) for n in numbers]})
    table.to_parquet(tmp_path / "table.parquet", row_group_size=10_000)
    address, options = place(tmp_path / "table.parquet")
    assert pandas.read_parquet(address, storage_options=options).equals(table)
    part = pandas.read_parquet(
        address, columns=["b"], filters=[("a", "<", 1000)], storage_options=options
    )
    assert part["b"].tolist() == table["b"][:1000].tolist()


def test_pyarrow_reads_parquet(place, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import dataset, fs, parquet

    table = pyarrow.table({"a": numpy.arange(ROWS), "b": numpy.arange(ROWS) % 11})
    parquet.write_table(table, tmp_path / "table.parquet", row_group_size=10_000)
    address, options = place(tmp_path / "table.parquet")
    files, path = fsspec.url_to_fs(address, **options)
    assert isinstance(files, pget.fsspec.Reads)
    wrapped = fs.PyFileSystem(fs.FSSpecHandler(files))
    assert parquet.read_table(path, filesystem=wrapped).equals(table)
    found = dataset.dataset(path, filesystem=wrapped, format="parquet")
    assert found.count_rows(filter=dataset.field("a") < 500) == 500


def test_zarr_reads_arrays(place, tmp_path):
    zarr = pytest.importorskip("zarr")
    from zarr.storage import FsspecStore

    wanted = numpy.arange(300 * 200, dtype="f8").reshape(300, 200)
    made = zarr.create_array(tmp_path / "z.zarr", shape=wanted.shape, chunks=(50, 40), dtype="f8")
    made[:] = wanted
    address, options = place(tmp_path / "z.zarr")
    store = FsspecStore.from_url(address, storage_options=options, read_only=True)
    found = zarr.open_array(store, mode="r")
    assert (found[:] == wanted).all() and (found[120:260, 7] == wanted[120:260, 7]).all()
