"""Tensors out of safetensors files: the same as safetensors reads, and no damaged header is
believed."""

import json
import threading
import time

import ml_dtypes
import numpy
import pytest
import safetensors.numpy
from conftest import pattern
from small_aistore import SmallAistore

import pget
import pget.safetensors
from pget._safetensors_header import HeaderError, parse
from pget.safetensors import SafetensorsStreamer, load_file, safe_open, stream

DTYPES = ["F64", "F32", "F16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL", "C64"]
NUMPY = dict(
    zip(
        DTYPES,
        ["f8", "f4", "f2", "i8", "u8", "i4", "u4", "i2", "u2", "i1", "u1", "?", "c8"],
        strict=True,
    )
)


def tensors():
    made = {}
    for number, (name, dtype) in enumerate(NUMPY.items()):
        for shape in ((), (0,), (3,), (5, 7), (2, 3, 4), (0, 5)):
            count = int(numpy.prod(shape, dtype=int))
            data = pattern(count * numpy.dtype(dtype).itemsize, number)
            if dtype == "?":
                data = bytes(byte & 1 for byte in data)
            made[f"{name}.{'x'.join(map(str, shape))}"] = (
                numpy.frombuffer(data, dtype).reshape(shape).copy()
            )
    return made


def write(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors(), path, metadata={"format": "pt", "ü": "ü"})
    return path


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable and found[name].flags.aligned


def test_equality_with_safetensors_over_every_type(file):
    wanted = safetensors.numpy.load(file.read_bytes())
    assert set(wanted) == set(tensors())
    found = load_file(file)
    same({name: found[name] for name in wanted}, wanted)
    assert set(found) == set(wanted)
    streamed = dict(stream(file))
    same({name: streamed[name] for name in wanted}, wanted)


def test_single_tensors_and_rows(file):
    wanted = tensors()
    with (
        safe_open(file) as opened,
        safetensors.safe_open(file, framework="np") as theirs,
    ):
        assert sorted(opened.keys()) == sorted(theirs.keys())
        sized = [name for name in opened.offset_keys() if wanted[name].size]
        assert sized == [name for name in theirs.offset_keys() if wanted[name].size]
        assert opened.metadata() == theirs.metadata() == {"format": "pt", "ü": "ü"}
        for name, array in wanted.items():
            same({name: opened.get_tensor(name)}, {name: array})
        part, other = opened.get_slice("F32.5x7"), theirs.get_slice("F32.5x7")
        assert part.get_shape() == other.get_shape() == [5, 7]
        assert part.get_dtype() == other.get_dtype() == "F32"
        array = wanted["F32.5x7"]
        for key in (
            slice(1, 3),
            slice(None),
            slice(None, -1),
            slice(4, 2),
            (slice(1, 4), slice(2, 5)),
            (slice(1, 4), 2),
            slice(None, None, 2),
            2,
            -1,
            (2, 3),
            (-5, slice(1, 3)),
            (),
            ...,
        ):
            assert part[key].tobytes() == array[key].tobytes(), key
        for key in (5, -6, (0, 7), (0, 0, 0)):
            with pytest.raises(IndexError):
                part[key]
        with pytest.raises(KeyError):
            opened.get_tensor("none")


def test_rows_are_read_alone(tmp_path):
    rows = numpy.frombuffer(pattern(40_000_000), "<f4").reshape(1000, 10_000)
    with SmallAistore() as store:
        store.put("bucket", "rows", safetensors.numpy.save({"rows": rows}))
        properties = {"ais.endpoint": store.endpoint}
        with safe_open("ais://bucket/rows", properties=properties) as opened:
            store.requests.clear()
            part = opened.get_slice("rows")
            assert part[10:12].tobytes() == rows[10:12].tobytes()
            assert part[-3].tobytes() == rows[-3].tobytes()
            assert part[5, 7] == rows[5, 7]
        asked = [request["range"] for request in store.requests if request["range"]]
        bounds = [text.removeprefix("bytes=").split("-") for text in asked]
        assert [int(last) - int(first) + 1 for first, last in bounds] == [80_000, 40_000, 40_000]


