"""Every way to read returns the object's bytes."""

import csv
import gzip
import io
import mmap
import os
import pickle
import shutil
import tarfile
import zipfile

import numpy
import pytest

import pget


def test_the_ways_to_read(servers, good, tmp_path):
    url = servers.nginx + "/" + str(len(good))
    info = pget.stat(url)
    assert info.size == len(good) and pickle.loads(pickle.dumps(info)) == info and hash(info)
    assert pget.read(url) == good
    assert pget.read(url, offset=100, length=5) == good[100:105]
    assert pget.read(url, offset=len(good)) == b""
    assert pget.read(url, pin=info, chunk_size=100_000) == good
    with pget.open(url, chunk_size=1 << 20) as reader:
        offset, parts = 0, []
        for lease in reader:
            assert lease.offset == offset and memoryview(lease).readonly
            offset += len(lease)
            parts.append(lease)
        assert b"".join(parts) == good
        assert reader.stats.delivered == len(good) and reader.info.size == len(good)
    stats = pget.get_file(url, tmp_path / "file")
    assert stats.delivered == len(good) and (tmp_path / "file").read_bytes() == good
    ranges = [(len(good) - 10, len(good)), (3, 20), (100_000, 4_000_000), (5, 5), (3, 20)]
    wanted = [good[start:end] for start, end in ranges]
    assert [bytes(view) for view in pget.read_ranges(url, ranges)] == wanted
    buffers = [bytearray(end - start + 3) for start, end in ranges]
    seen = dict(pget.iter_ranges(url, ranges, into=buffers))
    assert [bytes(seen[index]) for index in range(len(ranges))] == wanted
    with pget.get_shared(url) as shared, shared.wait(timeout=60) as view:
        assert view == good and shared.state == "complete"
        with pget.SharedBuffer.attach(shared.name) as other, other.wait() as same:
            assert same == good
        view.release()


