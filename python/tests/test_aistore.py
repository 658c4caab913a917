"""AIStore's own SDK reading through pget: the promises of its parallel reader, and those of
pget."""

import multiprocessing
import os
import pickle
import threading
import warnings
from multiprocessing import shared_memory

import pytest
import requests
from aistore.sdk import Client
from aistore.sdk.archive_config import ArchiveConfig
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound
from aistore.sdk.namespace import Namespace
from aistore.sdk.obj import object_reader
from aistore.sdk.obj.content_iterator import (
    BaseContentIterProvider,
    ContentIterProvider,
    ParallelBuffer,
    StreamBounds,
)
from aistore.sdk.obj.content_iterator import ParallelContentIterProvider as SdkProvider
from aistore.sdk.obj.obj_file.errors import ObjectFileReaderMaxResumeError
from aistore.sdk.obj.obj_file.stream import STREAM_ERRORS
from conftest import FULL, pattern
from small_aistore import SmallAistore

import pget
import pget.aistore

SIZE = 1_000_003
CHUNK = 100_000
OLD, NEW = pattern(SIZE, 1), pattern(SIZE, 2)


@pytest.fixture
def store():
    with SmallAistore() as store:
        store.put("bucket", "object", OLD)
        yield store


@pytest.fixture
def obj(store):
    with pget.aistore.installed(retry_timeout=2, retries=1):
        yield Client(store.endpoint).bucket("bucket").object("object")


@pytest.fixture
def segments(monkeypatch):
    """Returns a function that lists those segments of shared memory of this test that still
    exist."""
    made = []

    def make(**options):
        made.append(shared_memory.SharedMemory(**options))
        return made[-1]

    monkeypatch.setattr(pget.aistore, "SharedMemory", make)
    return lambda: [one.name for one in made if os.path.exists(f"/dev/shm/{one.name}")]


def test_all_ways_to_read_give_the_objects_bytes(obj, segments):
    reader = obj.get_reader(chunk_size=CHUNK, num_workers=4)
    provider = reader._content_provider
    assert isinstance(provider, pget.aistore.ParallelContentIterProvider)
    assert isinstance(provider, SdkProvider) and isinstance(provider, BaseContentIterProvider)
    pieces = list(reader)
    assert b"".join(pieces) == OLD and all(isinstance(piece, bytes) for piece in pieces)
    assert [len(piece) for piece in pieces] == [CHUNK] * 10 + [3]
    with reader.read_all() as whole:
        assert isinstance(whole, ParallelBuffer) and len(whole) == SIZE
        assert whole.tobytes() == OLD and bytes(whole.buf) == OLD
        assert segments() == [whole.name]
    whole.close()
    with pytest.raises(ValueError):
        bytes(whole.buf)
    file = reader.as_file()
    assert file.read(CHUNK + 7) == OLD[: CHUNK + 7] and file.read() == OLD[CHUNK + 7 :]
    assert file.read() == b""
    assert not segments() and not multiprocessing.active_children()


def test_offsets_and_bounds(obj):
    provider = obj.get_reader(chunk_size=CHUNK, num_workers=4)._content_provider
    for offset in (0, 1, CHUNK, CHUNK + 7, SIZE - 1):
        bounds = StreamBounds()
        assert b"".join(provider.create_iter(offset, bounds)) == OLD[offset:]
        assert (bounds.start, bounds.expected_end) == (offset, SIZE)
    assert list(provider.create_iter(SIZE)) == list(provider.create_iter(SIZE + 5)) == []
    unread = provider.create_iter()
    unread.close()
    left = provider.create_iter()
    next(left)
    left.close()


def test_the_size_is_asked_for_once_and_an_empty_object_is_refused(store, obj):
    reader = obj.get_reader(chunk_size=CHUNK, num_workers=2)
    assert [request["method"] for request in store.requests] == ["HEAD"]
    assert reader._content_provider.num_workers == 2
    store.put("bucket", "empty", b"")
    with pytest.raises(ValueError):
        Client(store.endpoint).bucket("bucket").object("empty").get_reader(num_workers=2)
    for wrong in (0, -1, 1):
        with pytest.raises(ValueError):
            obj.get_reader(num_workers=wrong)


@pytest.mark.parametrize("chunk, expected", [(None, [SIZE]), (300_000, [300_000] * 3 + [100_003])])
def test_the_chunk_is_the_servers_or_8_mib(store, obj, chunk, expected):
    store.chunk = chunk
    assert [len(piece) for piece in obj.get_reader(num_workers=4)] == expected


