"""The header of a safetensors file: read, and checked before a byte of it is believed.

Format: eight bytes, the header's length, little endian; the header in JSON; the tensors' bytes.
Invariant: what ``parse`` returns covers the rest of the file exactly, each byte once, and every
tensor has the bytes that its type and shape need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["BITS", "LARGEST", "Header", "HeaderError", "TensorInfo", "length_of", "parse"]

LARGEST: Final = 100_000_000
"""Bytes of a header, at most; as safetensors itself has it."""

_LARGEST_SIZE: Final = 2**63 - 1
_MOST_DIMENSIONS: Final = 64

BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one item of each type."""


class HeaderError(ValueError):
    """The file is not one of safetensors, or is damaged."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its name, the format's name of its type, its shape, its bytes in the file (end
    exclusive).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors in the order of their bytes, and the free text of the file."""

    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str] | None


def length_of(first: bytes, size: int) -> int:
    """Returns the length of the header, of a file of ``size`` bytes that begins with ``first``.

    Raises:
        HeaderError: There is no such header.
    """
    if len(first) < 8:
        raise HeaderError(f"the file has {size} bytes, too few for a header")
    length = int.from_bytes(first[:8], "little")
    if length > LARGEST:
        raise HeaderError(f"the header has {length} bytes; at most {LARGEST} are allowed")
    if length < 2 or length > size - 8:
        raise HeaderError(f"the header has {length} bytes, in a file of {size}")
    return length


def parse(text: bytes, size: int) -> Header:
    """Returns the header ``text`` of a file of ``size`` bytes.

    Raises:
        HeaderError: It is not valid.
    """
    if not text.startswith(b"{"):
        raise HeaderError("the header does not begin with {")
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except HeaderError:
        raise
    except RecursionError:
        raise HeaderError("the header is nested too deeply") from None
    except ValueError as error:
        raise HeaderError(f"the header is not JSON in UTF-8: {error}") from None
    metadata = table.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise HeaderError("__metadata__ does not map text to text")
    data = 8 + len(text)
    tensors = sorted(
        (_tensor(name, entry, data) for name, entry in table.items()),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    at = data
    for tensor in tensors:
        if tensor.start != at:
            what = "overlaps with" if tensor.start < at else "leaves a gap after"
            raise HeaderError(f"the tensor {tensor.name!r} {what} what is before it")
        at = tensor.end
    if at != size:
        raise HeaderError(f"the tensors end at byte {at}, the file at {size}")
    return Header(tuple(tensors), metadata)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise HeaderError("a name occurs twice in the header")
    return table


def _refuse(constant: str) -> Any:
    raise HeaderError(f"{constant} is not JSON")


def _number(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_SIZE:
        raise HeaderError(f"the tensor {name!r} has a number that is not 0 to {_LARGEST_SIZE}")
    return value


def _tensor(name: str, entry: object, data: int) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(
            f"the tensor {name!r} does not have exactly dtype, shape and data_offsets"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(f"the tensor {name!r} has a type that is not known")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise HeaderError(
            f"the tensor {name!r} has no list of at most {_MOST_DIMENSIONS} numbers as its shape"
        )
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise HeaderError(f"the tensor {name!r} has no two data_offsets")
    start, end = (_number(name, offset) for offset in offsets)
    if start > end:
        raise HeaderError(f"the tensor {name!r} ends before it begins")
    bits = BITS[dtype]
    for extent in shape:
        bits *= _number(name, extent)
    if bits != 8 * (end - start):
        raise HeaderError(
            f"the tensor {name!r} has {end - start} bytes; its type and shape need {bits / 8:g}"
        )
    return TensorInfo(name, dtype, tuple(shape), data + start, data + end)