def test_any_writable_buffer_is_filled_in_place(servers, good):
    url = servers.nginx + "/" + str(len(good))
    size = (len(good) + 7) // 8 * 8
    array = numpy.zeros(size // 4, dtype=numpy.float32)
    with mmap.mmap(-1, size) as mapped:
        for buffer in (bytearray(size), array, memoryview(bytearray(size)).cast("d"), mapped):
            assert pget.read_into(url, buffer) == len(good)
            assert memoryview(buffer).cast("B")[: len(good)] == good
    for wrong in (bytes(size), numpy.zeros((10, 10))[:, ::2]):
        with pytest.raises(BufferError):
            pget.read_into(url, wrong)
    with pytest.raises(TypeError):
        pget.read_into(url, "text")
    with pytest.raises(pget.BufferTooSmallError) as caught:
        pget.read_into(url, bytearray(10))
    assert caught.value.needed == len(good)


def test_a_lease_is_the_memory_that_the_socket_wrote(servers, good):
    with pget.open(servers.nginx + "/" + str(len(good))) as reader:
        lease = next(iter(reader))
        one, other = numpy.frombuffer(lease, numpy.uint8), numpy.frombuffer(lease, numpy.uint8)
        assert one.ctypes.data == other.ctypes.data and not one.flags.writeable
        with pytest.raises(BufferError):
            lease.release()
        assert one.tobytes() == good[: len(lease)]
        del one, other
        lease.release()
        with pytest.raises(ValueError):
            lease.bytes()
    view = memoryview(next(iter(pget.open(servers.nginx + "/" + str(len(good))))))
    assert view == good[: len(view)], "it outlives its reader"


def test_a_reader_is_a_binary_file(servers, good, tmp_path):
    url = servers.nginx + "/" + str(len(good))
    with pget.open(url, chunk_size=300_000) as reader:
        assert reader.readable() and reader.seekable() and not reader.writable()
        assert reader.read(10) == good[:10] and reader.tell() == 10
        assert reader.peek(1)[:1] == good[10:11] and reader.tell() == 10
        assert reader.seek(-5, os.SEEK_END) == len(good) - 5
        assert reader.read() == good[-5:] and reader.read() == b"" and reader.read1() == b""
        assert reader.seek(2_000_000) == 2_000_000 and reader.read(7) == good[2_000_000:2_000_007]
        assert reader.seek(-7, os.SEEK_CUR) == 2_000_000
        buffer = bytearray(1_500_000)
        assert reader.readinto(buffer) == len(buffer) and buffer == good[2_000_000:3_500_000]
        assert 0 < reader.readinto1(buffer)
        assert reader.seek(len(good) + 10) and reader.read() == b""
        reader.seek(0)
        copy = io.BytesIO()
        shutil.copyfileobj(reader, copy)
        assert copy.getvalue() == good
    with pytest.raises(ValueError):
        reader.read()


def made(folder):
    """Files as the standard library and numpy write them."""
    table = {"a": list(range(1000)), "b": "text" * 1000}
    (folder / "pickle").write_bytes(pickle.dumps(table))
    numpy.save(folder / "array.npy", numpy.arange(100_000))
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr("one", b"1" * 1000)
        archive.writestr("two", b"2" * 1000)
    with tarfile.open(folder / "tar.gz", "w:gz") as archive:
        archive.add(folder / "pickle", "pickle")
    with gzip.open(folder / "gzip", "wb") as out:
        out.write(b"line\n" * 1000)
    (folder / "csv").write_text("a,b\n1,2\n3,4\n")
    return table


def test_what_reads_files_reads_a_reader(tmp_path):
    table = made(tmp_path)

    def opened(name):
        return pget.open(tmp_path / name)

    assert pickle.load(opened("pickle")) == table
    assert (numpy.load(opened("array.npy")) == numpy.arange(100_000)).all()
    with zipfile.ZipFile(opened("zip")) as archive:
        assert archive.read("two") == b"2" * 1000 and archive.read("one") == b"1" * 1000
    with tarfile.open(fileobj=opened("tar.gz"), mode="r|*") as archive:
        assert [member.name for member in archive] == ["pickle"]
    assert gzip.open(opened("gzip")).read() == b"line\n" * 1000
    assert list(csv.reader(io.TextIOWrapper(opened("csv")))) == [["a", "b"], ["1", "2"], ["3", "4"]]
    assert opened("csv").readline() == b"a,b\n"
    assert io.BufferedReader(opened("csv")).read(3) == b"a,b"
    try:
        import torch
    except ImportError:
        print("torch is not installed: its load is not tested")
    else:
        torch.save({"t": torch.arange(1000)}, tmp_path / "torch")
        assert (torch.load(opened("torch"))["t"] == torch.arange(1000)).all()


def test_rings_and_progress(servers, good):
    import threading

    url = servers.nginx + "/" + str(len(good))
    told = []
    with pget.RingWriter(1 << 20) as writer, pget.RingReader(writer.name) as reader:
        thread = threading.Thread(target=lambda: pget.put_into_ring(url, writer))
        thread.start()
        _revision, size = reader.next_object(timeout=60)
        assert size == len(good)
        got = bytearray()
        while (view := reader.next_bytes(timeout=60)) is not None:
            got += view
        assert got == good
        thread.join()
    pget.read(url, progress=told.append)
    assert told[-1].delivered == told[-1].total == len(good)

    def refuses(progress):
        raise LookupError("enough")

    with pytest.raises(LookupError):
        pget.read(url, progress=refuses)


def test_settings_are_checked_kept_and_hidden(servers, good):
    secret = pget.Client(
        headers={"Authorization": "secret"}, properties={"ais.authn_token": "secret"}
    )
    assert "secret" not in repr(secret)
    client = pget.Client(concurrency=4, headers=[("Authorization", "secret")])
    again = pickle.loads(pickle.dumps(client))
    assert again.read(servers.nginx + "/" + str(len(good)), headers=None) == good
    for wrong, error in (
        ({"concurrency": 0}, ValueError),
        ({"concurrency": "many"}, TypeError),
        ({"stall_timeout": -1}, ValueError),
        ({"verify": "maybe"}, ValueError),
        ({"progress": 3}, TypeError),
        ({"headers": 3}, TypeError),
        ({"nonsense": 3}, TypeError),
        ({"pin": 3}, TypeError),
        ({"cancel": 3}, TypeError),
    ):
        with pytest.raises(error):
            pget.Client(**wrong)
