"""fsspec's own tests of file systems, over `pget` around memory and around local files."""

import os

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.tests import abstract

from pget.fsspec import PgetFileSystem


class OverMemory(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self):
        inner = MemoryFileSystem()
        inner.store.clear()
        inner.pseudo_dirs[:] = [""]
        yield PgetFileSystem(inner)
        inner.store.clear()
        inner.pseudo_dirs[:] = [""]

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self):
        return ""


class OverFiles(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self):
        return PgetFileSystem(target_protocol="file", target_options={"auto_mkdir": True})

    @pytest.fixture
    def fs_path(self, tmpdir):
        return os.fspath(tmpdir)


class OverS3(abstract.AbstractFixtures):
    """Around s3fs at versitygw; s3fs is not among the packages that CI installs.

    There are no tests of "open": s3fs itself checks mode "xb" when the file is closed.
    """

    @pytest.fixture
    def fs(self, servers):
        s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: S3 is not tested")
        if servers.s3 is None:
            pytest.skip("versitygw is not installed: S3 is not tested")
        endpoint, key, secret, region, _bucket = servers.s3
        inner = s3fs.S3FileSystem(
            key=key,
            secret=secret,
            endpoint_url=endpoint,
            client_kwargs={"region_name": region},
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        fs = PgetFileSystem(inner)
        assert fs._source is not None, "pget reads it"
        return fs

    @pytest.fixture
    def fs_path(self, servers, tmp_path):
        return f"{servers.s3[4]}/{tmp_path.name}"

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestMemoryGet(OverMemory, abstract.AbstractGetTests):
    pass


class TestMemoryPut(OverMemory, abstract.AbstractPutTests):
    pass


class TestMemoryCopy(OverMemory, abstract.AbstractCopyTests):
    pass


class TestMemoryOpen(OverMemory, abstract.AbstractOpenTests):
    pass


class TestMemoryPipe(OverMemory, abstract.AbstractPipeTests):
    pass


class TestFilesGet(OverFiles, abstract.AbstractGetTests):
    pass


class TestFilesPut(OverFiles, abstract.AbstractPutTests):
    pass


class TestFilesCopy(OverFiles, abstract.AbstractCopyTests):
    pass


class TestFilesOpen(OverFiles, abstract.AbstractOpenTests):
    pass


class TestFilesPipe(OverFiles, abstract.AbstractPipeTests):
    pass


class TestS3Get(OverS3, abstract.AbstractGetTests):
    pass


class TestS3Put(OverS3, abstract.AbstractPutTests):
    pass


class TestS3Copy(OverS3, abstract.AbstractCopyTests):
    pass


class TestS3Pipe(OverS3, abstract.AbstractPipeTests):
    pass