def test_many_workers_ask_for_short_ranges_and_yield_whole_pieces(store, obj):
    data = pattern(20_000_000, 3)
    store.put("bucket", "large", data)
    large = Client(store.endpoint).bucket("bucket").object("large")
    for workers, chunk, wanted in ((4, None, 8), (16, None, 4), (32, None, 2), (32, 8 << 20, 8)):
        store.requests.clear()
        pieces = list(large.get_reader(chunk_size=chunk, num_workers=workers))
        assert [len(piece) for piece in pieces] == [8 << 20, 8 << 20, 20_000_000 - (16 << 20)]
        assert b"".join(pieces) == data
        asked = [request["range"] for request in store.requests if request["range"]]
        bounds = [text.removeprefix("bytes=").split("-") for text in asked]
        assert max(int(last) - int(first) + 1 for first, last in bounds) == wanted << 20


def test_names_are_quoted_by_the_sdk_and_literal_for_pget(store, obj):
    bucket = Client(store.endpoint).bucket("bucket")
    for name in ("a b/ü%41?x=1#frag&+~", "%2e", "//slash//"):
        store.put("bucket", name, name.encode() * 1000)
        assert b"".join(bucket.object(name).get_reader(num_workers=2)) == name.encode() * 1000


def test_the_bucket_and_the_clients_settings_go_with_the_read(tmp_path, monkeypatch):
    bundle = tmp_path / "roots.pem"
    bundle.write_text("")
    client = Client("http://host:1/", token="t", timeout=(1.5, None), ca_cert=str(bundle))
    bucket = client.bucket("b", "aws", Namespace(uuid="alias", name="name"))
    url, options = pget.aistore._source(bucket.object("a/b").get_reader()._object_client)
    assert url == "ais://@alias#name/b/a/b"
    assert options["properties"] == {
        "ais.provider": "aws",
        "ais.endpoint": "http://host:1",
        "ais.token": "t",
        "ais.skip_verify_crt": "false",
        "ais.client_ca": str(bundle),
        "ais.crt": "",
        "ais.crt_key": "",
    }
    assert options["connect_timeout"] == 1.5 and options["stall_timeout"] == 86_400
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.warns(UserWarning, match="insecure"):
        client = Client("https://host", skip_verify=True, client_cert=("c", "k"), timeout=7)
    reader = client.bucket("b").object("o").get_reader(latest=True)
    _, options = pget.aistore._source(reader._object_client)
    properties = options["properties"]
    assert properties["ais.skip_verify_crt"] == "true" and properties["ais.latest"] == "true"
    assert (properties["ais.crt"], properties["ais.crt_key"]) == ("c", "k")
    assert properties["ais.client_ca"] == "" and options["connect_timeout"] == 7
    client = Client("https://host", client_cert="both")
    _, options = pget.aistore._source(client.bucket("b").object("o").get_reader()._object_client)
    properties = options["properties"]
    assert properties["ais.crt"] == properties["ais.crt_key"] == "both"
    assert properties["ais.client_ca"] == str(bundle)


def test_the_token_is_that_of_the_moment(store):
    store.token = "first"
    client = Client(store.endpoint, token="first")
    with pget.aistore.installed(retries=0):
        reader = client.bucket("bucket").object("object").get_reader(num_workers=2)
        assert b"".join(reader) == OLD
        store.token = "second"
        with pytest.raises(AISError):
            b"".join(reader)
        reader._object_client._request_client.token = "second"
        assert b"".join(reader) == OLD


def test_errors_are_those_that_the_sdks_users_catch(store, obj, segments):
    reader = obj.get_reader(chunk_size=CHUNK, num_workers=4)
    del store.objects["bucket", "object"]
    store.put("bucket", "other", b"x")
    for read in (lambda: list(reader), reader.read_all):
        with pytest.raises(ErrObjNotFound) as caught:
            read()
        assert caught.value.status_code == 404
        assert isinstance(caught.value.__cause__, pget.NotFoundError)
    store.objects.clear()
    with pytest.raises(ErrBckNotFound):
        list(reader)
    store.put("bucket", "object", OLD)
    for status, kind in ((403, AISError), (503, requests.ConnectionError), (0, Exception)):
        reader = obj.get_reader(chunk_size=CHUNK, num_workers=4)
        store.before_get = lambda request, status=status: status
        for read in (lambda: list(reader), reader.read_all):
            with pytest.raises(kind) as caught:
                read()
        assert not segments(), "a failed read_all leaves no shared memory"
        store.before_get = lambda request: None