def test_a_tensor_without_dimensions(tmp_path):
    path = tmp_path / "scalar"
    path.write_bytes(safetensors.numpy.save({"scalar": numpy.array(3.5)}))
    with safe_open(path) as opened:
        part = opened.get_slice("scalar")
        assert part.get_shape() == [] and part[...] == part[()] == 3.5
        with pytest.raises(IndexError):
            part[:]


def test_memory_that_is_asked_for_is_not_exceeded(tmp_path):
    """What was taken is the caller's: beside it there is only what `memory` allows."""
    import tracemalloc

    size, paths = 1 << 20, [tmp_path / f"shard-{number}" for number in range(4)]
    for path in paths:
        tensors = {f"{path.name}.{number}": numpy.zeros(size, "u1") for number in range(8)}
        path.write_bytes(safetensors.numpy.save(tensors))
    del tensors
    peaks = {}
    for allowed in (1, 8):
        tracemalloc.start()
        for count, (_name, tensor) in enumerate(stream(paths, memory=allowed * size), 1):
            time.sleep(0.005)
            del tensor
        peaks[allowed] = tracemalloc.get_traced_memory()[1] / size
        tracemalloc.stop()
        assert count == 32
    # The caller's tensor, the one that is on its way to it, and a MiB for everything else.
    assert all(peak <= allowed + 3 for allowed, peak in peaks.items()), peaks


def test_addresses_may_come_from_a_generator(file):
    names = {name for name, _ in stream(file)}
    assert {name for name, _ in stream(path for path in [file])} == names


