"""ONNX files without the onnx package: the few messages of onnx.proto that a model needs, in protobuf's wire format.

The same model gives the same bytes, and writing one needs nothing installed. Numbers of fields are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FLOAT, INT64 = 1, 7
"""Codes of element types."""

IR_VERSION, OPSET = 8, 13
QUANT_DOMAIN = "qonnx.custom_op.general"

Attribute = int | float | str | Sequence[int]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _real(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + np.float32(value).tobytes()


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _int(20, 3)
    if isinstance(value, float):
        return _text(1, name) + _real(2, value) + _int(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _int(3, value) + _int(20, 2)
    return _text(1, name) + b"".join(_int(8, int(item)) for item in value) + _int(20, 7)


def node(op: str, inputs: Iterable[str], output: str, attributes: Mapping[str, Attribute], domain: str, doc: str) -> bytes:
    """A NodeProto with one output, named after it."""
    parts = [_text(1, name) for name in inputs] + [_text(2, output), _text(3, output), _text(4, op)]
    parts += [_bytes(5, _attribute(name, attributes[name])) for name in sorted(attributes)]
    return b"".join(parts) + (_text(6, doc) if doc else b"") + (_text(7, domain) if domain else b"")


def tensor(name: str, values: NDArray) -> bytes:
    """A TensorProto of float32 or int64 numbers."""
    code, kind = (INT64, "<i8") if values.dtype.kind == "i" else (FLOAT, "<f4")
    dims = b"".join(_int(1, size) for size in values.shape)
    return dims + _int(2, code) + _text(8, name) + _bytes(9, np.ascontiguousarray(values, kind).tobytes())


def value_info(name: str, shape: Sequence[int], code: int = FLOAT) -> bytes:
    """A ValueInfoProto."""
    dims = b"".join(_bytes(1, _int(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, code) + _bytes(2, dims)))


@dataclass
class Model:
    """A model under construction: messages in the order of their fields."""

    name: str
    nodes: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    infos: list[bytes] = field(default_factory=list)

    def serialize(self, producer: str, version: str) -> bytes:
        """The ModelProto."""
        graph = b"".join(_bytes(1, part) for part in self.nodes) + _text(2, self.name)
        for number, parts in ((5, self.tensors), (11, self.inputs), (12, self.outputs), (13, self.infos)):
            graph += b"".join(_bytes(number, part) for part in parts)
        opsets = b"".join(_bytes(8, _text(1, domain) + _int(2, number)) for domain, number in (("", OPSET), (QUANT_DOMAIN, 1)))
        return _int(1, IR_VERSION) + _text(2, producer) + _text(3, version) + _bytes(7, graph) + opsets