def test_all_bytes_before_a_lasting_failure_come_first(store):
    """Retries wait for the missing range; what is before it is read meanwhile."""
    broken = 6 * CHUNK
    store.before_get = lambda request: (
        503 if int(request["range"].removeprefix("bytes=").partition("-")[0]) >= broken else None
    )
    with pget.aistore.installed(retry_timeout=2):
        obj = Client(store.endpoint).bucket("bucket").object("object")
        pieces = []
        with pytest.raises(requests.ConnectionError):
            for piece in obj.get_reader(chunk_size=CHUNK, num_workers=4):
                pieces.append(piece)
    assert b"".join(pieces) == OLD[:broken]


def test_a_refused_login_keeps_its_status(store, obj):
    reader = obj.get_reader(chunk_size=CHUNK, num_workers=2)
    store.token = "another"
    with pytest.raises(AISError) as caught:
        list(reader)
    assert caught.value.status_code == 401


def test_more_workers_than_pget_has_requests(store, obj):
    for name, data in (("object", OLD), ("one", b"1")):
        store.put("bucket", name, data)
        reader = Client(store.endpoint).bucket("bucket").object(name).get_reader(num_workers=5000)
        assert b"".join(reader) == data
        with reader.read_all() as whole:
            assert whole.tobytes() == data


def test_silence_is_a_read_timeout(store):
    wait = threading.Event()
    with pget.aistore.installed(retries=0, retry_timeout=1):
        client = Client(store.endpoint, timeout=(1, 0.3))
        reader = client.bucket("bucket").object("object").get_reader(num_workers=2)
        store.before_get = lambda request: wait.wait(20) and None
        try:
            with pytest.raises(requests.ReadTimeout):
                list(reader)
        finally:
            wait.set()


def test_as_file_resumes_after_an_outage(store, obj):
    """The SDK's file opens its stream again where it was."""
    calls = []

    def fail_twice(request):
        calls.append(request["range"])
        return 503 if 3 <= len(calls) <= 12 else None

    store.before_get = fail_twice
    file = obj.get_reader(chunk_size=CHUNK, num_workers=2).as_file(max_resume=20)
    assert file.read() == OLD
    assert file._stream.resumes > 0


def test_a_replaced_object_is_never_spliced(store, obj):
    """Whatever the moment of the change: one revision, or an error that nothing resumes after."""
    assert not issubclass(pget.ObjectChangedError, STREAM_ERRORS)
    outcomes = {"old": 0, "new": 0, "changed": 0}
    number = 0
    for other in (NEW, NEW[:-1], NEW + b"1") * (38 if FULL else 1):
        for way in ("iterate", "read_all", "as_file"):
            for moment in range(9):
                number += 1
                store.put("bucket", "object", OLD)
                count = [0]

                def change(request, count=count, moment=moment, other=other):
                    count[0] += 1
                    if count[0] == moment:
                        store.put("bucket", "object", other)

                store.before_get = change
                reader = obj.get_reader(chunk_size=CHUNK, num_workers=3)
                try:
                    if way == "iterate":
                        got = b"".join(reader)
                    elif way == "read_all":
                        with reader.read_all() as whole:
                            got = whole.tobytes()
                    else:
                        got = reader.as_file().read()
                except pget.ObjectChangedError as error:
                    assert error.errno and "ais://bucket/object" in str(error.filename)
                    outcomes["changed"] += 1
                    continue
                assert got in (OLD, other), (way, moment)
                outcomes["old" if got == OLD else "new"] += 1
    assert sum(outcomes.values()) == number and all(outcomes.values()), outcomes


def test_a_reader_is_of_one_revision_also_when_the_file_resumes(store, obj):
    """An outage and a replacement in the middle of a file: the rest is not of the other object."""
    provider = obj.get_reader(chunk_size=CHUNK, num_workers=2)._content_provider
    stream = provider.create_iter()
    assert next(stream) == OLD[:CHUNK]
    stream.close()
    store.put("bucket", "object", NEW)
    with pytest.raises(pget.ObjectChangedError):
        list(provider.create_iter(offset=CHUNK))
    with pytest.raises(pget.ObjectChangedError):
        provider.read_all()