def test_types_that_numpy_lacks(tmp_path):
    path = tmp_path / "half"
    for name, size, made in (
        ("BF16", 2, ml_dtypes.bfloat16),
        ("F8_E4M3", 1, ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", 1, ml_dtypes.float8_e5m2),
        ("F8_E8M0", 1, ml_dtypes.float8_e8m0fnu),
    ):
        data = pattern(6 * size)
        table = {"t": {"dtype": name, "shape": [2, 3], "data_offsets": [0, 6 * size]}}
        path.write_bytes(write(table, data))
        found = load_file(path)["t"]
        assert found.dtype == made and found.shape == (2, 3) and found.tobytes() == data
    path.write_bytes(write({"t": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"x"))
    with pytest.raises(TypeError, match="F4"):
        load_file(path)


def test_without_ml_dtypes_the_error_says_what_to_do(tmp_path, monkeypatch):
    import sys

    path = tmp_path / "half"
    path.write_bytes(write({"t": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"xx"))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="install ml_dtypes"):
        load_file(path)


GOOD = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


def one(**changes):
    return write({"t": {**GOOD, **changes}}, b"1234")


def two(first, second, size=8):
    entries = (
        {"dtype": "U8", "shape": [offsets[1] - offsets[0]], "data_offsets": list(offsets)}
        for offsets in (first, second)
    )
    return write(dict(zip("ab", entries, strict=True)), b"x" * size)


HOSTILE = {
    "empty file": b"",
    "seven bytes": b"\x02\0\0\0\0\0\0",
    "no header": (0).to_bytes(8, "little"),
    "header of one byte": write(b"{"),
    "longer than the file": (100).to_bytes(8, "little") + b"{}",
    "100 MB and one": (100_000_001).to_bytes(8, "little") + b"{}",
    "2^63": (2**63).to_bytes(8, "little") + b"{}",
    "2^64 - 1": b"\xff" * 8 + b"{}",
    "not JSON": write(b"{nonsense}"),
    "not UTF-8": write(b'{"\xff\xfe": 1}'),
    "a list": write(b"[1, 2, 3]"),
    "begins with a space": write(b' {"__metadata__": {}}'),
    "cut short": write(b'{"t": {"dtype": "U8"'),
    "two documents": write(b"{}{}"),
    "NaN": write(b'{"t": NaN}'),
    "deeply nested": write(b'{"t":' * 100_000 + b"1" + b"}" * 100_000),
    "a huge number": write(b'{"t": ' + b"9" * 10_000 + b"}"),
    "a name twice": write(b'{"t": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "t": 1}'),
    "a field twice": write(b'{"t": {"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}'),
    "metadata is a list": write({"__metadata__": ["x"]}),
    "metadata of numbers": write({"__metadata__": {"x": 1}}),
    "a tensor is a number": write({"t": 3}),
    "a tensor is null": write({"t": None}),
    "no dtype": write({"t": {"shape": [4], "data_offsets": [0, 4]}}, b"1234"),
    "an additional field": one(stride=[1]),
    "unknown type": one(dtype="F31"),
    "type is a number": one(dtype=8),
    "type is a list": one(dtype=["U8"]),
    "shape is a number": one(shape=4),
    "negative extent": one(shape=[-4]),
    "two negative extents": one(shape=[-2, -2]),
    "fractional extent": one(shape=[4.0]),
    "extent is true": one(shape=[4, True]),
    "extent is a text": one(shape=["4"]),
    "product overflows 64 bits": one(shape=[2**32, 2**32 + 4]),
    "65 dimensions": one(shape=[4] + [1] * 64),
    "shape larger than the data": one(shape=[5]),
    "shape smaller than the data": one(shape=[3]),
    "half a byte": one(dtype="F4", shape=[7]),
    "one offset": one(data_offsets=[0]),
    "three offsets": one(data_offsets=[0, 2, 4]),
    "offsets reversed": one(data_offsets=[4, 0]),
    "negative offset": one(data_offsets=[-4, 0]),
    "offset is a fraction": one(data_offsets=[0, 4.0]),
    "offset of 2^64": one(data_offsets=[2**64, 2**64 + 4]),
    "beyond the file": one(data_offsets=[0, 5], shape=[5]),
    "before the end of the file": one(data_offsets=[0, 3], shape=[3]),
    "starts after a gap": one(data_offsets=[1, 4], shape=[3]),
    "overlap": two((0, 5), (4, 8)),
    "the same bytes": two((0, 8), (0, 8)),
    "gap between": two((0, 3), (5, 8)),
    "gap after": two((0, 3), (3, 7)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused(text, tmp_path):
    path = tmp_path / "hostile"
    path.write_bytes(text)
    for read in (load_file, safe_open, lambda path: list(stream(path))):
        with pytest.raises(HeaderError):
            read(path)


def test_there_are_40_hostile_headers_and_good_ones_are_not_refused():
    assert len(HOSTILE) >= 40
    text = json.dumps({"t": GOOD}).encode() + b"   "
    assert [tensor.name for tensor in parse(text, 8 + len(text) + 4).tensors] == ["t"]
    assert parse(b"{}", 10).tensors == ()


def test_a_header_longer_than_the_first_read(tmp_path):
    wanted = {f"{'name' * 20}{number:05}": numpy.arange(number % 7) for number in range(5000)}
    path = tmp_path / "long"
    safetensors.numpy.save_file(wanted, path)
    found = load_file(path)
    assert found.keys() == wanted.keys()
    assert all((found[name] == array).all() for name, array in wanted.items())


@pytest.fixture
def shards(tmp_path):
    wanted, paths = {}, []
    for shard in range(6):
        part = {
            f"{shard}.{number}": numpy.frombuffer(
                pattern(400_000, shard * 10 + number), "<i4"
            ).copy()
            for number in range(5)
        }
        path = tmp_path / f"shard{shard}"
        safetensors.numpy.save_file(part, path)
        wanted |= part
        paths.append(path)
    return paths, wanted


@pytest.mark.parametrize("memory", [1, 400_000, 1_000_000, 1 << 30])
def test_many_shards_within_one_budget(shards, memory, monkeypatch):
    paths, wanted = shards
    received = pget.safetensors._File.tensors
    lock, alive, most = threading.Lock(), [0], [0]

    def counted(self, group, cancel=None):
        with lock:
            alive[0] += sum(tensor.size for tensor in group)
            most[0] = max(most[0], alive[0])
        yield from received(self, group, cancel)

    monkeypatch.setattr(pget.safetensors._File, "tensors", counted)
    seen = {}
    for name, tensor in stream(paths, memory=memory):
        seen[name] = tensor
        with lock:
            # The stream has freed it before it was yielded.
            alive[0] -= tensor.nbytes
        time.sleep(0.001)
    assert seen.keys() == wanted.keys()
    assert all((seen[name] == array).all() for name, array in wanted.items())
    # Freed a moment before this test counts it: by one tensor for each.
    assert most[0] <= max(memory, 400_000) + 400_000


def test_a_stream_that_is_left_or_fails_ends_its_threads(shards):
    paths, _ = shards
    left = stream(paths, memory=500_000)
    next(left)
    left.close()
    paths[3].write_bytes(b"nonsense")
    with pytest.raises(HeaderError):
        list(stream(paths))
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("pget-safetensors")]
    with pytest.raises(ValueError):
        next(stream(paths[0], memory=0))


def test_a_shard_that_is_replaced_is_an_error():
    arrays = {str(number): numpy.full(300_000, number, "<i4") for number in range(4)}
    with SmallAistore() as store:
        store.put("bucket", "shard", safetensors.numpy.save(arrays))
        properties = {"ais.endpoint": store.endpoint}
        read = stream("ais://bucket/shard", properties=properties, memory=1, retries=1)
        name, tensor = next(read)
        assert (tensor == arrays[name]).all()
        store.put("bucket", "shard", safetensors.numpy.save({k: v + 1 for k, v in arrays.items()}))
        got = []
        with pytest.raises(pget.ObjectChangedError):
            got.extend(read)
        assert all((tensor == arrays[name]).all() for name, tensor in got)


def test_the_class_that_model_servers_call(shards):
    paths, wanted = shards
    with SafetensorsStreamer(framework="np") as streamer:
        streamer.stream_files([str(path) for path in paths], None, "cpu", False)
        metadata = streamer.files_to_tensors_metadata
        assert sum(map(len, metadata.values())) == len(wanted)
        assert {tensor.name for table in metadata.values() for tensor in table} == wanted.keys()
        found = dict(streamer.get_tensors())
        assert all((found[name] == array).all() for name, array in wanted.items())
        streamer.stream_file(str(paths[0]))
        assert len(list(streamer.get_tensors())) == 5


def test_torch(tmp_path, shards):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed: its tensors are not tested"
    )
    wanted = {name: array for name, array in tensors().items() if hasattr(torch, str(array.dtype))}
    assert len(wanted) >= 50
    path = tmp_path / "known"
    safetensors.numpy.save_file(wanted, path)
    found = load_file(path, framework="pt")
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == getattr(torch, str(array.dtype))
        assert found[name].numpy().tobytes() == array.tobytes(), name
    path.write_bytes(write({"t": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"1234"))
    half = load_file(path, framework="pt")["t"]
    assert half.dtype == torch.bfloat16
    assert half.view(torch.uint8).numpy().tobytes() == b"1234"
    with safe_open(path, framework="pt") as opened:
        assert opened.get_slice("t")[1:].view(torch.uint8).numpy().tobytes() == b"34"
    paths, wanted = shards
    with SafetensorsStreamer() as streamer:
        streamer.stream_files(paths)
        for name, tensor in streamer.get_tensors():
            assert (tensor.numpy() == wanted[name]).all()


def test_wrong_arguments(file):
    with pytest.raises(ValueError, match="framework"):
        load_file(file, framework="tf")
    with pytest.raises(ValueError, match="device"):
        load_file(file, device="cuda")
    with pytest.raises(pget.NotFoundError):
        load_file(file.with_name("none"))
