"""WebDataset's shards through pget.

``install`` registers pget for the schemes of addresses that WebDataset's ``gopen`` opens::

    pget.webdataset.install("ais", "s3")
    dataset = webdataset.WebDataset("ais://shards/train-{000000..000146}.tar")
"""

from __future__ import annotations

from typing import Any, Unpack

from ._client import Client
from ._reader import Reader
from ._settings import Options

__all__ = ["Open", "install"]


class Open:
    """Opens one shard; picklable, so that workers that are spawned have it, too."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, url: str, mode: str = "rb", bufsize: int = 8192, **_options: Any) -> Reader:
        """Returns a reader of the object at ``url``.

        Raises:
            ValueError: ``mode`` is not ``"rb"``.
        """
        if mode != "rb":
            raise ValueError(f"pget reads only: the mode must be 'rb', not {mode!r}")
        return self._client.open(url)


def install(*schemes: str, **options: Unpack[Options]) -> None:
    """Makes ``webdataset.gopen`` open addresses of these schemes through pget; ``ais`` if none is
    named.

    Args:
        schemes: As ``"s3"``; a handler that is registered for one is replaced.
        options: See ``pget.Options``.
    """
    from webdataset.gopen import gopen_schemes

    opened = Open(Client(**options))
    for scheme in schemes or ("ais",):
        gopen_schemes[scheme] = opened