def test_what_pget_does_not_read_goes_to_the_sdk_with_one_warning(store, obj):
    pget.aistore._warned.clear()
    with pytest.warns(RuntimeWarning, match="archpath") as seen:
        config = ArchiveConfig(archpath="inner")
        reader = obj.get_reader(archive_config=config, num_workers=2)
        again = obj.get_reader(archive_config=config, num_workers=2)
    assert len(seen) == 1
    assert type(reader._content_provider) is type(again._content_provider) is SdkProvider
    assert type(obj.get_reader()._content_provider) is ContentIterProvider
    client = obj.get_reader()._object_client
    client._request_headers = {"ais-blob-download": "true"}
    with pytest.warns(RuntimeWarning, match="ais-blob-download"):
        assert type(pget.aistore.ParallelContentIterProvider(client, None, 2)) is SdkProvider
    control = Client(store.endpoint).bucket("bucket").object("new\nline").get_reader()
    store.put("bucket", "new\nline", OLD)
    with pytest.warns(RuntimeWarning, match="control characters"):
        made = pget.aistore.ParallelContentIterProvider(control._object_client, None, 2)
    assert type(made) is SdkProvider and b"".join(made.create_iter()) == OLD
    client._request_headers, client._uname = {}, "ais/@#/bucket/object"
    with pytest.warns(RuntimeWarning, match="direct"):
        assert type(pget.aistore.ParallelContentIterProvider(client, None, 2)) is SdkProvider


def test_install_and_uninstall(store):
    assert object_reader.ParallelContentIterProvider is SdkProvider
    obj = Client(store.endpoint).bucket("bucket").object("object")
    pget.aistore.install()
    pget.aistore.install(chunk_size=70_000)
    try:
        provider = obj.get_reader(chunk_size=CHUNK, num_workers=2)._content_provider
        assert type(provider) is pget.aistore.ParallelContentIterProvider
        store.requests.clear()
        assert b"".join(provider.create_iter()) == OLD
        lengths = {
            int(last) - int(first) + 1
            for request in store.requests
            if request["range"] and request["range"][-1] != "-"
            for first, last in [request["range"].removeprefix("bytes=").split("-")]
        }
        assert max(lengths) == 70_000, "options of install go before the SDK's"
    finally:
        pget.aistore.uninstall()
        pget.aistore.uninstall()
    assert object_reader.ParallelContentIterProvider is SdkProvider
    with pget.aistore.installed(), pget.aistore.installed():
        pass
    assert object_reader.ParallelContentIterProvider is SdkProvider
    reader = pget.aistore.reader(obj, 4, chunk_size=CHUNK)
    assert [len(piece) for piece in reader][:2] == [CHUNK, CHUNK]
    assert object_reader.ParallelContentIterProvider is SdkProvider


def test_another_major_version_is_refused(monkeypatch):
    monkeypatch.setattr(pget.aistore, "version", lambda name: "3.0.0")
    with pytest.raises(RuntimeError, match="aistore>=2,<3"):
        pget.aistore.install()
    assert object_reader.ParallelContentIterProvider is SdkProvider


def read_by_sdk(provider):
    return b"".join(provider.create_iter()) == OLD


def test_providers_go_to_forked_and_daemonic_workers(obj):
    """The SDK's own provider cannot start its workers in a daemonic process."""
    provider = obj.get_reader(chunk_size=CHUNK, num_workers=2)._content_provider
    assert read_by_sdk(provider)
    assert read_by_sdk(pickle.loads(pickle.dumps(provider)))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(read_by_sdk, [provider] * 4))


def test_too_little_shared_memory_is_an_error(monkeypatch, obj, segments):
    reader = obj.get_reader(num_workers=2)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        reader.read_all()
    assert not segments()


def test_the_repositorys_stand_in(servers, good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obj = Client(servers.aistore).bucket("bucket").object("good")
        reader = pget.aistore.reader(obj, 8, chunk_size=1 << 20)
        assert b"".join(reader) == good
        with reader.read_all() as whole:
            assert whole.tobytes() == good


def test_too_many_resumes(store, obj):
    reader = obj.get_reader(chunk_size=CHUNK, num_workers=2)
    store.before_get = lambda request: 503
    with pytest.raises(ObjectFileReaderMaxResumeError):
        reader.as_file(max_resume=1).read()
