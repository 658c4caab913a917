"""From a file system of fsspec to addresses and options of pget.

``source_of`` knows the file systems that pget has a transport for. Options that it cannot express
make it say so: a read never goes with other credentials, or to another place, than the file system
itself would use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """How to read a file system's paths: a function from path to address, and options for every
    read.
    """

    address: Callable[[str], str]
    properties: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class _Unknown(Exception):
    """An option that cannot be expressed."""


# Options of fsspec itself, and of the clients' own caches and pools: without effect on what is
# read.
_IDLE = {
    "asynchronous",
    "auto_mkdir",
    "batch_size",
    "cache_regions",
    "cache_type",
    "default_block_size",
    "default_cache_type",
    "default_fill_cache",
    "fixed_upload_size",
    "listings_expiry_time",
    "local_expiry_check",
    "loop",
    "max_concurrency",
    "max_paths",
    "skip_instance_cache",
    "use_listings_cache",
}


def source_of(filesystem: Any) -> Source | str | None:
    """Returns how to read ``filesystem``; the reason if its options cannot be expressed; ``None``
    if pget has no transport for it.
    """
    protocols = filesystem.protocol
    protocols = (protocols,) if isinstance(protocols, str) else tuple(protocols)
    make = next((_MAKERS[protocol] for protocol in protocols if protocol in _MAKERS), None)
    if make is None:
        return None
    options = {
        name: value
        for name, value in filesystem.storage_options.items()
        if name not in _IDLE and value not in (None, False, "", {})
    }
    if getattr(filesystem, "storage_args", ()):
        return "it has positional options"
    try:
        source = make(options)
    except _Unknown as error:
        return str(error)
    if options:
        return f"it has the option {', '.join(sorted(options))}"
    return source


def _object(scheme: str) -> Callable[[str], str]:
    def address(path: str) -> str:
        bucket, _, key = path.partition("/")
        return f"{scheme}://{bucket}/{quote(key)}"

    return address


def _local(_options: dict[str, Any]) -> Source:
    return Source(str)


def _s3(options: dict[str, Any]) -> Source:
    properties = {}
    for name, also, setting in (
        ("key", "username", "access_key_id"),
        ("secret", "password", "secret_access_key"),
        ("token", "", "session_token"),
        ("endpoint_url", "", "endpoint_url"),
        ("profile", "", "profile"),
    ):
        value = options.pop(name, None) or options.pop(also, None)
        if value is not None:
            properties[f"aws.{setting}"] = str(value)
    client = dict(options.pop("client_kwargs", {}))
    for name, setting in (("region_name", "region"), ("endpoint_url", "endpoint_url")):
        if client.get(name) is not None:
            properties[f"aws.{setting}"] = str(client[name])
        client.pop(name, None)
    if client:
        raise _Unknown(f"its client_kwargs have {', '.join(sorted(client))}")
    options.pop("use_ssl", None)
    if options.pop("anon", False):
        properties["aws.skip_signature"] = "true"
    if options.pop("requester_pays", False):
        properties["aws.request_payer"] = "requester"
    return Source(_object("s3"), properties)


def _google(options: dict[str, Any]) -> Source:
    properties = {}
    token = options.pop("token", "google_default")
    if token == "anon":
        properties["google.skip_signature"] = "true"
    elif token != "google_default":
        raise _Unknown("its token is not google_default or anon")
    for name in ("project", "access", "consistency", "default_location", "timeout"):
        options.pop(name, None)
    return Source(_object("gs"), properties)


def _azure(options: dict[str, Any]) -> Source:
    properties = {}
    for name, setting in (
        ("account_name", "storage_account"),
        ("account_key", "storage_key"),
        ("sas_token", "storage_sas_token"),
        ("connection_string", "storage_connection_string"),
        ("tenant_id", "tenant_id"),
        ("client_id", "client_id"),
        ("client_secret", "client_secret"),
    ):
        if (value := options.pop(name, None)) is not None:
            properties[f"azure.{setting}"] = str(value)
    if options.pop("anon", False):
        properties["azure.skip_signature"] = "true"
    return Source(_object("az"), properties)


def _http(options: dict[str, Any]) -> Source:
    headers = dict(options.pop("headers", {}))
    client = dict(options.pop("client_kwargs", {}))
    headers |= client.pop("headers", {})
    if client:
        raise _Unknown(f"its client_kwargs have {', '.join(sorted(client))}")
    for name in ("simple_links", "same_scheme", "size_policy", "block_size", "cache_options"):
        options.pop(name, None)
    return Source(str, headers={str(name): str(value) for name, value in headers.items()})


_MAKERS: dict[str, Callable[[dict[str, Any]], Source]] = {
    "abfs": _azure,
    "az": _azure,
    "file": _local,
    "gcs": _google,
    "gs": _google,
    "http": _http,
    "https": _http,
    "local": _local,
    "s3": _s3,
    "s3a": _s3,
}
