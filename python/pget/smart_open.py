"""A transport of smart_open: ``smart_open.open("ais://bucket/object.csv.gz")``.

``register`` adds it; options of pget are ``transport_params``::

    pget.smart_open.register()
    smart_open.open("ais://bucket/lines", transport_params={"concurrency": 16})
"""

from __future__ import annotations

from typing import Any, Unpack

from ._client import Client
from ._reader import Reader
from ._settings import Options

__all__ = ["SCHEMES", "open", "open_uri", "parse_uri", "register"]

SCHEMES = ("ais",)


def register() -> None:
    """Registers the transport; again without effect."""
    from smart_open import transport

    if transport._REGISTRY.get(SCHEMES[0]) is None:
        import sys

        transport.register_transport(sys.modules[__name__])


def parse_uri(uri_as_string: str) -> dict[str, str]:
    """Returns scheme and address."""
    return {"scheme": uri_as_string.partition("://")[0], "uri_path": uri_as_string}


def open_uri(uri: str, mode: str, transport_params: dict[str, Any]) -> Reader:
    """Returns a reader of the object at ``uri``."""
    return open(uri, mode, **transport_params)


def open(uri: str, mode: str = "rb", **options: Unpack[Options]) -> Reader:
    """Returns a reader of the object at ``uri``.

    Raises:
        NotImplementedError: ``mode`` is not ``"rb"``.
    """
    if mode != "rb":
        raise NotImplementedError(f"pget reads only: the mode must be 'rb', not {mode!r}")
    return Client(**options).open(uri)
