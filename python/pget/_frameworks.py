"""Where tensors are received: memory of numpy or of torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from ._safetensors_header import BITS

__all__ = ["Framework", "framework_of"]


class Framework(ABC):
    """Makes tensors to receive into."""

    @abstractmethod
    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        """Returns a tensor of the format's type ``dtype``, its content unspecified."""

    @abstractmethod
    def buffer(self, tensor: Any) -> Any:
        """Returns the tensor's memory as a writable buffer of bytes."""

    def finished(self, tensor: Any) -> Any:
        """Returns the tensor where the caller wants it, once it has its bytes."""
        return tensor


def framework_of(name: str, device: str = "cpu") -> Framework:
    """Returns numpy (``np``, ``numpy``) or torch (``pt``, ``torch``, ``pytorch``).

    Raises:
        ValueError: Any other name, or a device with numpy.
    """
    if name in ("np", "numpy"):
        if device != "cpu":
            raise ValueError(f"numpy has no device {device!r}")
        return _Numpy()
    if name in ("pt", "torch", "pytorch"):
        return _Torch(device)
    raise ValueError(f"framework must be 'np' or 'pt', not {name!r}")


class _Numpy(Framework):
    _NAMES = {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
        "C64": "<c8",
    }
    _ML = {
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2": "float8_e5m2",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
    }

    def _dtype(self, dtype: str) -> Any:
        import numpy

        if (name := self._NAMES.get(dtype)) is not None:
            return numpy.dtype(name)
        if (name := self._ML.get(dtype)) is not None:
            try:
                import ml_dtypes
            except ImportError:
                raise TypeError(
                    f"numpy has no {dtype}: install ml_dtypes, or use framework='pt'"
                ) from None
            return numpy.dtype(getattr(ml_dtypes, name))
        raise TypeError(f"numpy has no {dtype}")

    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        import numpy

        return numpy.empty(shape, self._dtype(dtype))

    def buffer(self, tensor: Any) -> Any:
        # A type of ml_dtypes has no format of the buffer protocol.
        return tensor.reshape(-1).view("u1")


class _Torch(Framework):
    _NAMES = {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "U16": "uint16",
        "I16": "int16",
        "F16": "float16",
        "BF16": "bfloat16",
        "U32": "uint32",
        "I32": "int32",
        "F32": "float32",
        "U64": "uint64",
        "I64": "int64",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2": "float8_e5m2",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
    }

    def __init__(self, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._device = device

    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        made = getattr(self._torch, self._NAMES.get(dtype, ""), None)
        if made is None:
            raise TypeError(f"this torch has no {dtype}")
        # Memory of torch's, aligned as torch wants it; its bytes are viewed as the type in the end.
        count = math.prod(shape) * BITS[dtype] // 8
        return self._torch.empty(count, dtype=self._torch.uint8).view(made).reshape(shape)

    def buffer(self, tensor: Any) -> Any:
        return tensor.reshape(-1).view(self._torch.uint8).numpy()

    def finished(self, tensor: Any) -> Any:
        return tensor if self._device == "cpu" else tensor.to(self._device)
